"""A local folder that stands for a dataset in a store: what is asked for is fetched, what is published goes out first.

    <home>/cache/datasets/<place>/origin.json     the URL that the folders beside it are found under
    <home>/cache/datasets/<place>/<name>/         versions/, profiles/ ... of one dataset, and shards on their way out
    <home>/cache/shards/                          fetched shards of all datasets, in a bounded cache

A shadow looks like any dataset's folder, so nothing else needs to know of stores. It may be deleted at any time but
while something is being written: shards that have not been uploaded yet are nowhere else.
"""

import os
import re
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from shoal.base import (
    ConflictError,
    CorruptError,
    NotFoundError,
    RemoteError,
    UnsupportedError,
    load_settings,
    write_atomic,
)
from shoal.data.remote.disk_cache import DiskCache, Lease
from shoal.data.remote.elsewhere import fetch_elsewhere
from shoal.data.remote.fetching import Content, fetch_file
from shoal.data.remote.forking import is_forked_child
from shoal.data.remote.holding import HeldLeases
from shoal.data.remote.location import Location
from shoal.data.remote.objects import ObjectStore
from shoal.data.remote.retrying import Retrier
from shoal.data.storage.seal import check_seal
from shoal.data.storage.shard import Shard, trust_shard

_LINK = re.compile(rb"(\d{6,})\.json")
# Small files that a version needs besides its shards, by the field of its manifest that names them.
_ATTACHED = {"profile": "profiles/{}.arrow", "preparation": "preparations/{}.json"}
_MIN_LIMIT_BYTES = 1 << 30
# More versions than anybody makes: what has them all is a server that answers everything.
_MAX_PROBED = 1 << 20


