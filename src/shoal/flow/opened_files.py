"""Which files a step reads though nobody declared them, noticed by Python's own audit events."""

import os
import sys
import sysconfig
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

_CODE = (".py", ".pyc", ".pyi", ".so", ".dylib", ".pth")
# Of the machine, not of the user's data.
_SYSTEM = ("/proc/", "/sys/", "/dev/", "/etc/", "/usr/lib/", "/lib/", "/usr/share/zoneinfo/", "/System/", "/Library/")


class OpenedFiles:
    """What one step opened so far."""

    def __init__(self) -> None:
        self._read: dict[str, None] = {}
        self._written: set[str] = set()

    def note(self, path: str, *, reads: bool) -> None:
        """Remember one opening."""
        if not reads:
            self._written.add(path)
        elif path not in self._written:
            self._read[path] = None

    def undeclared(self, declared: Iterable[str]) -> tuple[str, ...]:
        """The files that were read, but are neither below a declared path, nor code, nor the machine's own."""
        allowed = [*(os.path.realpath(path) for path in declared), *_library_folders()]
        return tuple(
            path
            for path in self._read
            if not path.endswith(_CODE)
            and not path.startswith(_SYSTEM)
            and not any(_is_below(path, folder) for folder in allowed)
            and not Path(path).is_dir()  # opened to sync it or to work below it, not to read
        )


_current: ContextVar[OpenedFiles | None] = ContextVar("shoal_opened_files", default=None)
_install = threading.Lock()
_installed = False


@contextmanager
def watched() -> Iterator[OpenedFiles]:
    """Notice what this thread opens in the block; what other threads, processes or C code open is not seen."""
    _install_hook()
    opened = OpenedFiles()
    token = _current.set(opened)
    try:
        yield opened
    finally:
        _current.reset(token)


def _install_hook() -> None:
    global _installed
    with _install:
        # A hook cannot be taken off again: one per process.
        if not _installed:
            sys.addaudithook(_hook)
            _installed = True


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open":
        return
    opened = _current.get()
    if opened is None:
        return
    path, mode, flags = (*arguments, None, None, None)[:3]
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    # A hook must not raise: that would break the opening itself. A number is a file that was opened before.
    if not isinstance(path, str | os.PathLike):
        return
    for_writing = isinstance(flags, int) and flags & os.O_ACCMODE == os.O_WRONLY
    created = isinstance(mode, str) and mode[:1] in ("w", "x", "a")
    opened.note(os.path.realpath(os.fspath(path)), reads=not (for_writing or created))


@cache
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    # Python's own prefix may be /usr, where data lies too; a virtual environment's holds nothing but packages.
    if sys.prefix != sys.base_prefix:
        folders.append(sys.prefix)
    return tuple(os.path.realpath(folder) for folder in folders)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
