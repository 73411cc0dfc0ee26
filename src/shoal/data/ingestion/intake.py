"""A source's rows on their way to shards: screened, hashed, profiled and sorted while the next ones are being read."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from shoal.base import SchemaError
from shoal.data.hashing import row_hashes
from shoal.data.ingestion.stage import Stage
from shoal.data.quality.refusals import Refusals
from shoal.data.quality.rules import Rules
from shoal.data.quality.screening import Places, Screen, check_columns, pieces_of, take_rejects, target_schema
from shoal.data.schema import EVOLVE_HINT, Schema
from shoal.data.sources.base import SchemaWidenedError, Source
from shoal.data.sources.facts import SourceFact
from shoal.data.sources.positions import positions_of
from shoal.data.statistics.profile import Profile
from shoal.data.storage.sorting import RUN_BYTES, SortedRuns

# A source may give batches of any size. Pieces are large enough that a column costs one call and no more, and small
# enough for the cache that sorting works in.
_PIECE_ROWS = 65_536
_PIECE_BYTES = 8 << 20

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How rows are taken in: what places them, what they are held to, and the memory for sorting them.

    `schema` is what they must have, as the rows of an append must; None: what the first batch has.
    """

    key: str | None
    schema: Schema | None = None
    rules: Rules = field(default_factory=Rules)
    run_bytes: int = RUN_BYTES


@dataclass(slots=True)
class Taken:
    """What a source gave: sorted runs, statistics, and which columns had nulls; `schema` is None for no batch."""

    schema: Schema | None
    runs: SortedRuns | None
    profile: Profile
    with_nulls: set[str]
    facts: tuple[SourceFact, ...] = ()


def take_in(
    source: Source, work: Path, plan: Plan, refusals: Refusals, progress: Progress | None = None, *, name: str = "run"
) -> Taken:
    """Read a source to its end; what has to leave memory goes to files of this name in `work`.

    The source is read in the calling thread, which also hears of progress; two more threads work on what was read.

    Raises:
        SourceError: the source is unreadable, or a row is bad and the rules say "raise".
        SchemaError: columns do not fit, or change on the way.
    """
    try:
        return _Intake(work, plan, refusals, progress, name).run(source)
    except SchemaWidenedError:
        # Raised at most once: what was read so far has other types than the rest will have.
        refusals.reset()
        return _Intake(work, plan, refusals, progress, name).run(source)


class _Intake:
    def __init__(self, work: Path, plan: Plan, refusals: Refusals, progress: Progress | None, name: str) -> None:
        self._work = work
        self._plan = plan
        self._refusals = refusals
        self._progress = progress
        self._name = name
        self._taken = Taken(None, None, Profile(), set())
        self._screen: Screen | None = None

    def run(self, source: Source) -> Taken:
        num_read = 0
        with ExitStack() as stack:
            profiling = stack.enter_context(Stage(self._taken.profile.update))
            sorting = stack.enter_context(
                Stage[tuple[pa.RecordBatch, Places]](lambda item: self._sort(item, profiling))
            )
            for batch in source.record_batches():
                self._begin(batch.schema)
                positions = positions_of(batch)
                for piece, start in pieces_of(batch, _PIECE_ROWS, _PIECE_BYTES):
                    sorting.put((piece, Places(positions, start, num_read)))
                    if self._progress is not None:
                        self._progress(num_read + start + piece.num_rows)
                num_read += batch.num_rows
                take_rejects(source, self._refusals)
            take_rejects(source, self._refusals)
            sorting.finish()
            profiling.finish()
        self._taken.facts = source.facts()
        return self._taken

    def _begin(self, found: pa.Schema) -> None:
        if self._taken.schema is not None:
            check_columns(self._taken.schema, found, self._plan.rules)
            return
        schema = target_schema(found, self._plan.rules)
        if self._plan.schema is not None:
            self._plan.schema.widened(schema, hint=EVOLVE_HINT)
            schema = self._plan.schema
        check_key(schema, self._plan.key)
        self._screen = Screen(schema, self._plan.rules, self._plan.key, self._refusals)
        self._taken.runs = SortedRuns(schema, self._work, self._plan.run_bytes, name=self._name)
        self._taken.schema = schema

    def _sort(self, item: tuple[pa.RecordBatch, Places], profiling: Stage[pa.RecordBatch]) -> None:
        taken, screen = self._taken, self._screen
        if screen is None or taken.schema is None or taken.runs is None:
            raise AssertionError("a piece came before its columns")
        good, _ = screen.screen(*item)
        if good.num_rows == 0:
            return
        profiling.put(good)
        taken.with_nulls |= {name for name in taken.schema.names if good.column(name).null_count}
        taken.runs.add(good, row_hashes(good, taken.schema, self._plan.key))


def check_key(schema: Schema, key: str | None) -> None:
    """Raise SchemaError when rows cannot be placed by this key, as they have no such column."""
    if key is not None and key not in schema.names:
        raise SchemaError(
            f"cannot place rows by key {key!r}: the columns are {', '.join(schema.names)}",
            next_step="name one of the columns as key, or leave it out to place rows by their content",
        )
