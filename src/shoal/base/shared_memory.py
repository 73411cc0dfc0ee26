"""Memory that several processes see at once, for handing over whole batches without a copy through a pipe.

A block is a file in the memory file system (or the temporary folder where there is none), mapped by every process.
multiprocessing.shared_memory is not used: until Python 3.13 it starts a tracker process that unlinks blocks which
others still use and warns about those that nobody lost; and its blocks end in SIGBUS where /dev/shm is small.
"""

import atexit
import glob
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shoal.base.errors import InputError, NotFoundError, StorageFullError
from shoal.base.files import report_full_storage
from shoal.base.ids import new_token


class SharedBlock:
    """A fixed-size piece of memory with a name; made by `create`, joined by `attach`.

    Who writes where and when is the business of its users: there is no lock. The creating process unlinks it at exit;
    because a killed process cannot, its supervisor calls `unlink_name` too. Unlinking twice is fine, and processes
    that are attached keep their memory.
    """

    def __init__(self, name: str, memory: mmap.mmap, creator: int | None) -> None:
        self.name = name
        self._memory = memory
        self._creator = creator

    @classmethod
    def create(cls, size_bytes: int, *, name: str | None = None) -> "SharedBlock":
        """Make a block of zeros.

        Args:
            size_bytes: at least 1.
            name: under which `find` on this machine gets it, for processes that agreed on names beforehand; theirs to
                choose so that it is never used twice. None makes up one that nobody can guess.

        Raises:
            StorageFullError: there is no room for it, neither in memory nor in the temporary folder.
        """
        if size_bytes < 1:
            raise InputError(f"cannot share {size_bytes} bytes", next_step="ask for at least one byte")
        *first, last = _folders()
        for folder in first:
            try:
                return cls._create_in(folder, size_bytes, name)
            except StorageFullError:
                # Containers often have 64 MiB of /dev/shm; a mapped temporary file is as correct, only less quick.
                continue
        return cls._create_in(last, size_bytes, name)

    @classmethod
    def _create_in(cls, folder: Path, size_bytes: int, name: str | None) -> "SharedBlock":
        final = None if name is None else folder / f"shoal-{name}"
        path = folder / f"shoal-{os.getpid()}-{new_token(12)}" if final is None else Path(f"{final}-unready")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with report_full_storage(path):
                if hasattr(os, "posix_fallocate"):
                    # Reserve now: a later touch of a page that cannot be had would kill the process.
                    os.posix_fallocate(descriptor, 0, size_bytes)
                else:
                    os.ftruncate(descriptor, size_bytes)
            # Whoever waits for an agreed name must never find a block that has no bytes yet.
            block = cls(
                str(path if final is None else path.rename(final)), mmap.mmap(descriptor, size_bytes), os.getpid()
            )
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        atexit.register(block._unlink_at_exit)
        return block

    @classmethod
    def attach(cls, name: str) -> "SharedBlock":
        """Join a block that another process made; NotFoundError when it is gone."""
        try:
            descriptor = os.open(name, os.O_RDWR)
        except FileNotFoundError as error:
            raise NotFoundError(
                f"cannot attach the shared block {name}: it is gone", next_step="ask its creator for a new one"
            ) from error
        try:
            return cls(name, mmap.mmap(descriptor, 0), None)
        finally:
            os.close(descriptor)

    @classmethod
    def find(cls, name: str) -> "SharedBlock | None":
        """Join the block that another process made under an agreed name; None while there is none."""
        for folder in _folders():
            try:
                return cls.attach(str(folder / f"shoal-{name}"))
            except NotFoundError:
                continue
        return None

    @property
    def size_bytes(self) -> int:
        """The size it was made with."""
        return len(self._memory)

    def view(self, dtype: npt.DTypeLike, shape: tuple[int, ...], offset: int = 0) -> npt.NDArray[Any]:
        """Return a writable array over the block from byte `offset`; InputError when it does not fit."""
        num_items = int(np.prod(shape, dtype=np.int64))
        size = np.dtype(dtype).itemsize * num_items
        if offset < 0 or offset + size > self.size_bytes:
            raise InputError(
                f"cannot view {np.dtype(dtype)} {list(shape)} at byte {offset}: it needs {size} bytes, "
                f"the block has {self.size_bytes}",
                next_step="create a larger block",
            )
        # Not ndarray(buffer=...): that does not hold the mapping, and closing it would pull it from under the array.
        return np.frombuffer(self._memory, dtype, num_items, offset).reshape(shape)

    def close(self) -> None:
        """Give this process's mapping back; where arrays still look into it, that happens when the last one goes."""
        try:
            self._memory.close()
        except BufferError:
            return

    def unlink(self) -> None:
        """Remove the name; the memory goes when the last attached process lets go."""
        self.unlink_name(self.name)
        if self._creator is not None:
            atexit.unregister(self._unlink_at_exit)

    @staticmethod
    def unlink_name(name: str) -> None:
        """Remove a block by name, for a supervisor whose child was killed; nothing happens when it is gone."""
        Path(name).unlink(missing_ok=True)

    @staticmethod
    def unlink_all_of(pid: int) -> None:
        """Remove every block that a process made and that still has its name, once that process is gone."""
        for folder in _folders():
            for path in folder.glob(f"shoal-{pid}-*"):
                path.unlink(missing_ok=True)

    @staticmethod
    def unlink_all_named(prefix: str) -> None:
        """Remove every block whose agreed name begins so, once those who made them are gone."""
        for folder in _folders():
            for path in folder.glob(f"shoal-{glob.escape(prefix)}*"):
                path.unlink(missing_ok=True)

    def _unlink_at_exit(self) -> None:
        # A forked child runs its parent's exit hooks too, and must not take the parent's block away.
        if self._creator == os.getpid():
            self.unlink_name(self.name)


def _folders() -> list[Path]:
    memory = Path("/dev/shm")  # noqa: S108  # the memory file system of Linux, with random names and mode 0600
    temporary = Path(tempfile.gettempdir())
    return [memory, temporary] if os.access(memory, os.W_OK) else [temporary]
