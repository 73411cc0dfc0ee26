"""Files on their way into a dataset: made aside, then given their names; nothing half-written is ever in sight."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from shoal.base import (
    ConflictError,
    CorruptError,
    ShardMissingError,
    digest_bytes,
    file_lock,
    fsync_folder,
    new_token,
    report_full_storage,
    write_atomic,
)
from shoal.data.remote.shadows import file_at
from shoal.data.statistics.profile import Profile
from shoal.data.storage.latch import latch
from shoal.data.storage.shard import Shard, check_shard
from shoal.data.versions.manifest import version_numbers

_MAX_ATTEMPTS = 20
_CLAIM = ".claim"


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """Give a folder inside the dataset's for files in the making; it is gone when the block ends, however it ends.

    What a killed process left behind is removed first. Any number of processes may each hold one.
    """
    incoming = folder / "incoming"
    _remove_abandoned(incoming)
    token = new_token(8)
    lock = incoming / f"{token}.lock"
    # The lock tells the living from the dead: it ends with its process, which a file's age or a process id cannot say.
    with ExitStack() as stack:
        _enter_lock(stack, lock)
        work = incoming / token
        work.mkdir()
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)
            lock.unlink(missing_ok=True)
            _remove_if_never_filled(folder)


def _enter_lock(stack: ExitStack, lock: Path) -> None:
    for _ in range(_MAX_ATTEMPTS):
        # A first ingest that fails at this moment may remove the folder between its making and the lock's.
        with suppress(FileNotFoundError):
            stack.enter_context(file_lock(lock))
            # Between its making and its locking a rival may have taken the file for a dead one's and removed it: then
            # nobody would ever find out that we died.
            if lock.exists():
                return
            stack.pop_all().close()
    stack.enter_context(file_lock(lock))


def _remove_abandoned(incoming: Path) -> None:
    for lock in incoming.glob("*.lock"):
        with suppress(ConflictError, FileNotFoundError), file_lock(lock, blocking=False):
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)


def _remove_if_never_filled(folder: Path) -> None:
    if version_numbers(folder):
        return
    # A first ingest that failed leaves no trace; a folder that someone else has put something into stays.
    for name in ("incoming", "."):
        with suppress(OSError):
            (folder / name).resolve().rmdir()


def place_shard(made: Path, folder: Path, shard: Shard) -> None:
    """Move a finished file under its shard's name, durably.

    An intact file that is there already stays; a damaged one is replaced: so ingesting again repairs a dataset. From
    here until the work folder that `made` lies in is gone, garbage collection leaves the shard alone.
    """
    target = folder / "shards" / shard.file_name
    with latch(folder), report_full_storage(target):
        # Before the look at what is there: a file that is relied upon must not be collected between look and version.
        (made.parent / f"{shard.file_name}{_CLAIM}").touch()
    try:
        # Not trusted by its name: a file that was damaged since is what the user may be here to repair.
        check_shard(target, shard, again=False)
    except (ShardMissingError, CorruptError):
        target.parent.mkdir(exist_ok=True)
        with report_full_storage(target):
            _flush(made)
            made.replace(target)
            fsync_folder(target.parent)


def claimed_names(folder: Path) -> set[str]:
    """Return the names of shards that living work folders will need, or a version names by now.

    Whoever removes files holds the latch and asks this first, and then which versions there are: the other way round
    a shard could pass from one list to the other unseen.
    """
    incoming = folder / "incoming"
    _remove_abandoned(incoming)
    while True:
        # Once more from the start when a work folder went while it was looked into: half a list would cost shards.
        with suppress(FileNotFoundError):
            return {path.name.removesuffix(_CLAIM) for path in incoming.rglob(f"*{_CLAIM}")}


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def store_profile(folder: Path, profile: Profile) -> str:
    """Keep a version's statistics under their digest, and return that."""
    data = profile.to_bytes()
    digest = digest_bytes(data)
    path = _profile_path(folder, digest)
    # Not trusted by its name: a file that was damaged since is mended by whoever stores the same again.
    if not path.exists() or path.read_bytes() != data:
        write_atomic(path, data)
    return digest


def load_profile(folder: Path, digest: str) -> Profile:
    """Read the statistics of a version.

    Raises:
        CorruptError: the file is missing or its bytes are not the ones that were stored.
    """
    path = file_at(folder, f"profiles/{profile_name(digest)}")
    data = path.read_bytes() if path.exists() else b""
    if digest_bytes(data) != digest:
        raise CorruptError(
            f"{path} is missing or was changed: {len(data)} bytes do not have the digest {digest}",
            next_step="restore the file from a copy, or ingest the source into a new folder",
        )
    return Profile.from_bytes(data)


def profile_name(digest: str) -> str:
    """Return the name of the file that holds the statistics with this digest."""
    return f"{digest.removeprefix('b3:')}.arrow"


def _profile_path(folder: Path, digest: str) -> Path:
    return folder / "profiles" / profile_name(digest)
