"""What a function's result can depend on besides its arguments: everything of ours that it is seen to reach."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shoal.base import InputError, digest_bytes, digest_json
from shoal.runtime.constant import UntoldError
from shoal.runtime.origin import label_of, packages_of, top_level
from shoal.runtime.walk import Walk

# Libraries whose objects are their data, and keep nothing else inside.
_DATA = frozenset({"numpy", "pandas", "polars", "pyarrow", "torch", "scipy"})


@dataclass(frozen=True, slots=True)
class CodeDigest:
    """What identifies a piece of code and all that it is seen to reach.

    `parts` names every function, method and constant that counts, with its own digest; `packages` every distribution
    with its version (an editable one with the digest of its files), and Python itself. `unseen` says in words what
    could not be followed: a change there does not change `digest`.
    """

    digest: str
    parts: Mapping[str, str]
    packages: Mapping[str, str]
    unseen: tuple[str, ...]


def code_digest(target: Callable[..., object] | type, *also: type) -> CodeDigest:
    """Return the digest of a function's or class's code and of everything of the project that it is seen to reach.

    Followed are global names, attributes of modules, imports inside functions, closures, default values, decorators'
    wrappers, classes (whole, with their bases) and values that hold any of these. Comments, docstrings and layout do
    not count. The project is `target`'s own top-level package and whatever is neither installed nor Python's own.

    The living objects are read, so a patched global counts, and a file edited but not loaded again does not. Modules
    that the code would import are imported. Cost: about a millisecond for each function seen for the first time in a
    process, a tenth of that afterwards. Safe from several threads.

    Args:
        target: where to begin.
        also: classes that count too, such as those of the arguments, whose methods are called without being named.
    """
    walk = Walk(_own_packages(target), is_opaque=_keeps_caches, complains=True)
    for item in (target, *also):
        walk.follow(f"{type(item).__module__}.{type(item).__qualname__}", item)
    return _digest_of(walk)


def content_digest(value: object) -> str:
    """Return the digest of a value: equal for equal values in every process; handles count by their content alone.

    Functions and classes inside count by their code, as for `code_digest`.

    Raises:
        InputError: something inside cannot be told apart from others of its kind, such as a generator or an open file,
            or a handle's content cannot be read.
    """
    if type(value) in (int, str, bool, float, type(None)):
        return digest_bytes(f"{type(value).__name__}:{value!r}".encode("utf-8", "surrogatepass"))
    walk = Walk(frozenset({"__main__"}), is_opaque=lambda _: False)
    try:
        walk.follow("it", value)
    except UntoldError as error:
        raise InputError(
            f"cannot tell this value from others: {error}",
            next_step="use plain values, arrays, dataclasses or handles such as File(path) that can be read",
        ) from error
    return _digest_of(walk).digest


def _digest_of(walk: Walk) -> CodeDigest:
    parts, packages = dict(sorted(walk.parts.items())), dict(sorted(walk.packages.items()))
    digest = digest_json({"parts": parts, "packages": packages})
    return CodeDigest(digest, parts, packages, walk.unseen())


def _own_packages(target: object) -> frozenset[str]:
    module = getattr(target, "__module__", None) or "__main__"
    return frozenset({top_level(module), top_level(label_of(module)), "__main__"})


def _keeps_caches(kind: type) -> bool:
    return bool(packages_of(kind.__module__)) and top_level(kind.__module__) not in _DATA
