"""What the house checks look at: every module of shoal, parsed once."""

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Module:
    name: str
    path: Path
    tree: ast.Module
    num_lines: int

    @property
    def floor(self) -> str:
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    @property
    def is_face(self) -> bool:
        return self.path.name == "__init__.py"

    def imports(self) -> set[str]:
        """Names of shoal modules imported anywhere in the file: in functions and for types too."""
        found: set[str] = set()
        package = self.name if self.is_face else self.name.rpartition(".")[0]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parts = package.split(".")
                    base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
                found.add(base)
                found |= {f"{base}.{alias.name}" for alias in node.names}
        return {name for name in found if name == "shoal" or name.startswith("shoal.")}


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def modules() -> dict[str, Module]:
    found = {}
    for path in sorted((ROOT / "src" / "shoal").rglob("*.py")):
        relative = path.relative_to(ROOT / "src").with_suffix("")
        name = ".".join(relative.parts).removesuffix(".__init__")
        text = path.read_text(encoding="utf-8")
        found[name] = Module(name, path, ast.parse(text), text.count("\n"))
    return found
