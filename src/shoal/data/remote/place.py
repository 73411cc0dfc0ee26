"""A URL as a place for whole files: what a mirror keeps a dataset's second copy in, and a run its checkpoints."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shoal.base import NotFoundError, report_full_storage
from shoal.data.remote.location import parse_location

# What talks to stores is loaded for the first of them: most runs keep their checkpoints in a folder.
if TYPE_CHECKING:
    from shoal.data.remote.objects import ObjectFacts
    from shoal.data.remote.retrying import Retrier


class RemotePlace:
    """Keeps files in a store under names such as "shards/1f….arrow"; any number of threads may use it.

    Filled with all files of a dataset it is one: it opens by its URL.
    """

    def __init__(
        self, url: str, *, options: Mapping[str, object] | None = None, retrier: "Retrier | None" = None
    ) -> None:
        from shoal.data.remote.objects import ObjectStore

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
        from shoal.data.remote.retrying import TransientError

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

    def read(self, name: str) -> bytes:
        """Return the file's bytes; NotFoundError when there is none."""
        return self._store.read(name)

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Keep bytes from memory as `put` keeps a file's."""
        self._store.write(name, content)

    def remove(self, names: Sequence[str]) -> None:
        """Remove files; those that are not there count as removed."""
        self._store.delete(names)

    def facts(self) -> "list[ObjectFacts]":
        """Return size and age of all files here, also in folders, sorted by name; empty when there is none."""
        try:
            return self._store.names()
        except NotFoundError:
            return []

    def address(self, name: str) -> str:
        """Return the URL of a file or folder here."""
        return str(self._store.location.child(name))

    def __str__(self) -> str:
        return str(self._store.location)

    def __repr__(self) -> str:
        return f"RemotePlace({str(self._store.location)!r})"
