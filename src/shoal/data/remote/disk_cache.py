"""Files in a folder, bounded in bytes and shared by all processes of a host: made once, checked, dropped when oldest.

    entries/<name>       whole files, nothing else
    locks/<name>.lock    who uses the entry (flock, shared); its content is the receipt, its time the last use
    partial/<name>       an entry in the making; who makes it holds a lock (flock) on the file itself, which becomes the
                         entry: files are what a cache of small entries spends its time on

Nothing here is the only copy of anything, and the folder may be deleted at any moment: files that are mapped live on,
others are made again.
"""

import fcntl
import os
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from shoal.base import ConflictError, InputError, NotFoundError, StorageFullError, digest_file

# Each round means that somebody removed the folder or the entry at just that moment.
_MAX_ROUNDS = 20
_SHARES = 8
# What is dropped beyond the need, as a part of the limit: a full cache is then counted once per many new entries.
_SPARE = 16


class _Receipt(msgspec.Struct, frozen=True):
    # The file as it was when its digest was last checked: an unchanged file need not be read again.
    digest: str
    size_bytes: int
    modified_ns: int
    changed_ns: int
    inode: int


class Lease:
    """The use of a cached file: while it is held, no process of this host drops the file. Close it, or lose it."""

    def __init__(self, path: Path, descriptor: int, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.close = weakref.finalize(self, os.close, descriptor)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class DiskCache:
    """A bounded cache of files, each under a name. Any number of processes and threads; limits are the caller's own.

    The bound holds for what is not in use: files under a lease are never dropped, so a cache that is smaller than what
    is needed at once grows for that while.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        if limit_bytes < 0:
            raise InputError(f"limit_bytes={limit_bytes} must be >= 0", next_step="use 0 to keep nothing unused")
        self.folder = folder
        self.limit_bytes = limit_bytes
        # How many bytes may still be added before all entries are counted again.
        self._slack_bytes = 0

    def lease(
        self, name: str, make: Callable[[Path], None], *, size_bytes: int = 0, digest: str | None = None
    ) -> Lease:
        """Return the use of an entry, making it when it is missing or damaged.

        Of all who ask at once one makes it, and the others wait. A maker that dies is replaced by the next.

        Args:
            name: the entry's file name.
            make: writes the whole content into the file at the path it is given (it is there, and must not be replaced
                by another), or raises.
            size_bytes: how large it will be, as far as known: room is made before.
            digest: what its content must have; None: what it had when it was made.

        Raises:
            StorageFullError: no room, even after everything unused was dropped.
        """
        for _ in range(_MAX_ROUNDS):
            if (lease := self._existing(name, digest)) is not None:
                return lease
            partial = self._partial(name)
            if (maker := _lock(partial, fcntl.LOCK_EX)) is None:
                # It was made, or given up, while we waited.
                continue
            try:
                if (lease := self._existing(name, digest)) is not None:
                    # While it is locked: who waits for it sees that its name is gone and begins anew.
                    partial.unlink(missing_ok=True)
                else:
                    lease = self._made(name, make, size_bytes, digest)
            finally:
                os.close(maker)
            if lease is not None:
                return lease
        raise ConflictError(
            f"cannot keep {name} in {self.folder}: it was removed {_MAX_ROUNDS} times as soon as it was there",
            next_step="stop what deletes the cache, or give it another folder",
        )

    def find(self, name: str) -> Lease | None:
        """Return the use of an entry that is there and intact, else None."""
        return self._existing(name, None)

    def adopt(self, name: str, source: Path, digest: str) -> None:
        """Move a whole file of this content into the cache, in place of what bears the name."""
        self._reserve(source.stat().st_size)
        descriptor = self._use(name)
        try:
            self._enter(source, name, descriptor, digest)
        finally:
            os.close(descriptor)

    def discard(self, name: str) -> None:
        """Remove an entry, in use or not: for one that turned out to be damaged."""
        self._entry(name).unlink(missing_ok=True)

    @property
    def size_bytes(self) -> int:
        """How many bytes the entries have, and those in the making."""
        return sum(size for _, _, size in self._contents())

    def make_room(self, num_bytes: int) -> None:
        """Drop the entries that were used longest ago until `num_bytes` more fit, or only used ones are left."""
        contents = self._contents()
        excess = sum(size for _, _, size in contents) + num_bytes - self.limit_bytes
        if excess > 0:
            least = -(self.limit_bytes // _SPARE)
            for _, path, size in sorted(contents):
                if excess <= least:
                    break
                if self._drop(path):
                    excess -= size
        # Counting costs time per entry, so it is not done for each new one: a process may add an eighth of what is
        # free before it counts again, which keeps the bound while up to eight processes fill the cache at once.
        self._slack_bytes = max(0, -excess // _SHARES)

    def _existing(self, name: str, digest: str | None) -> Lease | None:
        if not self._entry(name).exists():
            return None
        descriptor = self._use(name)
        try:
            size = self._checked(name, descriptor, digest)
            if size is not None:
                # In so many words: the system's own "now" moves in steps of milliseconds, and order is what counts.
                os.utime(descriptor, ns=(now := time.time_ns(), now))
                return Lease(self._entry(name), descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def _checked(self, name: str, descriptor: int, digest: str | None) -> int | None:
        path = self._entry(name)
        try:
            found = path.stat()
            receipt = _read_receipt(descriptor)
            expected = digest or (receipt.digest if receipt else None)
            if receipt is None or receipt != _receipt(receipt.digest, found) or receipt.digest != expected:
                if expected is None or digest_file(path) != expected:
                    path.unlink(missing_ok=True)
                    return None
                _write_receipt(descriptor, _receipt(expected, found))
        except (FileNotFoundError, NotFoundError):
            return None
        return found.st_size

    def _made(self, name: str, make: Callable[[Path], None], size_bytes: int, digest: str | None) -> Lease | None:
        partial = self._partial(name)
        descriptor: int | None = None
        try:
            self._reserve(size_bytes)
            descriptor = self._use(name)
            try:
                make(partial)
            except StorageFullError:
                # The disk is smaller than the limit says: everything unused goes before giving up.
                os.truncate(partial, 0)
                self.make_room(self.limit_bytes + self.size_bytes)
                make(partial)
            size = self._enter(partial, name, descriptor, digest or digest_file(partial))
        except BaseException as error:
            if descriptor is not None:
                os.close(descriptor)
            partial.unlink(missing_ok=True)
            # Somebody deleted the folder meanwhile: the next round starts over. Anything else is the maker's own.
            if isinstance(error, FileNotFoundError | NotFoundError) and not partial.parent.exists():
                return None
            raise
        if not size_bytes:
            self._reserve(size, is_there=True)
        return Lease(self._entry(name), descriptor, size)

    def _enter(self, path: Path, name: str, descriptor: int, digest: str) -> int:
        entry = self._entry(name)
        # Before the entry appears: who finds it with another change time digests it, but with no receipt it is removed.
        _write_receipt(descriptor, _receipt(digest, path.stat()))
        try:
            path.replace(entry)
        except FileNotFoundError:
            entry.parent.mkdir(parents=True, exist_ok=True)
            path.replace(entry)
        found = entry.stat()
        _write_receipt(descriptor, _receipt(digest, found))
        return found.st_size

    def _reserve(self, num_bytes: int, *, is_there: bool = False) -> None:
        # Threads may lose an update here: it is an estimate, and the next count mends it.
        self._slack_bytes -= num_bytes
        if self._slack_bytes < 0:
            self.make_room(0 if is_there else num_bytes)

    def _contents(self) -> list[tuple[int, Path, int]]:
        found = []
        for part in ("partial", "entries"):
            with suppress(FileNotFoundError), os.scandir(self.folder / part) as entries:
                for entry in entries:
                    with suppress(FileNotFoundError):
                        found.append((self._last_use_ns(entry.name), Path(entry.path), entry.stat().st_size))
        return found

    def _last_use_ns(self, name: str) -> int:
        try:
            return self._lock_path(name).stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def _drop(self, path: Path) -> bool:
        lock = path if path.parent.name == "partial" else self._lock_path(path.name)
        try:
            descriptor = _lock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if descriptor is None:
            # Just used, or just made.
            return False
        try:
            path.unlink(missing_ok=True)
            # While it is locked: who waits for it sees that its name is gone and begins anew.
            lock.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
        return True

    def _use(self, name: str) -> int:
        while (descriptor := _lock(self._lock_path(name), fcntl.LOCK_SH)) is None:
            pass
        return descriptor

    def _entry(self, name: str) -> Path:
        return self.folder / "entries" / name

    def _partial(self, name: str) -> Path:
        return self.folder / "partial" / name

    def _lock_path(self, name: str) -> Path:
        return self.folder / "locks" / f"{name}.lock"


def _lock(path: Path, kind: int) -> int | None:
    """Return the descriptor of a file that is locked, made when missing; None when it lost its name meanwhile."""
    descriptor = _opened(path)
    try:
        fcntl.flock(descriptor, kind)
        # A lock whose name was removed protects nothing: others lock a new file of that name.
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except FileNotFoundError:
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _opened(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    while True:
        try:
            return os.open(path, flags, 0o644)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)


def _receipt(digest: str, found: os.stat_result) -> _Receipt:
    return _Receipt(digest, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _read_receipt(descriptor: int) -> _Receipt | None:
    try:
        return msgspec.json.decode(os.pread(descriptor, 4_096, 0), type=_Receipt)
    except msgspec.MsgspecError:
        return None


def _write_receipt(descriptor: int, receipt: _Receipt) -> None:
    data = msgspec.json.encode(receipt)
    os.pwrite(descriptor, data, 0)
    # Last, and only when need be: another user may read it at any moment.
    if os.fstat(descriptor).st_size > len(data):
        os.ftruncate(descriptor, len(data))
