"""Where every stretch of a dataset keeps one column, as tables that a whole batch is looked up in at once."""

import math
from collections.abc import Iterator

import numpy as np

from shoal.data.loading.pieces import Piece
from shoal.data.native import Places, Rows, Table, Values, gather_bits, gather_rows, rectangle
from shoal.data.schema import Column

_INSTANT = np.dtype(np.int64)


class ColumnTables:
    """What columns of all kinds have: their validity. `number` is the type of one value in a batch's array."""

    is_uniform = False

    def __init__(self, column: Column, starts: Rows) -> None:
        self.column = column
        self.valid = Table(starts)
        self.number = _INSTANT if column.dtype == "timestamp" else np.dtype(_number_name(column))

    def put(self, stretch: int, piece: Piece) -> None:
        """Enter where a stretch keeps the column."""
        if piece.valid is not None:
            self.valid.put(stretch, piece.valid, row_bytes=0, first_bit=piece.first_bit)

    def addresses(self, rows: Rows, places: Places) -> Iterator[tuple[Rows, int]]:
        """Yield the addresses of what is read for these rows, and how many bytes at each; 0: nothing."""
        raise NotImplementedError


class FixedTables(ColumnTables):
    """Rows of one size: as they are wanted in `main`, in other types or as bits where they were stored differently."""

    def __init__(self, column: Column, starts: Rows) -> None:
        super().__init__(column, starts)
        self.main = Table(starts)
        self._row_items = math.prod(column.shape)
        self._others: dict[str, tuple[np.dtype[np.generic], Table]] = {}
        # Which of the tables each stretch is in: 0 is `main`, -1 says that the column is absent.
        self._kinds = np.zeros(len(starts), np.int8)
        self.is_uniform = column.dtype != "bool"

    def put(self, stretch: int, piece: Piece) -> None:
        """Enter where a stretch keeps the column."""
        super().put(stretch, piece)
        width = piece.dtype.itemsize * self._row_items
        if piece.kind == "fixed" and piece.dtype == self.number:
            self.main.put(stretch, piece.values, row_bytes=width)
            return
        self.is_uniform = False
        if piece.kind == "absent":
            self._kinds[stretch] = -1
            return
        name = f"{piece.kind} {piece.dtype}"
        _, table = self._others.setdefault(name, (piece.dtype, Table(self.main.starts)))
        self._kinds[stretch] = 1 + list(self._others).index(name)
        if piece.kind == "bits":
            table.put(stretch, piece.values, row_bytes=0, first_bit=piece.first_bit)
        else:
            table.put(stretch, piece.values, row_bytes=width)

    def addresses(self, rows: Rows, places: Places) -> Iterator[tuple[Rows, int]]:
        """Yield where the rows lie, one run of bytes each."""
        tables = [(self.number, self.main), *self._others.values()]
        for kind, (dtype, table) in enumerate(tables):
            if self.column.dtype == "bool":
                continue  # bitmaps were checked whole when they were opened
            width = dtype.itemsize * math.prod(self.column.shape)
            here = table.bases[places] + rows * width
            yield (
                here if len(tables) == 1 and self.is_uniform else np.where(self._kinds[places] == kind, here, 0),
                width,
            )

    def gather_mixed(self, rows: Rows, places: Places, out: Values) -> None:
        """Fill `out` with the rows, each read as it was stored; zeros where the column is absent."""
        kinds = self._kinds[places]
        out[kinds < 0] = 0
        for kind, (dtype, table) in enumerate([(self.number, self.main), *self._others.values()]):
            chosen = np.flatnonzero(kinds == kind)
            if not len(chosen):
                continue
            found = np.empty((len(chosen), *self.column.shape), dtype)
            if self.column.dtype == "bool":
                gather_bits(rows[chosen], places[chosen], table, found)
            else:
                row_bytes = found[0].nbytes
                gather_rows(rows[chosen], places[chosen], rectangle([_copy(table)], [row_bytes]), (found,))
            out[chosen] = found


class VariableTables(ColumnTables):
    """Rows of any length: int32 offsets, and the items that they point into."""

    def __init__(self, column: Column, starts: Rows) -> None:
        super().__init__(column, starts)
        self.offsets = Table(starts)
        self.items = Table(np.zeros(len(starts), np.int64))

    def put(self, stretch: int, piece: Piece) -> None:
        """Enter where a stretch keeps the column."""
        super().put(stretch, piece)
        assert piece.items is not None
        num_items = len(piece.items) // self.number.itemsize
        self.offsets.put(stretch, piece.values, row_bytes=4, num_items=num_items)
        self.items.put(stretch, piece.items, row_bytes=0)

    def addresses(self, rows: Rows, places: Places) -> Iterator[tuple[Rows, int]]:
        """Yield where the rows' offsets lie; where their items lie can only be read from those."""
        yield self.offsets.bases[places] + rows * 4, 8


def tables_for(column: Column, starts: Rows) -> ColumnTables:
    """Return empty tables for a column over stretches that begin at these rows."""
    return FixedTables(column, starts) if column.is_fixed else VariableTables(column, starts)


def _number_name(column: Column) -> str:
    return column.dtype if column.is_fixed or column.is_list else "uint8"


def _copy(table: Table) -> Table:
    # `rectangle` takes the addresses over into an array of its own; those of `main` belong to the gatherer's.
    twin = Table(table.starts)
    twin.bases, twin.views = table.bases, table.views
    return twin
