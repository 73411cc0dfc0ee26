"""Rows by number: one vectorised gather per column and shard, from mapped files or from memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shoal.base import InputError
from shoal.data.columns import Decoded, Values
from shoal.data.schema import Schema
from shoal.data.shard import join_columns

Places = slice | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows start..stop-1 of something that gives whole columns by name."""

    column: Callable[[str], Decoded]
    start: int
    stop: int


class RowGatherer:
    """Takes any rows of consecutive stretches; row numbers count through all of them. Any number of threads may."""

    def __init__(self, stretches: Sequence[Stretch], schema: Schema) -> None:
        self._stretches = [stretch for stretch in stretches if stretch.stop > stretch.start]
        self._schema = schema
        self._stops = np.cumsum([stretch.stop - stretch.start for stretch in self._stretches], dtype=np.int64)
        self.num_rows = int(self._stops[-1]) if len(self._stops) else 0

    def take(self, rows: NDArray[np.int64]) -> dict[str, Values]:
        """Return the rows as new arrays [len(rows), ...] per column, and "<name>_mask" for each nullable one.

        Raises:
            InputError: a row number is negative or too large.
        """
        if len(rows) and (rows.min() < 0 or rows.max() >= self.num_rows):
            raise InputError(
                f"cannot take rows {rows.min()} to {rows.max()} of {self.num_rows}",
                next_step=f"use row numbers from 0 to {self.num_rows - 1}",
            )
        groups = self._groups(rows)
        taken: dict[str, Values] = {}
        for column in self._schema.columns:
            taken[column.name] = np.empty((len(rows), *column.shape), column.numpy_dtype)
            mask = np.ones(len(rows), np.bool_) if column.nullable else None
            for stretch, places, local in groups:
                source = stretch.column(column.name)
                _fill(taken[column.name], places, source.values, local)
                if mask is not None and source.valid is not None:
                    mask[places] = source.valid[local]
            if mask is not None:
                taken[f"{column.name}_mask"] = mask
        return taken

    def _groups(self, rows: NDArray[np.int64]) -> list[tuple[Stretch, Places, NDArray[np.int64]]]:
        if len(self._stretches) == 1:
            return [(self._stretches[0], slice(None), rows + self._stretches[0].start)]
        index = np.searchsorted(self._stops, rows, side="right")
        order = np.argsort(index, kind="stable")
        borders = np.searchsorted(index[order], np.arange(len(self._stretches) + 1))
        groups: list[tuple[Stretch, Places, NDArray[np.int64]]] = []
        for number in np.flatnonzero(np.diff(borders)):
            places = order[borders[number] : borders[number + 1]]
            stretch = self._stretches[number]
            first = int(self._stops[number]) - (stretch.stop - stretch.start)
            groups.append((stretch, places, rows[places] + (stretch.start - first)))
        return groups

    def in_memory(self) -> "RowGatherer":
        """Return the same rows from one array per column in memory of its own: faster over many shards."""
        columns = {}
        for name in self._schema.names:
            parts = [_cut(stretch.column(name), stretch.start, stretch.stop) for stretch in self._stretches]
            if parts:
                columns[name] = join_columns(parts)
        return RowGatherer([Stretch(columns.__getitem__, 0, self.num_rows)], self._schema)


def _fill(target: Values, places: Places, values: Values, local: NDArray[np.int64]) -> None:
    if isinstance(places, slice):
        # Row numbers were checked: "clip" saves the copy that `take` makes to be able to fail half-way.
        np.take(values, local, axis=0, out=target, mode="clip")
    else:
        # `take` and then scatter: half as long as indexing on both sides (8 shards, 784-byte rows).
        target[places] = values.take(local, axis=0)


def _cut(column: Decoded, start: int, stop: int) -> Decoded:
    return Decoded(column.values[start:stop], None if column.valid is None else column.valid[start:stop])
