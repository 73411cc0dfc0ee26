"""HashBucket: any number of categories in a fixed number of buckets."""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from shoal.base import SchemaError
from shoal.data.prepare.base import Cells, GraphWriter, Need, Operator, Values, Wires, wire_as
from shoal.data.prepare.lookup import write_lookup
from shoal.data.prepare.seen_numbers import SeenNumbers
from shoal.data.prepare.seen_values import SeenValues
from shoal.data.schema import NUMBERS, Column

_PRIME = 2**31 - 1
_LIMB = 1 << 16
_NUM_LIMBS = 4


@dataclass(frozen=True)
class HashBucket(Operator):
    """Text or whole numbers to int64 from 0 to num_buckets - 1.

    Whole numbers learn nothing. The hash is multilinear over the four 16-bit limbs of the int64, modulo the prime
    2**31 - 1 (Carter and Wegman 1979: two numbers meet with a chance of about 1 in num_buckets). It needs only products
    and sums below 2**50, so that int64 arithmetic in NumPy and in a graph agrees on every machine.

    Texts cannot be hashed by any standard ONNX operator. So the texts of the training data are learned, with the bucket
    of each, 1 to num_buckets - 1, and bucket 0 is for texts that were never seen: in training's batches and in a graph
    alike. The graph holds all these texts.
    """

    name: ClassVar[str] = "hash_bucket"

    num_buckets: int
    seed: int = 0
    texts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.num_buckets <= _PRIME:
            raise SchemaError(
                f"num_buckets={self.num_buckets} must be from 2 to {_PRIME}", next_step="choose for example 1024"
            )

    def need(self, column: Column) -> Need:
        """The count of each value, where they are texts."""
        return "values" if column.dtype == "string" and self.texts is None else None

    def learned(self, seen: SeenNumbers | SeenValues, column: Column) -> Self:  # noqa: ARG002
        """Return itself with the texts that were seen, sorted."""
        assert isinstance(seen, SeenValues)
        return replace(self, texts=tuple(sorted(str(text) for text in seen.counts)))

    def output(self, column: Column) -> Column:
        """int64, one a row."""
        is_whole = column.dtype == "bool" or (column.dtype in NUMBERS and not column.dtype.startswith("float"))
        if column.shape or not (is_whole or column.dtype == "string"):
            raise SchemaError(
                f"cannot hash column {column}: expected one text or whole number a row",
                next_step="give numbers with a fraction a Bucketise first",
            )
        return Column(name=column.name, dtype="int64", nullable=column.nullable)

    def apply(self, cells: Cells) -> Cells:
        """Compute, or look up."""
        if cells.values.dtype != object:
            return Cells(self._hashed(cells.values), cells.valid)
        found = map(self._places.get, cells.values.tolist(), repeat(0))
        return Cells(np.fromiter(found, np.int64, len(cells.values)), cells.valid)

    def _hashed(self, values: Values) -> NDArray[np.int64]:
        *factors, total = self._factors
        rest = values.astype(np.int64, copy=False)
        hashed = np.full(len(rest), total, np.int64)
        for place, factor in enumerate(factors):
            limb = rest % _LIMB
            hashed += limb * factor
            if place < _NUM_LIMBS - 1:
                # Exact: what is subtracted leaves a multiple, so no rounding direction can matter.
                rest = (rest - limb) // _LIMB
        return hashed % _PRIME % self.num_buckets

    @cached_property
    def _factors(self) -> tuple[int, ...]:
        return tuple(
            xxh3_64_intdigest(f"{self.seed}:{place}".encode()) % (_PRIME - 1) + 1 for place in range(_NUM_LIMBS + 1)
        )

    @cached_property
    def _places(self) -> dict[str, int]:
        buckets = self.num_buckets - 1
        return {text: 1 + xxh3_64_intdigest(f"{self.seed}:{text}".encode()) % buckets for text in self.texts or ()}

    def write(self, graph: GraphWriter, wires: Wires) -> Wires:
        """The same products and sums, or a lookup."""
        if wires.dtype == "string":
            places = self._places
            return Wires(write_lookup(graph, wires, list(places), list(places.values())), "int64", wires.valid)
        *factors, total = self._factors
        limb_size = graph.constant(np.int64(_LIMB))
        rest = wire_as(graph, wires, "int64").values
        hashed = graph.constant(np.int64(total))
        for place, factor in enumerate(factors):
            limb = graph.add("Mod", rest, limb_size)
            hashed = graph.add("Add", hashed, graph.add("Mul", limb, graph.constant(np.int64(factor))))
            if place < _NUM_LIMBS - 1:
                rest = graph.add("Div", graph.add("Sub", rest, limb), limb_size)
        hashed = graph.add("Mod", hashed, graph.constant(np.int64(_PRIME)))
        return Wires(graph.add("Mod", hashed, graph.constant(np.int64(self.num_buckets))), "int64", wires.valid)
