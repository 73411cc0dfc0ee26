"""The walk from a piece of code to everything that it is seen to reach, on the living objects."""

import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import cached_property
from importlib import import_module
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

from shoal.base import digest_bytes
from shoal.runtime.constant import Describer, UntoldError
from shoal.runtime.origin import is_standard, label_of, packages_of, top_level
from shoal.runtime.source import changed_names, imported_as, making_of, syntax_of
from shoal.runtime.syntax import Import

# What these run, or read, is not in the code that calls them.
_RUNS = frozenset(
    {
        *(f"builtins.{name}" for name in ("eval", "exec", "compile", "__import__", "globals")),
        *(f"importlib.{name}" for name in ("import_module", "reload")),
        *(f"runpy.{name}" for name in ("run_module", "run_path")),
        *(f"subprocess.{name}" for name in ("run", "Popen", "call", "check_call", "check_output", "getoutput")),
        *(f"asyncio.subprocess.create_subprocess_{name}" for name in ("exec", "shell")),
        *(f"{module}.{name}" for module in ("posix", "os") for name in ("system", "popen", "execv", "execve")),
        *(f"{module}.{name}" for module in ("pickle", "_pickle") for name in ("load", "loads")),
        "ctypes.CDLL",
    }
)
_READS = frozenset({"builtins.input", "os.getenv", "urllib.request.urlopen", "urllib.request.urlretrieve"})
# Of a class's names with two underscores on both sides, those that count besides methods. The others are made by Python
# or put there by libraries as caches, at some time after the class was made (as msgspec and copyreg do).
_OF_A_CLASS = frozenset(
    {"__slots__", "__annotations__", "__match_args__", "__dataclass_fields__", "__dataclass_params__"}
)
_MAKES_AN_OBJECT = frozenset({"__init__", "__new__", "__post_init__", "__setstate__"})
# Enough to see what kind of thing is meant.
_MAX_NAMED = 3


