"""From shards in a dataset's folder to a version that names them: what is new, what is known, who was first."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from shoal.base import ConflictError, SourceError
from shoal.data.layout import layout_of, with_ids
from shoal.data.schema import EVOLVE_HINT, Column, Schema
from shoal.data.sources.facts import SourceFact
from shoal.data.statistics.profile import Profile
from shoal.data.storage.shard import Shard, ShardFile
from shoal.data.versions.arrival import arrival_digest
from shoal.data.versions.evolution import evolved_profile
from shoal.data.versions.manifest import Change, Manifest, Refused, content_digest, find_content, publish
from shoal.data.versions.preparations import kept_preparation
from shoal.data.versions.reconciliation import placed
from shoal.data.versions.staging import load_profile, store_profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What came out of a source: nothing of it is part of the dataset before a version names it.

    `arrival` is the digest of the rows themselves, however they are cut into shards; None where it is not known.
    `quarantine` is the address of the dataset that holds the rows that were refused.
    """

    columns: tuple[Column, ...]
    shards: tuple[Shard, ...]
    sources: tuple[SourceFact, ...]
    profile: Profile
    arrival: str | None = None
    quarantine: str | None = None
    refused: tuple[Refused, ...] = ()


def with_arrival(content: Content, work: Path, key: str | None) -> Content:
    """Return the content with the digest of its rows, which are read from the shards that still lie in `work`."""
    schema = Schema(content.columns)
    batches = (
        batch
        for shard in content.shards
        for batch in ShardFile(work / shard.file_name, shard, schema).batches(0, shard.num_rows, schema)
    )
    return replace(content, arrival=arrival_digest(batches, schema, key))


def publish_ingest(folder: Path, content: Content, key: str | None) -> Manifest:
    """Make the content the newest version; one that holds exactly it already is returned instead."""
    digest = content_digest(content.columns, key, content.shards)

    def make(newest: Manifest | None) -> Manifest:
        # Newest first, but any version will do: after an append, the first content is still version 1.
        known = find_content(folder, digest)
        # The same rows after others were refused: what was refused is part of what a version says.
        is_same = known is not None and (known.quarantine, known.refused) == (content.quarantine, content.refused)
        if known is None or not is_same:
            return next_version(folder, newest, "ingest", key, content)
        # Its file may be lost or damaged, and ingesting again repairs a dataset.
        store_profile(folder, content.profile)
        return known

    return publish(folder, make)


def publish_append(
    folder: Path, content: Content, key: str | None, *, expect: int | None = None, evolve: bool = False
) -> Manifest:
    """Add the content to the newest version; rows that arrived in one piece before change nothing.

    The version's preparation stays as long as it can be applied to the columns as they are with the new rows.

    Raises:
        ConflictError: the newest version is not `expect`, or places its rows by another key by now.
        SchemaError: the newest version has other columns by now, and `evolve` does not let them differ.
    """

    def make(newest: Manifest | None) -> Manifest:
        if newest is not None and not _is_placed_alike(newest, content, key):
            raise ConflictError(
                f"cannot append to {folder}: its rows are placed by {newest.key or 'content'!r} by now, and the new "
                f"ones were read to be placed by {key or 'content'!r}",
                next_step="open the newest version and append to that",
            )
        return _extended(folder, newest, "append", key, content, evolve=evolve)

    return publish(folder, make, expect=expect)


def publish_adopted(folder: Path, contents: Sequence[Content]) -> Manifest:
    """Add contents of one shard each to the newest version; shards that it holds already are left out."""
    distinct = {content.shards[0].digest: content for content in contents}

    def make(newest: Manifest | None) -> Manifest:
        known = {shard.digest for shard in newest.shards} if newest else set()
        fresh = [content for digest, content in distinct.items() if digest not in known]
        if not fresh:
            if newest is None:
                raise SourceError("cannot make a dataset of no segments", next_step="give at least one file")
            return newest
        return _extended(folder, newest, "adopt", newest.key if newest else None, _joined(fresh))

    return publish(folder, make)


def next_version(folder: Path, newest: Manifest | None, change: Change, key: str | None, all_: Content) -> Manifest:
    """Return the version after `newest` that holds exactly this content; its profile is stored."""
    return Manifest(
        version=newest.version + 1 if newest else 1,
        parent=newest.digest if newest else None,
        change=change,
        created=datetime.now(UTC),
        columns=all_.columns,
        key=key,
        shards=all_.shards,
        sources=all_.sources,
        arrivals=(all_.arrival,) if all_.arrival else (),
        profile=store_profile(folder, all_.profile),
        quarantine=all_.quarantine,
        refused=all_.refused,
        digest=content_digest(all_.columns, key, all_.shards),
    )


def _is_placed_alike(newest: Manifest, content: Content, key: str | None) -> bool:
    if key is None or newest.key is None:
        return key == newest.key
    numbers = {column.name: column.id for column in content.columns}
    # By its id where there is one: a key that was renamed meanwhile still places rows alike.
    return newest.key == key or numbers.get(key) in {c.id for c in newest.columns if c.name == newest.key} - {None}


def _extended(
    folder: Path, newest: Manifest | None, change: Change, key: str | None, content: Content, *, evolve: bool = False
) -> Manifest:
    if newest is None:
        return next_version(folder, None, change, key, content)
    known = {shard.digest for shard in newest.shards}
    # All or nothing: two sources may share one shard by chance, and then the other's rows must still come in.
    if content.arrival in newest.arrivals or all(shard.digest in known for shard in content.shards):
        return newest
    if not evolve and any(column.id is None for column in content.columns):
        Schema(newest.columns).widened(Schema(content.columns), hint=EVOLVE_HINT)
    fresh, next_column = with_ids(content.columns, newest.columns, newest.next_column)
    columns = placed(newest.columns, fresh)
    layout = layout_of(fresh)
    layouts = newest.layouts if layout in newest.layouts else (*newest.layouts, layout)
    before = evolved_profile(load_profile(folder, newest.profile), newest.columns, columns)
    all_ = Content(
        columns=columns,
        shards=newest.shards + tuple(replace(shard, layout=layouts.index(layout)) for shard in content.shards),
        sources=newest.sources + content.sources,
        profile=before.merge(evolved_profile(content.profile, fresh, columns)),
        quarantine=content.quarantine or newest.quarantine,
        refused=_added(newest.refused, content.refused),
    )
    made = next_version(folder, newest, change, newest.key, all_)
    arrivals = newest.arrivals + ((content.arrival,) if content.arrival else ())
    preparation = newest.preparation
    if preparation is not None and columns != newest.columns:
        preparation = kept_preparation(folder, preparation, columns)
    return replace(made, layouts=layouts, next_column=next_column, arrivals=arrivals, preparation=preparation)


def _joined(contents: Sequence[Content]) -> Content:
    joined = contents[0]
    for content in contents[1:]:
        joined = Content(
            columns=Schema(joined.columns).widened(Schema(content.columns)).columns,
            shards=joined.shards + content.shards,
            sources=joined.sources + content.sources,
            profile=joined.profile.merge(content.profile),
            quarantine=content.quarantine or joined.quarantine,
            refused=_added(joined.refused, content.refused),
        )
    return joined


def _added(first: Sequence[Refused], second: Sequence[Refused]) -> tuple[Refused, ...]:
    counts = Counter({each.reason: each.num_rows for each in first})
    counts.update({each.reason: each.num_rows for each in second})
    return tuple(Refused(reason=reason, num_rows=count) for reason, count in sorted(counts.items()))
