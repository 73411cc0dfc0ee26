"""Rows in, a version out: take a source in, write shards aside, then publish them with one manifest."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from shoal.base import InputError, SourceError
from shoal.data.ingestion.intake import Plan, Progress, Taken, take_in
from shoal.data.ingestion.parallel import Workers, take_in_parallel
from shoal.data.ingestion.sharding import Sharding, write_shards
from shoal.data.quality.refusals import Refusals, refused_rows
from shoal.data.quality.rules import Rules
from shoal.data.quality.spooling import UniqueSource
from shoal.data.schema import Schema
from shoal.data.sources.base import ParsingSource, RejectingSource, Source
from shoal.data.sources.facts import SourceFact
from shoal.data.versions.manifest import Manifest, Refused, load_manifest, version_numbers
from shoal.data.versions.publishing import Content, publish_append, publish_ingest, with_arrival
from shoal.data.versions.reconciliation import evolving
from shoal.data.versions.staging import place_shard, work_folder
from shoal.runtime import Runtime, open_runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingestion:
    """How a source becomes shards: their number, what rows are held to, and how many processes read."""

    sharding: Sharding = field(default_factory=Sharding)
    rules: Rules = field(default_factory=Rules)
    workers: int = 1
    runtime: str | Runtime = "local"

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise InputError(f"workers={self.workers} must be >= 1", next_step="leave it out for one")


def write_content(
    folder: Path,
    source: Source,
    *,
    key: str | None,
    sharding: Sharding | None = None,
    ingestion: Ingestion | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Make the dataset's newest content exactly the source's rows; a version that holds them already is returned.

    Args:
        folder: the dataset's.
        source: where the rows come from.
        key: what places them.
        sharding: how they are cut, where nothing else is to be said.
        ingestion: everything about how they come in.
        progress: called with the rows read so far.

    Raises:
        SourceError: the source is unreadable or empty. In any failure the dataset stays as it was.
    """
    ingestion = ingestion or Ingestion(sharding=sharding or Sharding())
    with work_folder(folder) as work:
        content, refused = _made(source, work, ingestion, None, key, progress)
        for shard in content.shards:
            place_shard(work / shard.file_name, folder, shard)
        if refused is not None:
            kept = write_content(_quarantine(folder), _RefusedSource(refused, content.sources), key=None)
            content = replace(content, quarantine=_address(folder, kept))
        return publish_ingest(folder, content, key)


def append_content(
    folder: Path,
    source: Source,
    base: Manifest,
    *,
    sharding: Sharding | None = None,
    ingestion: Ingestion | None = None,
    progress: Progress | None = None,
    expect: int | None = None,
    evolve: bool = False,
) -> Manifest:
    """Add the source's rows to the newest version, even when it is later than `base`, unless that is to be `expect`.

    Rows that were appended together before change nothing, however they are cut. With `evolve` their columns may
    differ from those of `base`. Refused rows are added to those that were refused before.
    """
    ingestion = ingestion or Ingestion(sharding=sharding or Sharding())
    with work_folder(folder) as work:
        given, schema = (evolving(source, base.columns), None) if evolve else (source, base.schema)
        made, refused = _made(given, work, ingestion, schema, base.key, progress)
        content = with_arrival(made, work, base.key)
        for shard in content.shards:
            place_shard(work / shard.file_name, folder, shard)
        if refused is not None:
            content = replace(content, quarantine=_added_to_quarantine(folder, refused, content.sources))
        return publish_append(folder, content, base.key, expect=expect, evolve=evolve)


def _made(
    source: Source, work: Path, ingestion: Ingestion, schema: Schema | None, key: str | None, progress: Progress | None
) -> tuple[Content, Path | None]:
    rules = ingestion.rules
    refusals = Refusals(work / "refused.arrow" if rules.on_bad == "quarantine" else None)
    if isinstance(source, RejectingSource):
        # A row that is dropped is counted all the same, so its source must tell of it.
        source.on_bad = "raise" if rules.on_bad == "raise" else "quarantine"
    if rules.schema is not None and isinstance(source, ParsingSource):
        source.expect({column.name: column.arrow_type() for column in rules.schema.columns})
    plan = Plan(key=key, schema=schema, rules=rules, run_bytes=ingestion.sharding.run_bytes)
    with ExitStack() as stack:
        workers: Workers | None = None
        if ingestion.workers > 1:
            pool = stack.enter_context(open_runtime(ingestion.runtime).pool(ingestion.workers))
            workers = Workers(pool, ingestion.workers)
        if rules.unique:
            source = UniqueSource(source, rules, key, work, refusals, progress)
            plan, progress = replace(plan, rules=Rules(on_bad=rules.on_bad)), None
        if workers is None:
            taken = take_in(source, work, plan, refusals, progress)
        else:
            taken = take_in_parallel(source, work, plan, refusals, workers, progress)
        return _content(taken, work, ingestion.sharding, refusals, workers), refusals.close()


def _content(taken: Taken, work: Path, sharding: Sharding, refusals: Refusals, workers: Workers | None) -> Content:
    if taken.schema is None or taken.runs is None or taken.runs.num_rows == 0:
        if refusals.num_rows:
            broken = "; ".join(f"{count} lack {rule}" for rule, count in refusals.counts.most_common(5))
            raise SourceError(
                f"the source holds no good row: all {refusals.num_rows} were refused ({broken})",
                next_step="check what the rules expect, and what the source reads",
            )
        raise SourceError("the source holds no rows", next_step="check what the source reads")
    columns = tuple(replace(column, nullable=column.name in taken.with_nulls) for column in taken.schema.columns)
    if workers is not None and taken.runs.paths:
        shards = workers.write_shards(taken.runs, Schema(columns), work, sharding)
    else:
        taken.runs.finish()
        shards = write_shards(taken.runs, Schema(columns), work, sharding)
    refused = tuple(Refused(reason=rule, num_rows=count) for rule, count in sorted(refusals.counts.items()))
    return Content(columns=columns, shards=shards, sources=taken.facts, profile=taken.profile, refused=refused)


class _RefusedSource:
    """Refused rows as they lie in their file, as a source of the quarantine's own dataset."""

    def __init__(self, path: Path, origins: tuple[SourceFact, ...]) -> None:
        self._path = path
        self._origins = origins

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        yield from refused_rows(self._path)

    def facts(self) -> tuple[SourceFact, ...]:
        return self._origins


def _quarantine(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-quarantine")


def _address(folder: Path, kept: Manifest) -> str:
    return f"{_quarantine(folder).name}@{kept.version}"


def _added_to_quarantine(folder: Path, refused: Path, origins: tuple[SourceFact, ...]) -> str:
    aside = _quarantine(folder)
    source = _RefusedSource(refused, origins)
    if not version_numbers(aside):
        return _address(folder, write_content(aside, source, key=None))
    return _address(folder, append_content(aside, source, load_manifest(aside)))