class Walk:
    """Collects all that a piece of code is seen to reach: `parts` and `packages` as in `CodeDigest`. For one thread.

    Args:
        own: top-level packages that are ours even where they are installed.
        is_opaque: tells for a class whether its objects cannot be described, see `Describer`.
        complains: note a constant that cannot be described in `unseen`, instead of raising `UntoldError`.
    """

    def __init__(self, own: frozenset[str], *, is_opaque: Callable[[type], bool], complains: bool = False) -> None:
        self._own = own
        self.parts: dict[str, str] = {}
        self.packages = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
        self._unseen: dict[str, None] = {}
        # By identity; the object is held, so that the identity stays its own.
        self._labels: dict[int, tuple[str, object]] = {}
        self._taken: set[str] = set()
        self._described: set[str] = set()
        self._queue: deque[tuple[str, object]] = deque()
        self._describer = Describer(self._refer, is_opaque)
        self._complain = self._note_unseen if complains else None
        # Globals that count by the statement that makes them.
        self._made: list[str] = []
        self._place = ""

    def follow(self, name: str, target: object) -> None:
        """Take in a function, class or value, known as `name`, and all that it reaches."""
        self._value(name, target)
        while self._queue:
            self._place, item = self._queue.popleft()
            if isinstance(item, FunctionType):
                self._function(self._place, item)
            elif isinstance(item, type):
                self._class(self._place, item)
            elif isinstance(item, ModuleType):
                self._whole_module(item)

    def unseen(self) -> tuple[str, ...]:
        """Say in words what could not be followed."""
        words = list(self._unseen)
        if self._made:
            num_more = len(self._made) - _MAX_NAMED
            more = f" and {num_more} more" if num_more > 0 else ""
            words.append(
                f"told by the statement that makes it, not by its value: {', '.join(self._made[:_MAX_NAMED])}{more}"
            )
        return tuple(words)

    def _function(self, label: str, function: FunctionType) -> None:
        code = function.__code__
        syntax = syntax_of(code)
        self.parts[label] = syntax.digest
        if function.__defaults__ or function.__kwdefaults__:
            self._constant(f"{label} (defaults)", (function.__defaults__, function.__kwdefaults__))
        for name, value in _filled_cells(function):
            self._value(f"{label} (closure {name})", value)
        imports = {statement.bound_as: statement for statement in syntax.imports}
        chains = list(syntax.chains)
        for statement in syntax.imports:
            self._load(function, statement)
            if statement.name:  # it counts even where only its import does something
                chains.append((statement.bound_as,))
        elsewhere = {*code.co_varnames, *code.co_cellvars, *code.co_freevars}
        for name, *rest in dict.fromkeys(chains):
            if name in imports:
                self._imported(function, imports[name], rest)
            elif name not in elsewhere:
                self._global(function, name, rest)

    def _global(self, function: FunctionType, name: str, rest: list[str]) -> None:
        owner = str(function.__globals__.get("__name__", "__main__"))
        if name in function.__globals__:
            self._attribute(owner, name, function.__globals__[name], rest)
            return
        builtin = getattr(sys.modules["builtins"], name, None)
        if builtin is not None:
            self._refer(builtin)

    def _attribute(self, owner: str, name: str, value: object, rest: list[str]) -> None:
        """Follow `name.rest` from a value found in module `owner` until it is no longer a module."""
        while isinstance(value, ModuleType) and rest:
            owner, name, rest = value.__name__, rest[0], rest[1:]
            if not self._is_ours(owner):
                self._library_name(owner, name)
                return
            try:
                value = getattr(value, name)
            except AttributeError:
                return
            except ImportError as error:
                self._note_unseen(f"{owner}.{name} cannot be imported here ({error})")
                return
        if not self._is_environment(value) and self._refer(value) is None:
            self._global_constant(*_defined(owner, name, value), value)

    def _global_constant(self, owner: str, name: str, value: object) -> None:
        label = f"{label_of(owner)}.{name}"
        if label in self._described:
            return
        self._described.add(label)
        file = _file_of(owner)
        making = making_of(file, name) if file else None
        try:
            # By convention such a name is the module's own affair: a cache, a singleton. Its content comes and goes.
            if file and name.startswith("_") and (name in changed_names(file) or self._changes_itself(type(value))):
                self._note_unseen(f"{label} is changed while the program runs: its value does not count")
                text = making.digest if making else "changing"
            else:
                text = self._describer.describe(label, value)
                making = None
        except UntoldError:
            text = making.digest if making else self._describer.describe(label, value, self._complain)
            if making:
                self._made.append(label)
        self.parts[self._free(label)] = digest_bytes(text.encode("utf-8", "surrogatepass"))
        if making:
            space = vars(sys.modules[owner])
            for root, *rest in making.chains:
                if root in space and root != name:
                    self._attribute(owner, root, space[root], rest)

    def _changes_itself(self, kind: type) -> bool:
        return any(
            isinstance(member, FunctionType)
            and name not in _MAKES_AN_OBJECT
            and syntax_of(member.__code__).changes_self
            for base in kind.__mro__
            if self._is_ours(_module_of(base))
            for name, member in vars(base).items()
        )

    def _load(self, function: FunctionType, statement: Import) -> None:
        name = _absolute(statement, _package_of(function))
        if not self._is_ours(name):
            self._note_packages(name)
            return
        try:
            module = import_module(name)
            if statement.name and not hasattr(module, statement.name):
                import_module(f"{name}.{statement.name}")
        except ImportError as error:
            self._note_unseen(f"{self._place} imports {name}, which cannot be imported here ({error})")

    def _imported(self, function: FunctionType, statement: Import, rest: list[str]) -> None:
        """Follow `rest` from what an import statement inside the function binds."""
        name = _absolute(statement, _package_of(function))
        if not statement.name and statement.bound_as == top_level(name):
            name = statement.bound_as  # `import a.b` binds a
        module = sys.modules.get(name)
        if module is not None:
            self._attribute(name, name, module, [statement.name, *rest] if statement.name else rest)

    def _class(self, label: str, item: type) -> None:
        members = dict(_members(item))
        self.parts[label] = digest_bytes(",".join(members).encode())
        for base in (*item.__bases__, type(item)):
            self._refer(base)
        for name, member in members.items():
            for function in _functions_of(member):
                self._value(f"{label}.{name}", function)

    def _whole_module(self, module: ModuleType) -> None:
        # A face loads lazily: what its namespace holds by now depends on who asked before, its list does not.
        names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("__")]
        for name in names:
            value = getattr(module, name, None)
            if not isinstance(value, ModuleType):
                self._attribute(module.__name__, name, value, [])

    def _value(self, label: str, value: object) -> None:
        if self._refer(value) is None:
            self._constant(label, value)

    def _constant(self, label: str, value: object) -> None:
        if label in self._described:
            return
        self._described.add(label)
        text = self._describer.describe(label, value, self._complain)
        self.parts[self._free(label)] = digest_bytes(text.encode("utf-8", "surrogatepass"))

    def _free(self, name: str) -> str:
        # Two closures of one function bear one name: they are told apart in the order in which they are met.
        label, num = name, 1
        while label in self._taken:
            label, num = f"{name} #{num + 1}", num + 1
        self._taken.add(label)
        return label

    def _refer(self, value: object) -> str | None:
        """Return the label of a piece of code and queue it when it is ours and new; None when `value` is not code."""
        if isinstance(value, MethodType):
            return None
        if not isinstance(value, FunctionType | type | ModuleType):
            wrapped = _wrapped(value)
            if wrapped is not None:
                return self._refer(wrapped)
            return self._builtin(value) if isinstance(value, BuiltinFunctionType) else None
        module = _module_of(value)
        name = value.__name__ if isinstance(value, ModuleType) else f"{label_of(module)}.{value.__qualname__}"
        if not self._is_ours(module):
            self._library(value, module, name)
            return name
        known = self._labels.get(id(value))
        if known is None:
            known = self._labels[id(value)] = (self._free(name), value)
            self._queue.append(known)
        return known[0]

    def _library_name(self, module: str, name: str) -> None:
        self._note_packages(module)
        # Only Python's own modules are asked: another might import half of itself to answer.
        if is_standard(module) and module in sys.modules:
            value = getattr(sys.modules[module], name, None)
            if not self._is_environment(value):
                self._refer(value)

    def _library(self, value: object, module: str, name: str) -> None:
        self._note_packages(module)
        if name in _RUNS:
            self._note_unseen(f"{self._place} calls {name}: what it runs is not followed")
        if name in _READS:
            self._note_unseen(f"{self._place} calls {name}: what it reads does not count")
        wrapped = _wrapped(value)
        if wrapped is not None:
            self._refer(wrapped)
            # functools.singledispatch keeps the other bodies here.
            for other in dict(getattr(value, "registry", {})).values():
                self._refer(other)

    def _builtin(self, value: BuiltinFunctionType) -> str | None:
        if not isinstance(value.__self__, ModuleType | type | None):
            return None  # a method of some object: that object counts too
        module = value.__module__ or "builtins"
        name = f"{module}.{value.__qualname__}"
        self._library(value, module, name)
        return name

    def _is_environment(self, value: object) -> bool:
        if type(value).__name__ != "_Environ":
            return False
        self._note_unseen(f"{self._place} reads the environment: its variables do not count")
        return True

    def _is_ours(self, module: str) -> bool:
        return top_level(module) in self._own or not (is_standard(module) or packages_of(module))

    def _note_packages(self, module: str) -> None:
        for package in packages_of(module):
            self.packages[package.name] = package.version
            if package.changed_since_import:
                self._note_unseen(
                    f"package {package.name} was edited after it was imported: start again to reuse results"
                )

    def _note_unseen(self, words: str) -> None:
        self._unseen[words] = None


