"""A dataset version on disk: one sealed JSON file that names its shards, written once and never changed.

Most files say only what differs from the version before (added shards, removed ones, added sources); every 16th
version is written whole, so that opening any version reads at most 16 files.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from shoal.base import (
    ConflictError,
    CorruptError,
    InputError,
    NotFoundError,
    UnsupportedError,
    create_exclusive,
    decode,
    digest_json,
    fsync_folder,
    write_atomic,
)
from shoal.data.layout import Layout, layout_of, with_ids
from shoal.data.remote.shadows import bring_history, file_at, shadow_of
from shoal.data.schema import Column, Schema
from shoal.data.sources.facts import SourceFact
from shoal.data.storage.latch import latch
from shoal.data.storage.seal import check_seal, sealed
from shoal.data.storage.shard import Shard
from shoal.data.versions.fields import negative, wrong_columns, wrong_shard

FORMAT = 2
# A snapshot of 1,024 shards has 3 MB: 16 keeps a long history of small appends small, and opening it quick.
SNAPSHOT_EVERY = 16
_MAX_ATTEMPTS = 100
_SIBLING = re.compile(r"[^/\\\0]*[^/\\\0.][^/\\\0]*@[0-9]+")
_DIGEST = re.compile(r"b3:[0-9a-f]{64}")

Change = Literal["ingest", "append", "adopt", "reshard", "evolve", "prepare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """How many rows of the version's sources did not come in because they broke one rule; `reason` is the rule."""

    reason: str
    num_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything about one version. `digest` covers what is read: not the path, not the time, not the history.

    `parent` is the digest of the version before; `profile` the digest of the version's statistics. `layouts` say
    under which names the shards hold the columns, and `next_column` is the smallest id that no column ever had.
    `preparation` is the digest of the preparation that belongs to the version, and `quarantine` the address of the
    dataset with the refused rows, whose folder stands beside this one. `arrivals` are digests of the rows of each
    ingest and append, however they were cut into shards. `publish` fills in ids, layouts and the digest.
    """

    format: int = FORMAT
    version: int
    parent: str | None
    change: Change
    created: datetime
    columns: tuple[Column, ...]
    layouts: tuple[Layout, ...] = ()
    next_column: int = 0
    key: str | None
    shards: tuple[Shard, ...]
    sources: tuple[SourceFact, ...]
    arrivals: tuple[str, ...] = ()
    profile: str
    preparation: str | None = None
    quarantine: str | None = None
    refused: tuple[Refused, ...] = ()
    digest: str

    @property
    def schema(self) -> Schema:
        """The columns as a schema."""
        return Schema(self.columns)

    def layout(self, shard: Shard) -> Layout:
        """Return under which names the shard's file holds the columns."""
        return self.layouts[shard.layout] if self.layouts else layout_of(self.columns)

    def followed_by(self, change: Change, **changes: Any) -> "Manifest":  # noqa: ANN401 - any field
        """Return the version that comes after this one, made now, with `changes`; `publish` fills in its digest."""
        now = datetime.now(UTC)
        return replace(self, version=self.version + 1, parent=self.digest, change=change, created=now, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record(Manifest):
    # What a file says: with a `base`, `shards`, `sources` and `arrivals` are only what comes on top of that version.
    base: int | None = None
    removed: tuple[str, ...] = ()
    seal: str


def content_digest(
    columns: Sequence[Column],
    key: str | None,
    shards: Sequence[Shard],
    layouts: Sequence[Layout] = (),
    preparation: str | None = None,
) -> str:
    """Return the digest that names a version's content, wherever and whenever it was made."""
    content: dict[str, object] = {
        "columns": [(column.name, column.dtype, column.shape, column.nullable, column.is_list) for column in columns],
        "key": key,
        "shards": [shard.digest for shard in shards],
    }
    # Names inside the files count only where they differ: ids are an accident of the history.
    names = [column.name for column in columns]
    stored = [[layout.name_of(column) for column in columns] for layout in layouts]
    if any(stored[shard.layout] != names for shard in shards if layouts):
        content["stored"] = [stored[shard.layout] for shard in shards]
    if preparation is not None:
        content["preparation"] = preparation
    return digest_json(content)


def is_digest(text: str) -> bool:
    """Whether the text is a well-formed digest, and with that safe as a part of a file's name."""
    return _DIGEST.fullmatch(text) is not None


def version_numbers(folder: Path) -> list[int]:
    """Return the numbers of all versions in a dataset's folder, ascending; empty when it is no dataset."""
    names = (path.stem for path in (folder / "versions").glob("*.json"))
    return sorted(int(name) for name in names if name.isdecimal())


def load_manifest(folder: Path, version: int | None = None) -> Manifest:
    """Read a version, or the newest.

    Raises:
        NotFoundError: no dataset is there, or it lacks the version.
        CorruptError: the file, or one that it builds on, is damaged or names something outside the dataset.
        UnsupportedError: a later shoal wrote it.
    """
    if version is not None:
        _file_of(folder, version)
    known = version_numbers(folder)
    if not known or (version is not None and version not in known):
        found = f"its versions are {known[0]} to {known[-1]}" if known else "there is no dataset in this folder"
        asked = f"{folder}" if version is None else f"{folder}@{version}"
        raise NotFoundError(
            f"cannot open dataset {asked}: {found}", next_step="check the path, or make it with shoal.data.ingest"
        )
    number = known[-1] if version is None else version
    try:
        return _load(folder, number)
    except FileNotFoundError:
        # Garbage collection may have written this version whole and dropped its base while we stood between them.
        try:
            return _load(folder, number)
        except FileNotFoundError as error:
            raise CorruptError(
                f"cannot read {manifest_path(folder, number)}: {error.filename}, which it builds on, is not there",
                next_step="shoal.data.repair(path) brings it back from the mirror or a copy; or open another version",
            ) from error


def load_history(folder: Path, version: int) -> tuple[Manifest, ...]:
    """Read all versions up to this one that are there, the oldest first; each file is read once.

    Raises:
        CorruptError: a version's file is damaged.
    """
    bring_history(folder, version)
    known: dict[int, Manifest] = {}
    for number in version_numbers(folder):
        if number <= version:
            known[number] = _load(folder, number, known)
    return tuple(known.values())


def find_content(folder: Path, digest: str) -> Manifest | None:
    """Return the newest version with this content digest, or None; only the versions' own files are read."""
    for number in reversed(version_numbers(folder)):
        if _read_record(folder, number).digest == digest:
            return _load(folder, number)
    return None


def publish(folder: Path, make: Callable[[Manifest | None], Manifest], *, expect: int | None = None) -> Manifest:
    """Write the next version that `make` derives from the newest; rivals who publish first are built upon.

    `make` may return an existing version, and then nothing is written. It is called again for each attempt, while
    the dataset's latch is held: what it stores is not collected as garbage before the version names it.

    Args:
        folder: the dataset's.
        make: gets the newest version, or None, and returns the one that follows.
        expect: the version that must be the newest.

    Raises:
        ConflictError: others were first 100 times, or the newest version is not `expect`.
    """
    shadow = shadow_of(folder)
    if shadow is not None:
        # Before the latch, as this may take long; what is in the store and not named by a version harms nobody.
        shadow.upload_shards()
        shadow.bring_all_versions()
    for _ in range(_MAX_ATTEMPTS):
        with latch(folder):
            known = version_numbers(folder)
            if expect is not None and known[-1:] != [expect]:
                raise _not_expected(folder, known, expect)
            newest = load_manifest(folder, known[-1]) if known else None
            # Derived anew for each attempt: a rival's rows become part of this version instead of being overwritten.
            manifest = make(newest)
            if manifest.version in known:
                return manifest
            manifest = _completed(manifest, newest)
            _make_names_durable(folder)
            try:
                create = create_exclusive if shadow is None else shadow.create_version
                create(manifest_path(folder, manifest.version), _to_bytes(manifest, newest))
            except ConflictError:
                # The latch holds on one machine; on a shared disk another machine may still be first.
                continue
            return manifest
    raise ConflictError(
        f"cannot publish a new version of {folder}: others were first {_MAX_ATTEMPTS} times in a row",
        next_step="append fewer, larger batches, or from fewer processes at once",
    )


def write_whole(folder: Path, version: int) -> None:
    """Write a version's file anew so that it needs no other; it says the same as before. The caller holds the latch."""
    if _read_record(folder, version).base is not None:
        write_atomic(manifest_path(folder, version), _to_bytes(load_manifest(folder, version), None))


def base_of(folder: Path, version: int) -> int | None:
    """Return the version that this one's file builds on; None when it is whole."""
    return _read_record(folder, version).base


def manifest_path(folder: Path, version: int) -> Path:
    """Return where a version's file lies."""
    return folder / "versions" / f"{version:06d}.json"


def _not_expected(folder: Path, known: Sequence[int], expect: int) -> ConflictError:
    found = f"its newest version is {known[-1]}" if known else "there is no version yet"
    return ConflictError(
        f"cannot build on {folder}@{expect}: {found}, as someone else published since",
        next_step="open the newest version, look at what changed with diff, and do it again on top of that",
    )


def _completed(manifest: Manifest, newest: Manifest | None) -> Manifest:
    known, next_column = (newest.columns, newest.next_column) if newest else ((), 0)
    columns, next_column = with_ids(manifest.columns, known, max(next_column, manifest.next_column))
    layouts = manifest.layouts or (layout_of(columns),)
    digest = content_digest(columns, manifest.key, manifest.shards, layouts, manifest.preparation)
    made = replace(manifest, columns=columns, next_column=next_column, layouts=layouts, digest=digest)
    if problem := _problem(made):
        raise InputError(f"cannot publish {folder_name(made)}: {problem}", next_step="name only what lies inside")
    return made


def folder_name(manifest: Manifest) -> str:
    """Return how a version is called in a message where its folder is not known."""
    return f"version {manifest.version}"


def _problem(manifest: Manifest) -> str | None:
    # Every name that ever becomes part of a path: a manifest from elsewhere must not reach outside its folder.
    digests = [*(shard.digest for shard in manifest.shards), manifest.profile, manifest.preparation]
    for digest in digests:
        if digest is not None and not is_digest(digest):
            return f"{digest!r} is not a digest and could name a file outside the dataset's folder"
    if manifest.quarantine is not None and _SIBLING.fullmatch(manifest.quarantine) is None:
        return f"the quarantine {manifest.quarantine!r} is not a folder beside this one, as in clicks-quarantine@1"
    if any(not 0 <= shard.layout < len(manifest.layouts) for shard in manifest.shards):
        return f"a shard names a layout that is none of the {len(manifest.layouts)}"
    return None


def _to_bytes(manifest: Manifest, base: Manifest | None) -> bytes:
    said: dict[str, object] = {field.name: getattr(manifest, field.name) for field in fields(Manifest)}
    said |= {"base": None, "removed": ()}
    if base is not None and manifest.version % SNAPSHOT_EVERY != 1 and (change := _difference(manifest, base)):
        said |= change
    return sealed(said)


def _difference(manifest: Manifest, base: Manifest) -> Mapping[str, object] | None:
    before, after = {s.digest: s for s in base.shards}, {s.digest: s for s in manifest.shards}
    kept = [shard for shard in base.shards if after.get(shard.digest) == shard]
    added = [shard for shard in manifest.shards if before.get(shard.digest) != shard]
    is_added = (
        [*kept, *added] == list(manifest.shards)
        and manifest.sources[: len(base.sources)] == base.sources
        and manifest.arrivals[: len(base.arrivals)] == base.arrivals
    )
    # A version that shares little with the one before says as much in one piece, and opens from one file.
    if not is_added or len(kept) < len(added):
        return None
    return {
        "base": base.version,
        "removed": [shard.digest for shard in base.shards if after.get(shard.digest) != shard],
        "shards": added,
        "sources": manifest.sources[len(base.sources) :],
        "arrivals": manifest.arrivals[len(base.arrivals) :],
    }


def _load(folder: Path, version: int, known: Mapping[int, Manifest] = MappingProxyType({})) -> Manifest:
    record = _read_record(folder, version)
    deltas, manifest = [], None
    while record.base is not None:
        deltas.append(record)
        if (manifest := known.get(record.base)) is not None:
            break
        record = _read_record(folder, record.base)
    if manifest is None:
        manifest = _checked(_manifest(record, {}), manifest_path(folder, record.version))
    for delta in reversed(deltas):
        removed = set(delta.removed)
        whole = {
            "shards": (*(shard for shard in manifest.shards if shard.digest not in removed), *delta.shards),
            "sources": (*manifest.sources, *delta.sources),
            "arrivals": (*manifest.arrivals, *delta.arrivals),
        }
        manifest = _checked(_manifest(delta, whole), manifest_path(folder, delta.version))
    return manifest


def _manifest(record: _Record, whole: Mapping[str, object]) -> Manifest:
    return Manifest(**({field.name: getattr(record, field.name) for field in fields(Manifest)} | dict(whole)))


def _checked(manifest: Manifest, path: Path) -> Manifest:
    problem = _problem(manifest)
    if problem is None:
        found = content_digest(manifest.columns, manifest.key, manifest.shards, manifest.layouts, manifest.preparation)
        problem = None if found == manifest.digest else f"its content has the digest {found}, not {manifest.digest}"
    if problem is not None:
        raise CorruptError(
            f"{path} was changed: {problem}",
            next_step="do not use it; shoal.data.repair(path) brings it back from the mirror or a copy",
        )
    return manifest


def _read_record(folder: Path, version: int) -> _Record:
    path = _file_of(folder, version)
    data = path.read_bytes()
    check_seal(data, path)
    try:
        # Told by the seal that these are the writer's bytes: another format is a later shoal's, not damage.
        if (found := decode(data, _Format).format) > FORMAT:
            raise UnsupportedError(
                f"cannot read {path}: it has format {found}, and this shoal knows up to {FORMAT}",
                next_step="install a newer shoal: pip install --upgrade shoal",
            )
        record = decode(data, _Record)
    except InputError as error:
        raise CorruptError(
            f"cannot read {path}: {error.message}", next_step="restore the file, or open another version"
        ) from error
    if record.version != version or (record.base is not None and not 0 < record.base < version):
        raise CorruptError(
            f"{path} was moved: it is version {record.version} on top of {record.base}",
            next_step="shoal.data.repair(path) brings it back from the mirror or a copy; or open another version",
        )
    if problem := _wrong_field(record):
        raise CorruptError(
            f"{path} was changed: {problem}",
            next_step="shoal.data.repair(path) brings it back from the mirror or a copy; or open another version",
        )
    return record


def _wrong_field(record: _Record) -> str | None:
    # Of a delta only what it adds: what stands in its base is checked there.
    for place, shard in enumerate(record.shards):
        if problem := wrong_shard(shard):
            return f"in shards[{place}], {problem}"
    counts = [
        *((f"sources[{place}].num_rows", fact.num_rows) for place, fact in enumerate(record.sources)),
        *((f"refused[{place}].num_rows", refused.num_rows) for place, refused in enumerate(record.refused)),
        ("next_column", record.next_column),
    ]
    return wrong_columns(record.columns, record.key) or negative(counts)


def _file_of(folder: Path, version: int) -> Path:
    return file_at(folder, manifest_path(folder, version).relative_to(folder).as_posix())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    format: int


def _make_names_durable(folder: Path) -> None:
    # A manifest that outlives a power cut must find the folders of what it names: their own names are flushed first.
    (folder / "versions").mkdir(parents=True, exist_ok=True)
    fsync_folder(folder)
    fsync_folder(folder.parent)
