"""What `import shoal` shows, and what it costs."""

import ast
import importlib
import subprocess
import sys

import shoal

# The frozen face: a new name is a line here, seen in review.
FACE = [
    "ShoalError", "Task", "__version__", "base", "compress", "data", "flow", "model", "runtime", "secret", "serve",
    "store", "train", "watch",
]  # fmt: skip
FACE_LIMIT = 25


def test_the_face_is_the_agreed_one():
    assert sorted(shoal.__all__) == FACE
    assert len(FACE) <= FACE_LIMIT


def test_every_name_of_every_face_resolves(modules):
    missing = [
        f"{name}.{export}"
        for name, module in modules.items()
        if module.is_face and "migrations" not in name
        for export in _exports(module)
        if not _has(name, export)
    ]

    assert missing == []


def test_importing_shoal_loads_only_the_standard_library():
    loaded = _modules_after("import shoal")

    assert {name for name in loaded if name not in sys.stdlib_module_names} == {"shoal"}


def test_faces_load_no_optional_weight():
    faces = "import shoal.data, shoal.train, shoal.serve, shoal.store, shoal.flow, shoal.watch, shoal.model, shoal.cli"

    assert not _modules_after(faces) & {"torch", "ray", "sqlalchemy", "onnx", "onnxruntime", "alembic", "matplotlib"}


def test_no_module_bears_the_name_of_a_public_function(modules):
    hidden = [
        f"{name}.{export}"
        for name, module in modules.items()
        if module.is_face
        for export in _exports(module)
        if f"{name}.{export}" in modules
        and name != "shoal"
        and callable(getattr(importlib.import_module(name), export))
    ]

    assert hidden == []


def test_faces_hold_nothing_but_names(modules):
    allowed = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign, ast.If)
    full = [
        name
        for name, module in modules.items()
        if module.is_face and any(not isinstance(node, allowed) for node in module.tree.body)
    ]

    assert full == []


def _exports(module):
    for node in module.tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return []


def _has(name, export):
    return hasattr(importlib.import_module(name), export)


def _modules_after(statement):
    code = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}
