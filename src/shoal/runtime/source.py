"""From a living code object to the syntax it was compiled from, checked: a file edited since is not believed."""

import ast
import dis
import linecache
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

from shoal.base import digest_bytes
from shoal.runtime.origin import loaded_ns
from shoal.runtime.syntax import (
    FunctionNode,
    Import,
    Syntax,
    names_changed_in_place,
    read_syntax,
    top_level_assignments,
    top_level_imports,
)

# Enough for every function of a large project; a long notebook session that redefines cells starts again beyond it.
_MAX_KEPT = 50_000
_lock = threading.Lock()
# By identity, holding the object so that the identity stays its own: equal code may come from different text.
_kept: dict[int, tuple[CodeType, Syntax]] = {}
_files: dict[str, "_File"] = {}


@dataclass(frozen=True, slots=True)
class _File:
    stamp: tuple[int, ...]
    functions: dict[tuple[int, str], list[FunctionNode]]
    codes: dict[str, list[CodeType]]
    changed_names: frozenset[str]
    assignments: dict[str, list[ast.stmt]]
    imports: dict[str, Import]


def syntax_of(code: CodeType) -> Syntax:
    """Return the normal form of the function that `code` runs.

    The file (or notebook cell) is believed only where compiling it gives this very bytecode. Otherwise, and where there
    is no source, the bytecode itself is digested: what runs is what counts, never what the disk says by now.
    """
    with _lock:
        kept = _kept.get(id(code))
        if kept is not None:
            return kept[1]
        syntax = _from_source(code) or _from_bytecode(code)
        if len(_kept) >= _MAX_KEPT:
            _kept.clear()
        _kept[id(code)] = (code, syntax)
        return syntax


def changed_names(path: str) -> frozenset[str]:
    """Names of the globals that functions of the module at `path` rebind or change; empty where it cannot be read."""
    with _lock:
        file = _read(path)
        return file.changed_names if file else frozenset()


def making_of(path: str, name: str) -> Syntax | None:
    """Return the normal form of the statements by which the module at `path` makes its global `name`.

    None where there are none, or where the file was written since the program began: its module may be older.
    """
    with _lock:
        file = _read(path)
        if file is None or name not in file.assignments or (file.stamp and file.stamp[0] > loaded_ns()):
            return None
        return _join([read_syntax(node) for node in file.assignments[name]])


def imported_as(path: str, name: str) -> Import | None:
    """Return the `from ... import` statement by which the module at `path` got its global `name`, or None."""
    with _lock:
        file = _read(path)
        return file.imports.get(name) if file else None


def _from_source(code: CodeType) -> Syntax | None:
    file = _read(code.co_filename)
    if file is None:
        return None
    mine = _fingerprint(code)
    for candidate in file.codes.get(code.co_qualname, ()):
        if _fingerprint(candidate) == mine:
            nodes = file.functions.get((candidate.co_firstlineno, candidate.co_name), [])
            return _join([read_syntax(node) for node in nodes])
    return None


def _join(found: list[Syntax]) -> Syntax | None:
    if len(found) <= 1:
        return found[0] if found else None
    # Lambdas on one line share their position: they count together.
    return Syntax(
        digest_bytes("".join(syntax.digest for syntax in found).encode()),
        tuple(chain for syntax in found for chain in syntax.chains),
        tuple(statement for syntax in found for statement in syntax.imports),
    )


def _from_bytecode(code: CodeType) -> Syntax:
    names = {name for inner in _all_codes(code) for name in inner.co_names}
    imports = [
        Import(str(instruction.argval), None, 0, str(instruction.argval))
        for inner in _all_codes(code)
        for instruction in dis.get_instructions(inner)
        if instruction.opname == "IMPORT_NAME"
    ]
    digest = digest_bytes(repr(_fingerprint(code)).encode())
    return Syntax(digest, tuple((name,) for name in sorted(names)), tuple(imports))


def _read(path: str) -> _File | None:
    stamp = _stamp(path)
    known = _files.get(path)
    if known is not None and known.stamp == stamp:
        return known
    try:
        source = Path(path).read_bytes() if stamp else "".join(linecache.getlines(path)).encode()
        tree = ast.parse(source)
        compiled = compile(tree, path, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None
    functions: dict[tuple[int, str], list[FunctionNode]] = defaultdict(list)
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda):
            functions[node.lineno, "<lambda>"].append(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions[min([node.lineno, *(item.lineno for item in node.decorator_list)]), node.name].append(node)
    codes: dict[str, list[CodeType]] = defaultdict(list)
    for code in _all_codes(compiled):
        codes[code.co_qualname].append(code)
    file = _files[path] = _File(
        stamp,
        dict(functions),
        dict(codes),
        names_changed_in_place(tree),
        top_level_assignments(tree),
        top_level_imports(tree),
    )
    return file


def _stamp(path: str) -> tuple[int, ...]:
    try:
        status = os.stat(path)  # noqa: PTH116 - once per function of a large walk: Path.stat is twice as slow
    except (OSError, ValueError):
        return ()
    return (status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns)


def _all_codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _all_codes(constant)


def _fingerprint(code: CodeType) -> tuple[object, ...]:
    """All that decides what `code` does, and nothing of where it stands."""
    constants = tuple(
        _fingerprint(constant) if isinstance(constant, CodeType) else _constant(constant) for constant in code.co_consts
    )
    names = (code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
    return (code.co_code, code.co_exceptiontable, constants, names, counts)


# repr tells 1 from True and 0.0 from -0.0, which are equal; a frozenset has no order of its own.
def _constant(value: object) -> object:
    return tuple(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)