def _file_of(module: str) -> str | None:
    return getattr(sys.modules.get(module), "__file__", None)


def _defined(owner: str, name: str, value: object) -> tuple[str, str]:
    """Return the module that a constant comes from and its name there, following `from ... import`."""
    while (file := _file_of(owner)) and (statement := imported_as(file, name)) and statement.name:
        source = _absolute(statement, getattr(sys.modules[owner], "__package__", None) or owner)
        # Not followed where the name was given another value since.
        if getattr(sys.modules.get(source), statement.name, None) is not value:
            break
        owner, name = source, statement.name
    return owner, name


def _package_of(function: FunctionType) -> str:
    return str(function.__globals__.get("__package__") or function.__globals__.get("__name__", ""))


def _absolute(statement: Import, package: str) -> str:
    if not statement.level:
        return statement.module
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - statement.level + 1], *([statement.module] if statement.module else [])])


def _module_of(value: FunctionType | type | ModuleType) -> str:
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, FunctionType):
        # functools.wraps writes over __module__; the globals tell where the code is from.
        return str(value.__globals__.get("__name__") or "__main__")
    # Some types written in C have a descriptor here.
    return value.__module__ if isinstance(value.__module__, str) else "builtins"


def _wrapped(value: object) -> object:
    try:
        return vars(value).get("__wrapped__")
    except TypeError:
        return None


def _filled_cells(function: FunctionType) -> Iterator[tuple[str, object]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not filled yet: the function is still being defined
            continue


def _members(item: type) -> Iterator[tuple[str, object]]:
    for name, member in sorted(vars(item).items()):
        if name in _OF_A_CLASS:
            # Asking a class for annotations that it has not makes an empty dict.
            if name != "__annotations__" or member:
                yield name, member
        elif any(isinstance(function, FunctionType) for function in _functions_of(member)):
            # What dataclass writes by itself follows from the fields, which are members too.
            if not (is_dataclass(item) and _is_generated(member)):
                yield name, member
        elif name != "_abc_impl" and not (name.startswith("__") and name.endswith("__")):
            yield name, member


def _is_generated(member: object) -> bool:
    code = getattr(_wrapped(member) or member, "__code__", None)
    return code is not None and code.co_filename == "<string>"


def _functions_of(member: object) -> list[object]:
    match member:
        case staticmethod() | classmethod():
            return [member.__func__]
        case property():
            return [item for item in (member.fget, member.fset, member.fdel) if item]
        case cached_property():
            return [member.func]
    return [member]
