"""A dataset version on disk: one JSON file that names its shards, written once and never changed."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from shoal.base import (
    ConflictError,
    CorruptError,
    InputError,
    NotFoundError,
    create_exclusive,
    decode,
    digest_json,
    fsync_folder,
    pretty,
)
from shoal.data.schema import Column, Schema
from shoal.data.shard import Shard

FORMAT = 1
_MAX_ATTEMPTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFact:
    """Where rows came from: `path` is a file or says what was handed over; `digest` is None for rows from memory."""

    path: str
    digest: str | None
    num_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything about one version. `digest` covers columns, key and the shards in order: not the path, not the time.

    `parent` is the digest of the version before; `profile` the digest of the version's statistics.
    """

    format: int = FORMAT
    version: int
    parent: str | None
    change: Literal["ingest", "append", "adopt"]
    created: datetime
    columns: tuple[Column, ...]
    key: str | None
    shards: tuple[Shard, ...]
    sources: tuple[SourceFact, ...]
    profile: str
    digest: str

    @property
    def schema(self) -> Schema:
        """The columns as a schema."""
        return Schema(self.columns)


def content_digest(columns: tuple[Column, ...], key: str | None, shards: tuple[Shard, ...]) -> str:
    """Return the digest that names a version's content, wherever and whenever it was made."""
    return digest_json({"columns": columns, "key": key, "shards": [shard.digest for shard in shards]})


def version_numbers(folder: Path) -> list[int]:
    """Return the numbers of all versions in a dataset's folder, ascending; empty when it is no dataset."""
    names = (path.stem for path in (folder / "versions").glob("*.json"))
    return sorted(int(name) for name in names if name.isdigit())


def load_manifest(folder: Path, version: int | None = None) -> Manifest:
    """Read a version, or the newest.

    Raises:
        NotFoundError: no dataset is there, or it lacks the version.
        CorruptError: the file is damaged or of a later format.
    """
    known = version_numbers(folder)
    if not known or (version is not None and version not in known):
        found = f"its versions are {known[0]} to {known[-1]}" if known else "there is no dataset in this folder"
        asked = f"{folder}" if version is None else f"{folder}@{version}"
        raise NotFoundError(
            f"cannot open dataset {asked}: {found}", next_step="check the path, or make it with shoal.data.ingest"
        )
    path = _manifest_path(folder, known[-1] if version is None else version)
    try:
        manifest = decode(path.read_bytes(), Manifest)
    except InputError as error:
        raise CorruptError(
            f"cannot read {path}: {error.message}", next_step="restore the file, or open another version"
        ) from error
    # The file has no digest of its own, but the content's digest follows from everything that decides what is read.
    if manifest.format != FORMAT or manifest.digest != content_digest(manifest.columns, manifest.key, manifest.shards):
        raise CorruptError(
            f"{path} was changed or is of a later format ({manifest.format}, expected {FORMAT}): its content does not "
            f"have its digest {manifest.digest}",
            next_step="restore the file, or use a newer shoal",
        )
    return manifest


def publish(folder: Path, make: Callable[[Manifest | None], Manifest]) -> Manifest:
    """Write the next version that `make` derives from the newest; rivals who publish first are built upon.

    `make` may return an existing version, and then nothing is written. It is called again for each attempt.

    Raises:
        ConflictError: others were first 100 times.
    """
    for _ in range(_MAX_ATTEMPTS):
        known = version_numbers(folder)
        # Derived anew for each attempt: a rival's rows become part of this version instead of being overwritten.
        manifest = make(load_manifest(folder, known[-1]) if known else None)
        if manifest.version in known:
            return manifest
        _make_names_durable(folder)
        try:
            create_exclusive(_manifest_path(folder, manifest.version), pretty(manifest).encode())
        except ConflictError:
            continue
        return manifest
    raise ConflictError(
        f"cannot publish a new version of {folder}: others were first {_MAX_ATTEMPTS} times in a row",
        next_step="append fewer, larger batches, or from fewer processes at once",
    )


def _make_names_durable(folder: Path) -> None:
    # A manifest that outlives a power cut must find the folders of what it names: their own names are flushed first.
    (folder / "versions").mkdir(parents=True, exist_ok=True)
    fsync_folder(folder)
    fsync_folder(folder.parent)


def _manifest_path(folder: Path, version: int) -> Path:
    return folder / "versions" / f"{version:06d}.json"
