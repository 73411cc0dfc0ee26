"""What the model gave for a batch, cut back into requests. Lists are made once per batch, not once per request."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from shoal.serve.wire.tensors import Array


class BatchOutputs:
    """The outputs of one batch, one array per output."""

    def __init__(self, arrays: Sequence[Array], *, batched: bool, copies: bool = True) -> None:
        """Hold the outputs; `copies` for a replica's memory, which may be written again when the next batch is out."""
        self.arrays = [np.array(array) for array in arrays] if copies else list(arrays)
        self.batched = batched
        self._lists: list[list[list[Any]] | None] = [None] * len(arrays)
        self._finite: list[bool | None] = [None] * len(arrays)

    def rows(self, start: int, stop: int) -> "RequestOutputs":
        """The part that belongs to the request whose rows these are."""
        return RequestOutputs(self, start, stop)

    def lists(self, place: int) -> list[list[Any]]:
        """For each row its values as one flat list; one row of all values for a model that is not batched."""
        found = self._lists[place]
        if found is None:
            array = self.arrays[place]
            found = self._lists[place] = array.reshape(len(array) if self.batched else 1, -1).tolist()
        return found

    def is_finite(self, place: int) -> bool:
        """Whether the whole output is; true for nearly every batch, so that requests need no look of their own."""
        found = self._finite[place]
        if found is None:
            found = self._finite[place] = _is_finite(self.arrays[place])
        return found


class RequestOutputs(NamedTuple):
    """The outputs of one request; output `place` of the interface in each method."""

    batch: BatchOutputs
    start: int
    stop: int

    def shape(self, place: int) -> tuple[int, ...]:
        """The shape that the client gets."""
        shape: tuple[int, ...] = self.batch.arrays[place].shape
        return (self.stop - self.start, *shape[1:]) if self.batch.batched else shape

    def array(self, place: int) -> Array:
        """The values as an array."""
        array = self.batch.arrays[place]
        return array[self.start : self.stop] if self.batch.batched else array

    def numbers(self, place: int) -> list[Any]:
        """The values as one flat list."""
        lists = self.batch.lists(place)
        if len(lists) == 1 or self.stop - self.start == 1:
            return lists[self.start]
        return list(itertools.chain.from_iterable(lists[self.start : self.stop]))

    def is_finite(self, place: int) -> bool:
        """Whether JSON can carry the values."""
        return self.batch.is_finite(place) or _is_finite(self.array(place))


def _is_finite(array: Array) -> bool:
    # Texts always are.
    return array.dtype.kind == "U" or bool(np.isfinite(array).all())
