"""Files that are there completely or not at all, under crashes, full disks and rivals."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from shoal.base.errors import ConflictError, StorageFullError, UnsupportedError
from shoal.base.ids import new_token

# EFBIG is what a limit on file sizes (ulimit -f) answers: for the user it is the same trouble as a full disk.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def report_full_storage(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the system's "no space left" inside the block into a StorageFullError that names `path`."""
    try:
        yield
    except StorageFullError:
        raise
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise StorageFullError(
            f"cannot write {os.fspath(path)}: {os.strerror(error.errno)}; nothing was left half-written",
            next_step=f"free some space on the disk of {Path(path).parent} and run it again",
        ) from error


def fsync_folder(folder: str | os.PathLike[str]) -> None:
    """Make the folder's list of names durable: a renamed file is safe only after this."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def aside(path: Path) -> Path:
    """Return a fresh hidden name in the same folder, for something that will be renamed to `path`."""
    return path.with_name(f".{path.name}.{new_token(8)}.tmp")


@contextmanager
def atomic_file(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file that appears under `path`, durable, when the block ends; missing parent folders are made.

    On any exception, and on a kill, what stood under `path` before is untouched. After an exception nothing is left
    behind; after a kill a hidden `.tmp` file may be. The last of several writers wins.

    Args:
        path: the final name.
        mode: "wb" for bytes, "w" for UTF-8 text.

    Raises:
        StorageFullError: no room.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = aside(target)
    try:
        with report_full_storage(target):
            with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as sink:
                yield sink
                sink.flush()
                os.fsync(sink.fileno())
            temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(target.parent)


def write_atomic(path: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Write a whole file as `atomic_file` does."""
    with atomic_file(path) as sink:
        sink.write(data)


def create_exclusive(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a whole, durable file under a name that is still free: of several rivals exactly one returns.

    Raises:
        ConflictError: the name is taken; the file there is complete.
        StorageFullError: no room.
        UnsupportedError: the file system has no hard links, so that rivals cannot be told apart safely.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = aside(target)
    try:
        with report_full_storage(target):
            with temporary.open("wb") as sink:
                sink.write(data)
                sink.flush()
                os.fsync(sink.fileno())
            # A link fails when the name exists, where a rename would silently replace it.
            target.hardlink_to(temporary)
    except FileExistsError as error:
        raise ConflictError(
            f"cannot create {target}: it exists already", next_step="read what is there, then try the next name"
        ) from error
    except PermissionError as error:
        raise UnsupportedError(
            f"cannot create {target} safely: {error.strerror}",
            next_step="use a folder you may write to, on a file system with hard links",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    fsync_folder(target.parent)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder that becomes `path`, durable with all its files, when the block ends.

    On any exception nothing is left behind.

    Raises:
        ConflictError: `path` exists, at the start or by the end.
        StorageFullError: no room.
    """
    target = Path(path)
    if target.exists():
        raise _taken(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = aside(target)
    temporary.mkdir()
    try:
        with report_full_storage(target):
            yield temporary
            _fsync_tree(temporary)
            try:
                temporary.rename(target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                raise _taken(target) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync_folder(target.parent)


def _taken(target: Path) -> ConflictError:
    return ConflictError(f"cannot create the folder {target}: it exists already", next_step="use it, or another name")


def _fsync_tree(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(Path(root, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        fsync_folder(root)


@contextmanager
def file_lock(path: str | os.PathLike[str], *, blocking: bool = True) -> Iterator[None]:
    """Hold a lock that all processes and threads of this machine see; it ends with its holder, however that dies.

    The file stays behind, as removing it would let two holders in.

    Raises:
        ConflictError: `blocking=False` and someone holds it.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if blocking else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                f"cannot lock {target}: another process or thread holds it",
                next_step="wait until it has finished, or stop it",
            ) from error
        yield
    finally:
        os.close(descriptor)
