"""Artifacts: blobs by digest in the home folder, and a row for each that says what it is."""

from dataclasses import asdict
from pathlib import Path

from sqlalchemy import select, text

from shoal.base import Blobs, Clock
from shoal.store.database import Database
from shoal.store.records import Artifact, ArtifactKind
from shoal.store.schema import artifacts
from shoal.store.times import to_us

# Two processes may put the same content at once: the first row stays, the second changes nothing.
_KEEP_FIRST = text(
    "INSERT INTO artifacts (digest, kind, size_bytes, created_us) VALUES (:digest, :kind, :size_bytes, :created_us) "
    "ON CONFLICT (digest) DO NOTHING"
)


class SqlArtifacts:
    """The interface `Artifacts` on blobs and one table.

    The blob is there before its row: killed in between, the content is found by nobody and the next put adds the row.
    """

    def __init__(self, database: Database, *, blobs: Blobs, clock: Clock) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock

    def put_bytes(self, data: bytes) -> Artifact:
        """Keep the bytes."""
        return self._enter(self._blobs.put_bytes(data), "bytes")

    def put_file(self, path: Path) -> Artifact:
        """Keep a copy of the file."""
        return self._enter(self._blobs.put_file(path), "file")

    def put_folder(self, path: Path) -> Artifact:
        """Keep a copy of the folder."""
        return self._enter(self._blobs.put_folder(path), "folder")

    def path(self, digest: str) -> Path:
        """Where the content lies, to be read only."""
        return self._blobs.path(digest)

    def contains(self, digest: str) -> bool:
        """Whether `path` would find it."""
        return self._blobs.contains(digest)

    def _enter(self, digest: str, kind: ArtifactKind) -> Artifact:
        artifact = Artifact(digest=digest, kind=kind, size_bytes=_size_bytes(self._blobs.path(digest)))
        known = select(artifacts.c.digest).where(artifacts.c.digest == digest)
        # Most puts of a rerun flow are of known content: a look costs no turn among the writers.
        with self._database.read() as connection:
            found = connection.execute(known).scalar()
        if found is None:
            with self._database.write() as connection:
                connection.execute(_KEEP_FIRST, {**asdict(artifact), "created_us": to_us(self._clock.now())})
        return artifact


def _size_bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
