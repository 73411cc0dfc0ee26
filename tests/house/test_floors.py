"""Nothing imports upward, nothing goes in a circle, and a folder is entered by its face."""

import ast

# Each floor with the floors it may use. A new arrow is a line here, seen in review.
ALLOWED = {
    "base": set(),
    "store": {"base"},
    "runtime": {"base", "store"},
    "data": {"base", "store", "runtime"},
    "model": {"base", "store", "runtime", "data"},
    "train": {"base", "store", "runtime", "data", "model"},
    "serve": {"base", "store", "runtime", "data", "model"},
    "watch": {"base", "store", "runtime", "data", "model"},
    "compress": {"base", "store", "runtime", "data", "model", "train"},
    "flow": {"base", "store", "runtime", "data", "model", "train", "serve", "watch", "compress"},
    "cli": {"base", "store", "runtime", "data", "model", "train", "serve", "watch", "compress", "flow", "demo"},
}
SEE_ALL = {"testing", "demo", ""}
# Only these files may name a package of optional weight; every other module must import without it.
TORCH_FILES = (
    "shoal.train.",
    "shoal.compress.",
    "shoal.model.export",
    "shoal.data.loading.formats",
    "shoal.data.loading.torch_",
    "shoal.demo.",
    "shoal.testing.strategy",
)


def test_every_folder_is_a_known_floor(modules):
    floors = {module.floor for module in modules.values()} - {"__main__"}

    assert floors <= set(ALLOWED) | SEE_ALL


def test_nothing_imports_upward(modules):
    upward = [
        f"{module.name} -> {target}"
        for module in modules.values()
        if module.floor in ALLOWED
        for target in module.imports()
        if (floor := _floor(target)) and floor != module.floor and floor not in ALLOWED[module.floor]
    ]

    assert upward == []


def test_no_circle_of_files(modules):
    graph = {
        name: {_file_of(target, modules) for target in module.imports()} - {None, name}
        for name, module in modules.items()
        if not module.is_face
    }

    assert _circle(graph) is None


def test_another_folder_is_entered_by_its_face(modules):
    inside = [
        f"{module.name} -> {target}"
        for module in modules.values()
        if module.floor not in {"testing", ""}
        for target in module.imports()
        if _floor(target) not in {module.floor, None}
        if _file_of(target, modules) not in {None, *_faces(modules), *_shown_by_faces(modules)}
    ]

    assert inside == []


def test_no_file_imports_its_own_face(modules):
    own = [
        module.name
        for module in modules.values()
        if not module.is_face and module.floor and f"shoal.{module.floor}" in module.imports()
        if any(_names_own_face(module, node) for node in _import_nodes(module))
    ]

    assert own == []


def test_torch_is_named_only_where_it_is_wrapped(modules):
    naming = [
        module.name
        for module in modules.values()
        if not module.name.startswith(TORCH_FILES)
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "torch" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch")
    ]

    assert naming == []


def _floor(name):
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in {*ALLOWED, *SEE_ALL} else None


def _file_of(name, modules):
    return name if name in modules else None


def _faces(modules):
    return {name for name, module in modules.items() if module.is_face}


def _shown_by_faces(modules):
    """Modules that a face shows whole, as `shoal.base` does with `json`."""
    return {
        f"{name}.{node.value}"
        for name, module in modules.items()
        if module.is_face
        for statement in module.tree.body
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == "__all__"
        for node in ast.walk(statement.value)
        if isinstance(node, ast.Constant)
    }


def _import_nodes(module):
    return [node for node in ast.walk(module.tree) if isinstance(node, ast.ImportFrom | ast.Import)]


def _names_own_face(module, node):
    face = f"shoal.{module.floor}"
    if isinstance(node, ast.Import):
        return any(alias.name == face for alias in node.names)
    return node.module == face and not all(alias.name in _files_of_floor(module) for alias in node.names)


def _files_of_floor(module):
    # Also from a room of the floor: what stands beside the face is a file like any other.
    floor = next(parent for parent in module.path.parents if parent.name == module.floor)
    return {path.stem for path in floor.glob("*.py")}


def _circle(graph):
    state = {}

    def visit(name, trail):
        state[name] = "open"
        for target in sorted(graph.get(name, ())):
            if state.get(target) == "open":
                return [*trail, name, target]
            if target not in state and (found := visit(target, [*trail, name])):
                return found
        state[name] = "done"
        return None

    return next((found for name in sorted(graph) if name not in state and (found := visit(name, []))), None)
