"""Sides of a split that rows never change: by the dataset's hashes, by groups of a column, by time."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from shoal.base import InputError, UnsupportedError
from shoal.data.sampling.binding import Readable
from shoal.data.sampling.classes import label_column
from shoal.data.sampling.predicates import checked_predicate, plain_value
from shoal.data.sampling.quantiles import values_at
from shoal.data.sampling.recipes import Recipe
from shoal.data.sampling.shares import exact_fractions
from shoal.data.schema import HASH_SPAN, Schema
from shoal.data.storage.shard import HashRange


class Split(Protocol):
    """What a split by hash needs to know of a dataset."""

    @property
    def name(self) -> str:
        """The folder's name."""
        ...

    @property
    def version(self) -> int:
        """The number of the version."""
        ...

    @property
    def key(self) -> str | None:
        """The column that rows are placed by."""
        ...

    @property
    def schema(self) -> Schema:
        """The columns."""
        ...

    @property
    def hash_range(self) -> HashRange:
        """The range of hashes."""
        ...


def hash_ranges(dataset: Split, fractions: Sequence[float], key: str | None) -> list[HashRange]:
    """Return one range of hashes per fraction of the dataset's own.

    Raises:
        InputError: fractions out of range.
        UnsupportedError: `key` is not what the rows are placed by.
    """
    exact = exact_fractions(fractions)
    if key is not None and key != dataset.key:
        raise UnsupportedError(
            f"cannot split {dataset.name}@{dataset.version} by {key!r}: its rows are placed by "
            f"{dataset.key or 'content'!r}",
            next_step=f"split(..., by={key!r}) keeps its groups together in any dataset; or ingest with key={key!r}",
        )
    return _ranges(exact, dataset.hash_range)


def range_recipes(ranges: Sequence[HashRange]) -> list[Recipe]:
    """Return ranges of hashes as recipes: what a split of a subset needs, whose rows are not one stretch."""
    return [Recipe.of("range", low=f"{low:x}", high=f"{high:x}") for low, high in ranges]


def group_recipes(schema: Schema, fractions: Sequence[float], by: str, seed: int) -> list[Recipe]:
    """Return one recipe per fraction; all rows with one value of `by` go to one side, now and as data grows.

    Raises:
        InputError: fractions out of range, or a column that has no groups.
        SchemaError: there is no such column.
    """
    name = label_column(schema, by).name
    ranges = _ranges(exact_fractions(fractions), (0, HASH_SPAN))
    return [Recipe.of("group", by=name, seed=seed, low=f"{low:x}", high=f"{high:x}") for low, high in ranges]


def time_recipes(dataset: Readable, column: str, at: Sequence[object], fractions: Sequence[float]) -> list[Recipe]:
    """Return one recipe per stretch of time: before the first cut, between cuts, from the last one on.

    Args:
        dataset: the rows that are split.
        column: instants or numbers.
        at: the cuts, ascending; a row at a cut is on the later side.
        fractions: instead of cuts; they are put where the earlier sides have so many rows. Together 1.

    Raises:
        InputError: cuts and fractions both or neither, cuts out of order, or rows without a time.
        SchemaError: there is no such column.
    """
    if bool(at) == bool(fractions):
        raise InputError(
            "cannot split by time: expected either cuts or fractions",
            next_step='for example split_by_time("when", at=["2026-03-01"]) or split_by_time("when", 0.8, 0.2)',
        )
    _check_times(dataset, column)
    cuts = [plain_value(cut) for cut in at] if at else _quantiles(dataset, column, exact_fractions(fractions))
    rising = [checked_predicate((column, "<", cut), dataset.schema) for cut in cuts]
    kind = label_column(dataset.schema, column).arrow_type()
    instants = [pa.scalar(cut).cast(kind).as_py() if isinstance(cut, str) else cut for cut in cuts]
    if any(later <= earlier for earlier, later in pairwise(instants)):
        raise InputError(f"cannot split by time at {cuts}: expected cuts that rise", next_step="sort them")
    recipes = []
    for index in range(len(cuts) + 1):
        lower = [[column, ">=", cuts[index - 1]]] if index else []
        upper = [rising[index]] if index < len(cuts) else []
        recipes.append(Recipe.of("filter", where=["all", *lower, *upper]))
    return recipes


def _ranges(exact: Sequence[Fraction], within: HashRange) -> list[HashRange]:
    low, high = within
    borders = [low + int(sum(exact[:count]) * (high - low)) for count in range(len(exact) + 1)]
    return [(borders[index], borders[index + 1]) for index in range(len(exact))]


def _check_times(dataset: Readable, column: str) -> None:
    checked = label_column(dataset.schema, column)
    if checked.dtype in ("string", "bool"):
        raise InputError(f"cannot split by time along {checked}: expected instants or numbers", next_step="convert it")
    is_float = checked.dtype.startswith("float")
    if not (checked.nullable or is_float):
        return
    missing = nan = 0
    for batch in dataset.batches([column]):
        missing += batch.column(0).null_count
        nan += (pc.sum(pc.is_nan(batch.column(0))).as_py() or 0) if is_float else 0
    if missing or nan:
        # NaN is neither before a cut nor behind it.
        is_there = f'("any", ("{column}", "<", 0), ("{column}", ">=", 0))' if nan else f'("{column}", "is not null")'
        raise InputError(
            f"cannot split by time: {missing + nan} rows have no {column}, and would be on no side",
            next_step=f"take them out first: dataset.filter({is_there})",
        )


def _quantiles(dataset: Readable, column: str, exact: Sequence[Fraction]) -> list[Any]:
    if sum(exact) != 1:
        raise InputError(
            f"cannot split by time: the fractions add up to {float(sum(exact))}, expected 1",
            next_step="name the rest as a side of its own",
        )
    kind = dataset.schema[column].arrow_type()

    def times() -> Iterator[NDArray[Any]]:
        for batch in dataset.batches([column], batch_rows=1 << 16):
            yield pc.cast(batch.column(0), kind).to_numpy(zero_copy_only=False)

    places = [int(sum(exact[:count]) * dataset.num_rows) for count in range(1, len(exact))]
    if not dataset.num_rows:
        raise InputError("cannot split no rows by fractions of time", next_step="give the cuts: at=[...]")
    return [plain_value(value) for value in values_at(times, places)]
