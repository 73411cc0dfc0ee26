"""What a function says, free of how it is laid out: the digest of its normal form and the names it reads."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from shoal.base import digest_bytes

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

# Methods that change a list, dict, set or deque.
_MUTATORS = frozenset(
    {"append", "appendleft", "add", "update", "setdefault", "extend", "insert"}
    | {"pop", "popitem", "clear", "remove", "discard"}
)
# Not part of the meaning: how a name is used follows from where it stands, `kind` is the u of u"...".
_SKIPPED_FIELDS = frozenset({"ctx", "kind", "type_comment"})


@dataclass(frozen=True, slots=True)
class Import:
    """An import statement inside a function: `from module import name`, or `import module` where `name` is None."""

    module: str
    name: str | None
    level: int
    bound_as: str


@dataclass(frozen=True, slots=True)
class Syntax:
    """The normal form of one function.

    `chains` are the dotted names it reads, `("np", "sum")` for `np.sum`, whatever scope the first one belongs to.
    `changes_self` tells of a method that it sets or changes what its object holds.
    """

    digest: str
    chains: tuple[tuple[str, ...], ...]
    imports: tuple[Import, ...] = ()
    changes_self: bool = False


def read_syntax(node: FunctionNode | ast.stmt) -> Syntax:
    """Return the normal form of `node`: comments, docstrings and layout do not count.

    Neither do a function's own name, decorators and default values: the living function tells what they made.
    """
    tokens: list[str] = []
    chains: dict[tuple[str, ...], None] = {}
    imports: dict[Import, None] = {}
    # An explicit stack, last first: a generated expression may nest deeper than Python's recursion limit.
    stack: list[ast.AST | str] = list(reversed(_outermost(node))) if isinstance(node, FunctionNode) else [node]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            tokens.append(item)
            continue
        if chain := _dotted(item):
            chains[chain] = None
            tokens.append(".".join(chain))
            continue
        if isinstance(item, ast.Import | ast.ImportFrom):
            imports.update(dict.fromkeys(_imports(item)))
        if isinstance(item, ast.Global):
            chains.update(dict.fromkeys((name,) for name in item.names))
        stack.extend(reversed(list(_inner(item))))
    changes_self = isinstance(node, FunctionNode) and _changes_first_argument(node)
    return Syntax(digest_bytes("\x1f".join(tokens).encode()), tuple(chains), tuple(imports), changes_self)


def top_level_assignments(tree: ast.Module) -> dict[str, list[ast.stmt]]:
    """Return, for each name, the statements of the module that assign it outside of functions and classes."""
    found: dict[str, list[ast.stmt]] = defaultdict(list)
    for node in _top_level_statements(tree.body):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                for inner in ast.walk(target):
                    if isinstance(inner, ast.Name):
                        found[inner.id].append(node)
    return dict(found)


def top_level_imports(tree: ast.Module) -> dict[str, Import]:
    """Return, by the name that they bind, the `from ... import` statements outside of functions and classes."""
    statements = (node for node in _top_level_statements(tree.body) if isinstance(node, ast.ImportFrom))
    return {found.bound_as: found for node in statements for found in _imports(node)}


def names_changed_in_place(tree: ast.Module) -> frozenset[str]:
    """Names of the module's globals that its own functions rebind or change: caches, registries, singletons."""
    changed: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            declared = {name for inner in ast.walk(node) if isinstance(inner, ast.Global) for name in inner.names}
            changed |= declared | ({*_mutated(node)} - _local_names(node))
    return frozenset(changed)


def _top_level_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        if isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While):
            handlers = [handler.body for handler in getattr(node, "handlers", [])]
            for block in (node.body, getattr(node, "orelse", []), getattr(node, "finalbody", []), *handlers):
                yield from _top_level_statements(block)
        elif not isinstance(node, Definition):
            yield node


def _outermost(node: FunctionNode) -> list[ast.AST | str]:
    arguments = node.args
    kinds = (arguments.posonlyargs, arguments.args, arguments.kwonlyargs)
    signature: list[ast.AST | str] = []
    for kind in kinds:
        signature.extend([*kind, "|"])
    signature += [arguments.vararg or "", arguments.kwarg or ""]
    if isinstance(node, ast.Lambda):
        return [*signature, node.body]
    return [type(node).__name__, *signature, node.returns or "", *_without_docstring(node.body)]


def _inner(node: ast.AST) -> Iterator[ast.AST | str]:
    yield type(node).__name__
    for field, value in ast.iter_fields(node):
        if field in _SKIPPED_FIELDS:
            continue
        if isinstance(value, ast.AST):
            yield value
        elif isinstance(value, list):
            body = _without_docstring(value) if field == "body" and isinstance(node, Definition) else value
            yield "["
            yield from (item if isinstance(item, ast.AST) else repr(item) for item in body)
            yield "]"
        else:
            yield repr(value)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    match body:
        case [ast.Expr(value=ast.Constant(value=str())), *rest]:
            return rest
    return body


def _dotted(node: ast.AST) -> tuple[str, ...] | None:
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else None


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[Import]:
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield Import(node.module or "", alias.name, node.level, alias.asname or alias.name)
        elif alias.asname:
            yield Import(alias.name, None, 0, alias.asname)
        else:
            yield Import(alias.name, None, 0, alias.name.partition(".")[0])  # `import a.b` binds a


def _mutated(function: ast.AST) -> Iterator[str]:
    for node in ast.walk(function):
        match node:
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                yield name
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)) if method in _MUTATORS:
                yield name


def _changes_first_argument(function: FunctionNode) -> bool:
    positional = [*function.args.posonlyargs, *function.args.args]
    own = positional[0].arg if positional else None
    for node in ast.walk(function):
        match node:
            case ast.Attribute(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()) if name == own:
                return True
            case ast.Subscript(value=ast.Attribute(value=ast.Name(id=name)), ctx=ast.Store() | ast.Del()) if (
                name == own
            ):
                return True
            case ast.Call(func=ast.Attribute(value=ast.Attribute(value=ast.Name(id=name)), attr=method)):
                if name == own and method in _MUTATORS:
                    return True
    return False


def _local_names(function: ast.AST) -> set[str]:
    names = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    return names | {
        node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
