"""No file and no function grows two ideas unseen."""

import ast

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_CLASS_LINES = 300
MAX_PUBLIC_METHODS = 20


def test_no_file_is_long(modules):
    long = {module.name: module.num_lines for module in modules.values() if module.num_lines > MAX_FILE_LINES}

    assert long == {}


def test_no_function_is_long(modules):
    long = {
        f"{module.name}.{node.name}": _body_length(node)
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _body_length(node) > MAX_FUNCTION_LINES
    }

    assert long == {}


def test_no_class_holds_two_things(modules):
    big = [
        f"{module.name}.{node.name}"
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        if _length(node) > MAX_CLASS_LINES or len(_public_methods(node)) > MAX_PUBLIC_METHODS
    ]

    assert big == []


def _length(node):
    docstring = ast.get_docstring(node, clean=False)
    own = node.end_lineno - node.lineno + 1
    return own - (docstring.count("\n") + 1 if docstring else 0)


def _body_length(node):
    # The settings of a call that a user makes stand one to a line, and are no logic.
    return _length(node) - (node.body[0].lineno - node.lineno)


def _public_methods(node):
    return [
        item.name
        for item in node.body
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and not item.name.startswith("_")
    ]