class Shadow:
    """One dataset in a store, and the folder that stands for it. Any number of threads and processes at once."""

    def __init__(self, folder: Path, location: Location, retrier: Retrier | None = None) -> None:
        self.folder = folder
        self.location = location
        self.store = ObjectStore(location, retrier)
        cache = folder.parent.parent.parent / "shards"
        self.cache = DiskCache(cache, cache_limit_bytes(cache))
        # Half of it: two processes that read different shards must both be able to go on.
        self._held = HeldLeases(self.cache.limit_bytes // 2)
        self._in_store: set[str] = set()

    def bring_versions(self, version: int | None = None) -> int:
        """Fetch a version's file, or the newest one's, and return its number; those it builds on are fetched with it.

        Raises:
            NotFoundError: the store has no such dataset, or not this version.
        """
        known = self._version_numbers() if version is None else [version]
        if not known:
            raise NotFoundError(
                f"cannot open dataset {self.location}: there is no version in that place",
                next_step="check the URL, or make it with shoal.data.ingest",
            )
        number = known[-1]
        try:
            data = self.store.read(_version_key(number))
        except NotFoundError as error:
            found = self._version_numbers()
            raise NotFoundError(
                f"cannot open dataset {self.location}@{number}: "
                + (f"its versions are {found[0]} to {found[-1]}" if found else "there is no version in that place"),
                next_step="check the URL, or make it with shoal.data.ingest",
            ) from error
        check_seal(data, self.location.child(_version_key(number)))
        local = self.folder / _version_key(number)
        if local.exists() and local.read_bytes() != data:
            # Somebody made another dataset in this place: nothing that is remembered of the first one counts.
            shutil.rmtree(self.folder / "versions", ignore_errors=True)
        write_atomic(local, data)
        # A file says what changed since the version before, and every 16th is whole: one round brings all of these.
        first = number - (number - 1) % 16
        self._bring(_version_key(other) for other in range(first, number))
        for field, key in _ATTACHED.items():
            if named := re.search(rb'"%s": "b3:([0-9a-f]{64})"' % field.encode(), data):
                self.bring(key.format(named[1].decode()))
        return number

    def bring_all_versions(self) -> None:
        """Fetch the files of all versions that the store has, as a writer needs them; those it lacks are removed."""
        found = {_version_key(number) for number in self._version_numbers()}
        if found:
            self.bring_versions()
        for path in (self.folder / "versions").glob("*.json"):
            if f"versions/{path.name}" not in found:
                path.unlink(missing_ok=True)
        self._bring(found)

    def bring(self, key: str) -> None:
        """Fetch one small file, unless it is there.

        Raises:
            NotFoundError: the store does not have it.
        """
        if not (self.folder / key).exists():
            write_atomic(self.folder / key, self.store.read(key))
        self._in_store.add(key)

    def bring_history(self, version: int) -> None:
        """Fetch the files of all versions up to this one that the store has."""
        if not all((self.folder / _version_key(number)).exists() for number in range(1, version + 1)):
            self._bring(_version_key(number) for number in self._version_numbers() if number <= version)

    def bring_again(self, key: str) -> Path:
        """Fetch one small file in place of the one that is here, and return where it lies."""
        write_atomic(self.folder / key, self.store.read(key))
        return self.folder / key

    def replace_in_store(self, key: str, path: Path) -> None:
        """Put a file in place of what the store has under its name, damaged as that is.

        Raises:
            UnsupportedError: it is a web server.
        """
        self.check_writable()
        self.store.write(key, path)

    def shard_file(self, shard: Shard, *, num_together: int = 1) -> Path:
        """Return where the shard's file lies on this host, fetching it when it is not there; checked in either case.

        The file stays while this process uses few others; who needs it for longer takes `lease`. `num_together` is
        how many shards the caller fetches at once.
        """
        # Not uploaded yet: this is the only copy.
        if (waiting := self.folder / "shards" / shard.file_name).exists():
            return waiting
        lease = self._held.get(shard.file_name)
        if lease is None:
            lease = self.lease(shard, num_together=num_together)
            self._held.hold(shard.file_name, lease)
        return lease.path

    def lease(self, shard: Shard, *, num_together: int = 1) -> Lease:
        """Return the use of a shard's file, fetched when it is not there: it stays until the lease is closed."""
        made: list[os.stat_result] = []

        def make(target: Path) -> None:
            content = Content(shard.size_bytes, shard.sums, shard.chunk_bytes)
            key = f"shards/{shard.file_name}"
            if is_forked_child():
                fetch_elsewhere(self.store, key, target, content)
            else:
                fetch_file(self.store, key, target, content, num_together=num_together)
            made.append(target.stat())

        lease = self.cache.lease(shard.file_name, make, size_bytes=shard.size_bytes, digest=shard.digest)
        if made:
            # All of it was summed as it came: to do that again at the first touch would find nothing.
            trust_shard(lease.path, shard, made[-1])
        return lease

    def fetch_again(self, shard: Shard) -> Path:
        """Drop what is cached of a shard, damaged as it is, and fetch it anew."""
        self._held.release(shard.file_name)
        self.cache.discard(shard.file_name)
        return self.shard_file(shard)

    def check_writable(self) -> None:
        """Return when versions can be published there.

        Raises:
            UnsupportedError: it is a web server.
        """
        if self.location.scheme in ("http", "https"):
            raise UnsupportedError(
                f"cannot write to {self.location}: a web server cannot decide between two writers",
                next_step="write to the store behind it, such as s3://, or write a folder and upload that",
            )

    def upload_shards(self) -> None:
        """Upload every shard that was made here and is not in the store yet; then it is an ordinary cached file."""
        self.check_writable()
        for path in sorted((self.folder / "shards").glob("*.arrow")):
            key = f"shards/{path.name}"
            self._upload(key, path)
            # Its name is its digest.
            self.cache.adopt(path.name, path, f"b3:{path.stem}")

    def create_version(self, path: Path, data: bytes) -> None:
        """Publish a version's file: in the store first, where exactly one of several rivals succeeds, then here.

        Raises:
            ConflictError: someone else published this version; its file, and all that are new, have been fetched.
        """
        for key in _ATTACHED.values():
            for attached in sorted(self.folder.glob(key.format("*"))):
                self._upload(f"{attached.parent.name}/{attached.name}", attached)
        try:
            self.store.create(_version_key(int(path.stem)), data)
        except ConflictError:
            self.bring_all_versions()
            raise
        write_atomic(path, data)

    def _upload(self, key: str, path: Path) -> None:
        if key in self._in_store:
            return
        # Named by its digest: what is there under the name and of this size is the same.
        try:
            is_there = self.store.facts(key).size_bytes == path.stat().st_size
        except NotFoundError:
            is_there = False
        if not is_there:
            self.store.write(key, path)
        self._in_store.add(key)

    def _bring(self, keys: Iterable[str]) -> None:
        missing = [key for key in keys if not (self.folder / key).exists()]

        def bring(key: str) -> None:
            # Garbage collection may have removed an old one since it was listed.
            with suppress(NotFoundError):
                self.bring(key)

        with ThreadPoolExecutor(self.store.retrier.settings.num_requests) as pool:
            list(pool.map(bring, missing))

    def _version_numbers(self) -> list[int]:
        if self.location.scheme not in ("http", "https"):
            try:
                names = [facts.key.rpartition("/")[2].encode() for facts in self.store.names("versions")]
            except NotFoundError:
                return []
            return sorted(int(found[1]) for name in names if (found := _LINK.fullmatch(name)))
        with suppress(NotFoundError, RemoteError):
            # Most web servers show a folder as a page of links.
            if numbers := sorted({int(number) for number in _LINK.findall(self.store.read("versions"))}):
                return numbers
        return self._probed_numbers()

    def _probed_numbers(self) -> list[int]:
        # No list to be had: versions count from 1 without gaps, so the last one is found by doubling and halving.
        low, high = 0, 1
        while high <= _MAX_PROBED and self._has_version(high):
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._has_version(middle) else (low, middle)
        return list(range(1, low + 1))

    def _has_version(self, number: int) -> bool:
        # Read, and not only asked for: some servers answer any address with a page of their own.
        with suppress(NotFoundError, CorruptError):
            check_seal(data := self.store.read(_version_key(number)), number)
            return re.search(rb'"version": %d\b' % number, data) is not None
        return False


def cache_limit_bytes(folder: Path) -> int:
    """Return how many bytes of shards to keep: the setting `cache_bytes`, else half of what the disk has left."""
    if (chosen := load_settings().settings.cache_bytes) is not None:
        return chosen
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return max(_MIN_LIMIT_BYTES, (shutil.disk_usage(there).free + DiskCache(folder, 0).size_bytes) // 2)


def _version_key(number: int) -> str:
    return f"versions/{number:06d}.json"
