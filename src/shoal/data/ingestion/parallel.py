"""Several processes take a source in: each reads, screens, hashes, profiles and sorts a part, and writes shards.

The parts are stretches of the source in order, so their sorted runs, merged in that order, give the bytes that one
process gives. What the processes exchange are files in the dataset's work folder.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from shoal.base import ShoalError, WorkerError
from shoal.data.ingestion.intake import Plan, Progress, Taken, take_in
from shoal.data.ingestion.sharding import Sharding, write_range
from shoal.data.quality.refusals import Refusals
from shoal.data.schema import Schema
from shoal.data.sources.base import SchemaWidenedError, Source
from shoal.data.sources.facts import SourceFact
from shoal.data.statistics.profile import Profile
from shoal.data.storage.shard import HashRange, Shard
from shoal.data.storage.sorting import SortedRuns
from shoal.runtime import Pool

R = TypeVar("R")
# More parts than processes: they are never equally heavy.
_PARTS_PER_WORKER = 2


@runtime_checkable
class SplittableSource(Source, Protocol):
    """A source that can be read in parts, by other processes."""

    def parts(self, num: int) -> Sequence[Source]:
        """Return sources that can be pickled, about `num` of them, whose rows one after the other are this one's."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one process made of its part; the rows are in the files of `runs`, the refused ones in `refused`."""

    schema: Schema | None
    runs: tuple[Path, ...]
    num_rows: int
    size_bytes: int
    profile: bytes
    with_nulls: frozenset[str]
    facts: tuple[SourceFact, ...]
    counts: dict[str, int]
    refused: Path | None


@dataclass(frozen=True, slots=True)
class Workers:
    """A pool, and how many it runs at once."""

    pool: Pool
    num: int

    def write_shards(self, runs: SortedRuns, schema: Schema, work: Path, sharding: Sharding) -> tuple[Shard, ...]:
        """Write runs that lie in files as shards into a work folder, as `sharding.write_shards` does."""
        target_bytes = sharding.target_for(runs.size_bytes)
        made = [
            self.pool.submit(_write_range, tuple(runs.paths), each, schema, work / f"range-{index}", target_bytes)
            for index, each in enumerate(sharding.ranges(runs.size_bytes))
        ]
        return tuple(shard for future in made for shard in _result(future))


def take_in_parallel(
    source: Source, work: Path, plan: Plan, refusals: Refusals, workers: Workers, progress: Progress | None = None
) -> Taken:
    """Read a source to its end in several processes, as `take_in` does in one.

    A source that cannot be split is read by this process alone.

    Raises:
        WorkerError: a process died.
    """
    parts = list(source.parts(workers.num * _PARTS_PER_WORKER)) if isinstance(source, SplittableSource) else []
    if len(parts) <= 1:
        return take_in(source, work, plan, refusals, progress)
    keeps = refusals.path is not None

    def submit(index: int, its_plan: Plan) -> "Future[Part]":
        return workers.pool.submit(take_part, parts[index], work, its_plan, index, keeps_refused=keeps)

    futures = [submit(index, plan) for index in range(len(parts))]
    try:
        return _merged(list(_agreeing(futures, submit, plan, progress)), work, plan, refusals)
    except SchemaWidenedError:
        # One part's types say nothing of the others': the source itself finds those that hold all of it.
        return take_in(source, work, plan, refusals, progress)


def take_part(source: Source, work: Path, plan: Plan, index: int, *, keeps_refused: bool) -> Part:
    """Take one part in, in a process of its own; all rows are in files when this returns."""
    # Pickled without one, or with that of its whole: types that were inferred from this part alone may differ.
    refusals = Refusals(work / f"refused-{index}.arrow" if keeps_refused else None)
    taken = take_in(source, work, plan, refusals, name=f"part-{index}")
    if taken.runs is not None:
        taken.runs.finish(spill=True)
    return Part(
        schema=taken.schema,
        runs=() if taken.runs is None else tuple(taken.runs.paths),
        num_rows=0 if taken.runs is None else taken.runs.num_rows,
        size_bytes=0 if taken.runs is None else taken.runs.size_bytes,
        profile=taken.profile.to_bytes(),
        with_nulls=frozenset(taken.with_nulls),
        facts=taken.facts,
        counts=dict(refusals.counts),
        refused=refusals.close(),
    )


def _agreeing(
    futures: "list[Future[Part]]",
    submit: "Callable[[int, Plan], Future[Part]]",
    plan: Plan,
    progress: Progress | None,
) -> Iterator[Part]:
    first: Schema | None = None
    num_rows = 0
    for index, future in enumerate(futures):
        part = _result(future)
        if part.schema is not None and first is None:
            first = part.schema
        if part.schema is not None and first is not None and part.schema != first:
            # The same columns in another order, or an error that names what differs.
            first.widened(part.schema)
            part = _result(submit(index, replace(plan, schema=first)))
        num_rows += part.num_rows
        if progress is not None:
            progress(num_rows)
        yield part


def _merged(parts: Sequence[Part], work: Path, plan: Plan, refusals: Refusals) -> Taken:
    schema = next((part.schema for part in parts if part.schema is not None), None)
    taken = Taken(schema, None if schema is None else SortedRuns(schema, work, plan.run_bytes), Profile(), set())
    facts: dict[tuple[str, str | None], SourceFact] = {}
    for part in parts:
        if taken.runs is not None:
            taken.runs.adopt(part.runs, num_rows=part.num_rows, size_bytes=part.size_bytes)
        taken.profile = taken.profile.merge(Profile.from_bytes(part.profile))
        taken.with_nulls |= part.with_nulls
        refusals.merge(part.counts, part.refused)
        for fact in part.facts:
            known = facts.get((fact.path, fact.digest))
            facts[fact.path, fact.digest] = replace(fact, num_rows=fact.num_rows + (known.num_rows if known else 0))
    taken.facts = tuple(facts.values())
    return taken


def _write_range(
    paths: Sequence[Path], hash_range: HashRange, schema: Schema, path: Path, target_bytes: int
) -> list[Shard]:
    runs = SortedRuns(schema, path.parent)
    runs.adopt(paths, num_rows=0, size_bytes=0)
    return write_range(runs, hash_range, schema, path, target_bytes)


def _result(future: "Future[R]") -> R:
    try:
        return future.result()
    except WorkerError as error:
        # What the source says is what the user needs to read, whichever process it was said in.
        if isinstance(error.__cause__, ShoalError):
            raise error.__cause__ from error
        raise
