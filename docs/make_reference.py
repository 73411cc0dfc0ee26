"""Write docs/reference/python.md from the faces and their docstrings: `python docs/make_reference.py`."""

import ast
import importlib
import inspect
from itertools import pairwise
from pathlib import Path

FLOORS = ["data", "train", "model", "compress", "serve", "watch", "flow", "store", "runtime", "base"]
TARGET = Path(__file__).parent / "reference" / "python.md"


def main() -> None:
    """Write the page."""
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(page(), encoding="utf-8")


def page() -> str:
    """Every public name with the first sentence of its docstring; `help(name)` has the rest."""
    head = (
        "# Python reference\n\nMade from the docstrings by `python docs/make_reference.py`. "
        "In Python, `help(shoal.data.ingest)` has the rest: arguments, units, errors and sources.\n"
    )
    parts = [head]
    for floor in FLOORS:
        module = importlib.import_module(f"shoal.{floor}")
        parts.append(f"## shoal.{floor}\n\n{_first_line(module)}\n\n| name | what it is |\n| --- | --- |")
        parts.extend(_row(module, name) for name in sorted(module.__all__, key=str.lower))
        parts.append("")
    return "\n".join(parts)


def _row(module: object, name: str) -> str:
    value = getattr(module, name)
    text = _first_line(value) if inspect.isroutine(value) or inspect.isclass(value) else _constant_line(module, name)
    return f"| `{name}` | {text} |"


def _first_line(value: object) -> str:
    return (inspect.getdoc(value) or "").partition("\n")[0].replace("|", "\\|")


def _constant_line(module: object, name: str) -> str:
    if inspect.ismodule(value := getattr(module, name)):
        return _first_line(value)
    # A type or a constant has no docstring of its own: the text below its assignment is its description.
    source = Path(inspect.getsourcefile(module) or "").parent
    for path in sorted(source.glob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for node, after in pairwise(body):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
            if any(getattr(target, "id", "") == name for target in targets) and isinstance(after, ast.Expr):
                return str(ast.literal_eval(after.value)).strip().partition("\n")[0]
    return "a type, see the source"


if __name__ == "__main__":
    main()
