"""A URL as a place for whole files: what a mirror keeps a dataset's second copy in."""

from collections.abc import Mapping
from pathlib import Path

from shoal.base import NotFoundError, report_full_storage
from shoal.data.remote.location import parse_location
from shoal.data.remote.objects import ObjectStore
from shoal.data.remote.retrying import Retrier, TransientError


class RemotePlace:
    """Keeps files in a store under names such as "shards/1f….arrow"; any number of threads may use it.

    Filled with all files of a dataset it is one: it opens by its URL.
    """

    def __init__(
        self, url: str, *, options: Mapping[str, object] | None = None, retrier: Retrier | None = None
    ) -> None:
        self._store = ObjectStore(parse_location(url, options), retrier)

    def has(self, name: str) -> bool:
        """Whether a whole file is there."""
        return self._store.has(name)

    def names(self, folder: str) -> list[str]:
        """Return the names of all files in a folder, sorted; empty when there is none."""
        try:
            return [f"{folder}/{facts.key.rpartition('/')[2]}" for facts in self._store.names(folder)]
        except NotFoundError:
            return []

    def get(self, name: str, target: Path) -> None:
        """Write the file's bytes to `target`, all of them; NotFoundError when there is none."""

        def attempt() -> None:
            facts, pieces = self._store.stream(name)
            with report_full_storage(target), target.open("wb") as sink:
                num_bytes = sum(sink.write(piece) for piece in pieces)
            if num_bytes != facts.size_bytes:
                raise TransientError(f"{num_bytes} bytes came, expected {facts.size_bytes}")

        self._store.retrier.call(f"fetch {self._store.location.child(name)}", attempt)

    def put(self, name: str, source: Path) -> None:
        """Keep the file's bytes; when this returns they are in the store, before that nobody sees them."""
        self._store.write(name, source)

    def __str__(self) -> str:
        return str(self._store.location)

    def __repr__(self) -> str:
        return f"RemotePlace({str(self._store.location)!r})"
