"""Encode: categories become numbers by a vocabulary."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from shoal.base import SchemaError
from shoal.data.prepare.base import Cells, GraphWriter, Need, Operator, Values, Wires, wire_as
from shoal.data.prepare.lookup import write_lookup
from shoal.data.prepare.seen_numbers import SeenNumbers
from shoal.data.prepare.seen_values import SeenValues
from shoal.data.schema import NUMBERS, Column


@dataclass(frozen=True)
class Encode(Operator):
    """Text or whole numbers to int64 indices, or to float32 one-hot vectors.

    Index 0 is whatever is not in the vocabulary; 1 is the most frequent category, and so on (of equally frequent ones
    the smaller first). `max_categories` bounds the vocabulary, `min_count` leaves rare values out; a one-hot
    vector has one more place than there are categories, the first of them for unknown values.
    """

    name: ClassVar[str] = "encode"

    to: Literal["index", "one_hot"] = "index"
    max_categories: int = 10_000
    min_count: int = 1
    categories: tuple[str | int, ...] | None = None

    def __post_init__(self) -> None:
        if self.max_categories < 1 or self.min_count < 1 or self.to not in ("index", "one_hot"):
            raise SchemaError(
                f"{self}: expected to='index' or 'one_hot', max_categories >= 1 and min_count >= 1",
                next_step="leave them out for an index of up to 10,000 categories",
            )
        if self.categories is not None and len(set(self.categories)) != len(self.categories):
            raise SchemaError("categories hold a value twice", next_step="name each category once")

    def need(self, column: Column) -> Need:  # noqa: ARG002
        """The count of each value, unless the categories are given."""
        return "values" if self.categories is None else None

    def learned(self, seen: SeenNumbers | SeenValues, column: Column) -> Self:  # noqa: ARG002
        """Return itself with a vocabulary."""
        assert isinstance(seen, SeenValues)
        ranked = seen.ranked()[: self.max_categories]
        kept = tuple(value for value, count in ranked if count >= self.min_count)
        # Floats were refused by `output`: texts and ints are left.
        return replace(self, categories=kept)  # type: ignore[arg-type]

    def output(self, column: Column) -> Column:
        """int64, or float32 with one place per category and one for the unknown."""
        is_text = column.dtype == "string"
        fits = column.dtype == "bool" or (column.dtype in NUMBERS and not column.dtype.startswith("float"))
        given = {type(category) for category in self.categories or ()}
        if column.shape or not (is_text or fits) or not given <= {str if is_text else int}:
            raise SchemaError(
                f"cannot encode column {column} by categories of "
                f"{sorted(kind.__name__ for kind in given) or 'its own'}: expected one text or whole number a row, and "
                "categories of that type",
                next_step="give numbers with a fraction a Bucketise first, or correct the categories",
            )
        shape = () if self.to == "index" else (len(self.categories or ()) + 1,)
        return Column(
            name=column.name, dtype="int64" if self.to == "index" else "float32", shape=shape, nullable=column.nullable
        )

    def apply(self, cells: Cells) -> Cells:
        """Look up each value."""
        indices = self._indices(cells.values)
        if self.to == "index":
            return Cells(indices, cells.valid)
        one_hot = np.zeros((len(indices), len(self.categories or ()) + 1), np.float32)
        one_hot[np.arange(len(indices)), indices] = 1
        return Cells(one_hot, cells.valid)

    def _indices(self, values: Values) -> NDArray[np.int64]:
        if values.dtype == object:
            # A dict takes 50 ns a text; anything vectorised would first copy the texts into an array of one width.
            return np.fromiter(map(self._places.get, values.tolist(), repeat(0)), np.int64, len(values))
        keys, places = self._sorted
        if len(keys) == 0:
            return np.zeros(len(values), np.int64)
        whole = values.astype(np.int64, copy=False)
        found = np.minimum(np.searchsorted(keys, whole), len(keys) - 1)
        return np.where(keys[found] == whole, places[found], 0)

    @cached_property
    def _places(self) -> dict[Any, int]:
        return {category: index for index, category in enumerate(self.categories or (), start=1)}

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        keys = np.array(self.categories or (), np.int64)
        order = np.argsort(keys)
        return keys[order], order + 1

    def write(self, graph: GraphWriter, wires: Wires) -> Wires:
        """A lookup, and OneHot behind it."""
        cast = wires if wires.dtype == "string" else wire_as(graph, wires, "int64")
        places = range(1, len(self.categories or ()) + 1)
        indices = write_lookup(graph, cast, list(self.categories or ()), list(places))
        if self.to == "index":
            return Wires(indices, "int64", wires.valid)
        depth = graph.constant(np.int64(len(self.categories or ()) + 1))
        one_hot = graph.add("OneHot", indices, depth, graph.constant(np.array([0, 1], np.float32)))
        return Wires(one_hot, "float32", wires.valid)
