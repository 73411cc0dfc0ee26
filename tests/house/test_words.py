"""Every public thing says what it is for, under a name that says something."""

import ast

VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
MAX_ENVIRONMENT_VARIABLES = 9


def test_every_public_thing_has_a_docstring(modules):
    silent = [name for module in modules.values() for name in _silent(module)]

    assert silent == []


def test_no_module_has_a_vague_name(modules):
    vague = [name for name in modules if name.rpartition(".")[2] in VAGUE]

    assert vague == []


def test_every_module_has_a_test_twin(modules, root):
    alone = [
        module.name
        for module in modules.values()
        if module.num_lines > 30 and not module.is_face and module.floor != "testing"
        if "migrations" not in module.path.parts and not _twin(module, root).exists()
    ]

    assert alone == []


def test_environment_is_read_in_one_place(modules):
    readers = {
        module.name
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    }

    # The runtime hands its own environment on to the processes it starts; it takes no decision from it.
    assert readers <= {"shoal.base.config", "shoal.runtime.starting", "shoal.runtime.child"}


def test_users_are_asked_for_few_environment_variables(modules):
    source = modules["shoal.base.config"].path.read_text(encoding="utf-8")
    names = {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if node.value.startswith("SHOAL_") and node.value.isupper()
    }

    assert len(names) <= MAX_ENVIRONMENT_VARIABLES


def _twin(module, root):
    parts = module.name.split(".")[1:]
    return root / "tests" / "/".join(parts[:-1]) / f"test_{parts[-1].strip('_')}.py"


def _silent(module):
    if ast.get_docstring(module.tree) is None:
        yield module.name
    for node in module.tree.body:
        yield from _silent_definitions(node, module.name)


def _silent_definitions(node, where):
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
        return
    if ast.get_docstring(node) is None and not _overrides(node):
        yield f"{where}.{node.name}"
    if isinstance(node, ast.ClassDef):
        for item in node.body:
            yield from _silent_definitions(item, f"{where}.{node.name}")


def _overrides(node):
    return any(
        (isinstance(decorator, ast.Name) and decorator.id in {"overload", "override"})
        or (isinstance(decorator, ast.Attribute) and decorator.attr in {"setter", "deleter"})
        for decorator in node.decorator_list
    )
