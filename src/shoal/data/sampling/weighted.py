"""Rows drawn by weight, with replacement: `loader(order=Weighted("weight"))`, or by class."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import ConfigError, InputError, digest_json
from shoal.data.sampling.binding import Readable
from shoal.data.sampling.classes import label_column
from shoal.data.sampling.derived import ArrayWriter, derived_arrays
from shoal.data.sampling.draws import as_fractions, draws_at, key_of
from shoal.data.sampling.in_blocks import BlockOrder, Rows
from shoal.data.sampling.label_index import LabelIndex, label_index
from shoal.data.sampling.predicates import plain_value

Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Weighted:
    """Rows drawn independently, each with a chance in proportion to its weight; a row may come often or not at all.

    Without `weights` the column `by` holds the weight of each row. With a mapping, `by` holds classes, and the mapping
    the weight of every row of a class; "balanced" makes all classes equally frequent. An epoch has `num_rows` draws, by
    default as many as the dataset has rows.
    """

    by: str
    weights: Mapping[object, float] | Literal["balanced"] | None = None
    num_rows: int | None = None

    def __post_init__(self) -> None:
        if self.num_rows is not None and self.num_rows < 1:
            raise ConfigError(f"num_rows={self.num_rows} must be >= 1", next_step="leave it out for the dataset's own")

    def bind(self, dataset: Readable, batch_size: int, seed: int) -> "RowWeights | ClassWeights":  # noqa: ARG002 - as all orders
        """Return the order of a dataset's rows; the running sums of weights are kept beside the dataset.

        Raises:
            InputError: a weight is negative, missing or not finite, all are 0, or a class has none.
        """
        num_rows = dataset.num_rows if self.num_rows is None else self.num_rows
        if self.weights is None:
            return RowWeights(running_weights(dataset, self.by), num_rows, self.identity(), seed=seed)
        index = label_index(dataset, self.by)
        return ClassWeights(index, self._masses(index), num_rows, self.identity(), seed=seed)

    def identity(self) -> dict[str, object]:
        """Return what a loader's state says of the order."""
        weights: object = self.weights
        if isinstance(self.weights, Mapping):
            weights = sorted(([_plain_class(value), float(weight)] for value, weight in self.weights.items()), key=repr)
        return {"kind": "weighted", "by": self.by, "weights": weights, "num_rows": self.num_rows}

    def _masses(self, index: LabelIndex) -> Weights:
        classes = index.classes
        if self.weights == "balanced":
            return np.ones(len(classes))
        given = dict(self.weights) if isinstance(self.weights, Mapping) else {}
        weights = np.full(len(classes), np.nan)
        for value, weight in given.items():
            weights[classes.code_of(value)] = weight
        if np.isnan(weights).any():
            missing = [
                value for value, weight in zip(classes.values.to_pylist(), weights, strict=True) if weight != weight
            ]
            raise InputError(
                f"cannot weigh rows by {self.by!r}: no weight is given for {', '.join(map(repr, missing[:10]))}",
                next_step="name every class; 0 leaves one out",
            )
        _check_weights(weights, self.by, 0)
        return weights * classes.counts


class RowWeights(BlockOrder):
    """Draws by the running sums of the rows' weights; a pure function of (seed, epoch, position)."""

    def __init__(self, sums: Weights, num_rows: int, identity: dict[str, object], *, seed: int) -> None:
        super().__init__(num_rows)
        self.identity = identity
        self._sums = sums
        self._seed = seed

    def compute(self, epoch: int, start: int, stop: int) -> Rows:
        """Return the rows drawn for these positions."""
        places = np.arange(start, stop)
        return _drawn(self._sums, draws_at(key_of("weighted", self._seed, epoch), places))


class ClassWeights(BlockOrder):
    """Draws a class by its mass, then one of its rows evenly; a pure function of (seed, epoch, position)."""

    def __init__(
        self, index: LabelIndex, masses: Weights, num_rows: int, identity: dict[str, object], *, seed: int
    ) -> None:
        if masses.sum() <= 0:
            raise InputError("cannot draw rows: all weights are 0", next_step="give some class a weight above 0")
        super().__init__(num_rows)
        self.identity = identity
        self._index = index
        self._sums = np.cumsum(masses)
        self._seed = seed

    def compute(self, epoch: int, start: int, stop: int) -> Rows:
        """Return the rows drawn for these positions."""
        places = np.arange(start, stop)
        codes = _drawn(self._sums, draws_at(key_of("class", self._seed, epoch), places))
        chances = as_fractions(draws_at(key_of("row", self._seed, epoch), places))
        within = (chances * self._index.classes.counts[codes]).astype(np.int64)
        return self._index.rows(codes, within)


def running_weights(dataset: Readable, by: str) -> Weights:
    """Return float64 [num_rows], mapped: the sum of the weights of all rows up to and with each.

    Raises:
        InputError: the column is not one number a row, or a weight is negative, missing or not finite, or all are 0.
    """
    column = label_column(dataset.schema, by)
    if column.dtype in ("string", "bool", "timestamp"):
        raise InputError(
            f"cannot weigh rows by {column}: expected numbers",
            next_step=f"for classes give weights: Weighted({by!r}, weights='balanced')",
        )
    name = digest_json({"dataset": dataset.digest, "weights": by}).removeprefix("b3:")
    sums: Weights = derived_arrays(dataset.path, f"{name}.weights", lambda writer: _write(dataset, by, writer))["sums"]
    if not len(sums) or sums[-1] <= 0:
        raise InputError(f"cannot draw rows by {by!r}: all weights are 0", next_step="give some row a weight above 0")
    return sums


def _write(dataset: Readable, by: str, writer: ArrayWriter) -> None:
    first, carried = 0, 0.0
    writer.add("sums", np.empty(0, "<f8"))
    for batch in dataset.batches([by], batch_rows=1 << 17):
        # A missing weight becomes NaN, and is refused as one.
        weights = batch.column(0).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        _check_weights(weights, by, first)
        sums = np.cumsum(np.concatenate([[carried], weights]))[1:]
        writer.add("sums", sums.astype("<f8"))
        first, carried = first + len(weights), float(sums[-1])


def _plain_class(value: object) -> object:
    # JSON has no NaN, and a class may be that of the rows without a value.
    if value is None or value != value:
        return None if value is None else "NaN"
    return plain_value(value)


def _check_weights(weights: Weights, by: str, first: int) -> None:
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        raise InputError(
            f"cannot draw rows by {by!r}: row {first + wrong[0]} has weight {weights[wrong[0]]}, expected 0 or more",
            next_step="correct the weights, or leave the rows out: dataset.filter(...)",
        )


def _drawn(sums: Weights, draws: NDArray[np.uint64]) -> Rows:
    # Rounding may lift the last draw to the whole sum, behind which no row stands.
    marks = np.minimum(as_fractions(draws) * sums[-1], np.nextafter(sums[-1], 0))
    # In order: neighbours are found on the same pages of the mapped sums.
    order = np.argsort(marks)
    rows = np.empty(len(marks), np.int64)
    rows[order] = np.searchsorted(sums, marks[order], side="right")
    return rows
