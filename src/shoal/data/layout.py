"""Under which names a shard's file holds the columns: how rows written before a change are read after it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from shoal.data.schema import Column


@dataclass(frozen=True, slots=True)
class Layout:
    """What the shards that share it hold: `names` pairs a column's id with its name inside the files.

    A column's id outlives its name, so a column that is called otherwise today is found where it was written; one
    whose id is absent came later, and its rows in these shards are null.
    """

    names: tuple[tuple[int, str], ...]

    def name_of(self, column: Column) -> str | None:
        """Return the column's name inside the files; None when they were written before there was such a column."""
        if column.id is None:
            return column.name
        return next((name for number, name in self.names if number == column.id), None)


def layout_of(columns: Sequence[Column]) -> Layout:
    """Return the layout of a file that is written with exactly these columns; each must have its id."""
    return Layout(tuple((column.id, column.name) for column in columns if column.id is not None))


def with_ids(columns: Sequence[Column], known: Sequence[Column], next_id: int) -> tuple[tuple[Column, ...], int]:
    """Give every column without an id the one of the known column of its name, else a fresh one.

    Args:
        columns: what is to be numbered.
        known: the columns of the version before.
        next_id: the smallest number that no column of this dataset ever had.

    Returns:
        The columns, and the next free number.
    """
    before = {column.name: column.id for column in known}
    taken = {column.id for column in columns}
    numbered = []
    for column in columns:
        number = column.id if column.id is not None else before.get(column.name)
        if number is None or (column.id is None and number in taken):
            number, next_id = next_id, next_id + 1
        taken.add(number)
        numbered.append(replace(column, id=number))
    return tuple(numbered), max([next_id, *(number + 1 for number in taken if number is not None)])
