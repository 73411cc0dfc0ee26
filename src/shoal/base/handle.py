"""Handles: how large things travel, as kind, address and digest instead of their content."""

import importlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeGuard

from shoal.base.digest import digest_file
from shoal.base.errors import ConfigError, CorruptError, NotFoundError

# A file changed this recently may change again without a new time stamp (file systems count in up to 2 s).
_SETTLED_NS = 2_000_000_000

_Opener = Callable[[str, str], "Handle"]


class Handle(Protocol):
    """Something immutable that is named by where it lies and what it holds.

    `digest` depends on the content alone: equal digests mean equal content, wherever and whenever it was made.
    """

    @property
    def kind(self) -> str:
        """A registered word such as "dataset"; it chooses who opens the address."""
        ...

    @property
    def address(self) -> str:
        """Where it lies; enough to open it in another process."""
        ...

    @property
    def digest(self) -> str:
        """The content's digest; may cost a read of the content when first asked for."""
        ...


def is_handle(value: object) -> TypeGuard[Handle]:
    """Tell whether a value bears a handle's three properties, without computing any of them."""
    kind, own = type(value), getattr(value, "__dict__", ())
    return not isinstance(value, type) and all(
        hasattr(kind, name) or name in own for name in ("digest", "address", "kind")
    )


_openers: dict[str, _Opener | str] = {}


def register_handle(kind: str, opener: _Opener | str) -> None:
    """Say who opens handles of a kind: a function of (address, digest), or "module:attr" to import it when needed.

    The opener raises when what lies at the address is gone or has another digest. Registering the same again does
    nothing.

    Raises:
        ConfigError: another opener has this kind.
    """
    if _openers.setdefault(kind, opener) != opener:
        raise ConfigError(
            f"cannot register {opener!r} for handles of kind {kind!r}: {_openers[kind]!r} has it",
            next_step="choose another kind",
        )


def open_handle(kind: str, address: str, digest: str) -> Handle:
    """Open what a handle stands for.

    Raises:
        NotFoundError: nobody registered the kind, or nothing lies at the address.
        CorruptError: what lies there has another digest.
    """
    opener = _openers.get(kind)
    if opener is None:
        raise NotFoundError(
            f"cannot open a handle of kind {kind!r}: known kinds are {sorted(_openers)}",
            next_step="import the package that defines it, or call register_handle",
        )
    if isinstance(opener, str):
        module, _, attribute = opener.partition(":")
        loaded: _Opener = getattr(importlib.import_module(module), attribute)
        opener = loaded
    return opener(address, digest)


class File:
    """A file of the user's, declared as an input or a result: it counts by its content, not by its name or time.

    Usable wherever a path is. The digest is computed when first asked for and remembered in this process until the
    file changes; a file that changed within the last 2 s is always read again.
    """

    kind = "file"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()

    @property
    def address(self) -> str:
        """The absolute path."""
        return str(self.path)

    @property
    def digest(self) -> str:
        """The content's digest; NotFoundError when the file is missing."""
        return _file_digests.get(self.path)

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"File({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, File) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)


class _FileDigests:
    """Digests of files by identity on disk, so that a large file is read once per process."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, ...], str]] = {}
        self._lock = threading.Lock()

    def get(self, path: Path) -> str:
        before = self._identity(path)
        with self._lock:
            identity, digest = self._known.get(path, (None, ""))
        if identity == before:
            return digest
        digest = digest_file(path)
        changed_ns = max(before[1], before[3])
        if self._identity(path) == before and time.time_ns() - changed_ns > _SETTLED_NS:
            with self._lock:
                self._known[path] = (before, digest)
        return digest

    def _identity(self, path: Path) -> tuple[int, int, int, int]:
        try:
            found = path.stat()
        except FileNotFoundError as error:
            raise NotFoundError(f"cannot read {path}: there is no such file", next_step="check the path") from error
        # The change time is in it because a program can set the modification time back, and not that one.
        return found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns


_file_digests = _FileDigests()


def _open_file(address: str, digest: str) -> Handle:
    file = File(address)
    if (found := file.digest) != digest:
        raise CorruptError(
            f"{address} was changed since it was recorded: its digest is {found}, expected {digest}",
            next_step="make the file again",
        )
    return file


register_handle(File.kind, _open_file)


def handle_words(value: object) -> dict[str, list[str]]:
    """Return the JSON that stands for a handle."""
    assert is_handle(value)
    return {"$handle": [value.kind, value.address, value.digest]}
