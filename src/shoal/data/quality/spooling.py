"""Rows that must be seen whole before any may come in: screened and written aside, then given without repeated keys."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import report_full_storage
from shoal.data.quality.refusals import Refusals
from shoal.data.quality.rules import Rules
from shoal.data.quality.screening import (
    Fault,
    Places,
    Screen,
    check_columns,
    pieces_of,
    refuse,
    take_rejects,
    target_schema,
)
from shoal.data.quality.unique import SeenKeys, Unique
from shoal.data.schema import Schema
from shoal.data.sources.base import SchemaWidenedError, Source
from shoal.data.sources.facts import SourceFact
from shoal.data.sources.positions import positions_of

_PIECE_ROWS = 65_536
_PIECE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class _Spooled:
    """One batch of the file: the number of its first row among all good ones, and where its rows stood.

    `refused` are the rows of the source's piece that are not in the file.
    """

    first: int
    places: Places
    refused: NDArray[np.int64]

    def rows_in_piece(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Turn rows of the file's batch into rows of the piece that it came from."""
        # Each refused row moves what stands behind it by one.
        before = self.refused - np.arange(len(self.refused))
        return rows + np.searchsorted(before, rows, side="right")


class UniqueSource:
    """A source whose rows keep all rules, repeated keys included; the rules need not be asked again.

    The first reading screens the rows of `source` into a file in `work`, and the file is what is given.
    """

    def __init__(
        self,
        source: Source,
        rules: Rules,
        key: str | None,
        work: Path,
        refusals: Refusals,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._source = source
        self._rules = rules
        self._key = key
        self._work = work
        self._refusals = refusals
        self._progress = progress
        self._batches: list[_Spooled] = []

    def facts(self) -> tuple[SourceFact, ...]:
        """Say where the rows came from."""
        return self._source.facts()

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the good rows.

        Raises:
            SourceError: a row is bad and `on_bad` is "raise".
        """
        try:
            schema, seen = self._spool()
        except SchemaWidenedError:
            self._refusals.reset()
            schema, seen = self._spool()
        if schema is None:
            return
        repeated = {unique: keys.repeated() for unique, keys in seen.items()}
        with pa.OSFile(str(self._work / "spool.arrow")) as raw, pa.ipc.open_file(raw) as file:
            for index, told in enumerate(self._batches):
                yield self._without(repeated, file.get_batch(index), told)

    def _without(
        self, repeated: dict[Unique, NDArray[np.int64]], batch: pa.RecordBatch, told: _Spooled
    ) -> pa.RecordBatch:
        kept = np.ones(batch.num_rows, np.bool_)
        for unique, ordinals in repeated.items():
            low, high = np.searchsorted(ordinals, [told.first, told.first + batch.num_rows])
            rows = ordinals[low:high] - told.first
            rows = rows[kept[rows]]
            fault = Fault(None, unique.expected)
            refuse(fault, rows, batch, told.rows_in_piece(rows), told.places, self._rules, self._refusals)
            kept[rows] = False
        return batch if kept.all() else batch.filter(pa.array(kept))

    def _spool(self) -> tuple[Schema | None, dict[Unique, SeenKeys]]:
        self._batches = []
        schema: Schema | None = None
        screen: Screen | None = None
        seen: dict[Unique, SeenKeys] = {}
        writer: pa.RecordBatchFileWriter | None = None
        num_good = num_read = 0
        path = self._work / "spool.arrow"
        with report_full_storage(path), pa.OSFile(str(path), "wb") as sink:
            for batch in self._source.record_batches():
                if schema is None or screen is None:
                    schema = target_schema(batch.schema, self._rules)
                    screen = Screen(schema, self._rules, self._key, self._refusals)
                    seen = {unique: self._seen(unique, schema, at) for at, unique in enumerate(self._rules.unique)}
                check_columns(schema, batch.schema, self._rules)
                positions = positions_of(batch)
                for piece, start in pieces_of(batch, _PIECE_ROWS, _PIECE_BYTES):
                    places = Places(positions, start, num_read)
                    good, refused = screen.screen(piece, places)
                    writer = writer or pa.ipc.new_file(sink, good.schema)
                    writer.write_batch(good)
                    for keys in seen.values():
                        keys.add(good, num_good)
                    self._batches.append(_Spooled(num_good, places, refused))
                    num_good += good.num_rows
                num_read += batch.num_rows
                take_rejects(self._source, self._refusals)
                if self._progress is not None:
                    self._progress(num_read)
            take_rejects(self._source, self._refusals)
            if writer is not None:
                writer.close()
        return schema, seen

    def _seen(self, unique: Unique, schema: Schema, at: int) -> SeenKeys:
        folder = self._work / f"keys-{at}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return SeenKeys(unique, schema, folder)
