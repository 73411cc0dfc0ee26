"""No batch without the rare classes: `loader(order=MinPerClass("label", at_least=2))`."""

from dataclasses import dataclass
from fractions import Fraction

from numpy import int64
from numpy.typing import NDArray

from shoal.base import ConfigError, InputError
from shoal.data.sampling.binding import Readable
from shoal.data.sampling.class_order import ClassOrder
from shoal.data.sampling.label_index import LabelIndex, label_index
from shoal.data.sampling.shares import largest_remainders


@dataclass(frozen=True, slots=True)
class MinPerClass:
    """Batches with at least so many rows of each class of the column `by`; an epoch has each row at least once.

    An epoch has as many full batches as that takes. Classes too rare for it repeat: their rows come pass after pass,
    each pass in another order, so that no row of a class is used twice more often than another. The other classes get
    the rest of each batch in proportion to their rows; what is missing to fill the last batch is repeated from all.
    """

    by: str
    at_least: int = 1

    def __post_init__(self) -> None:
        if self.at_least < 1:
            raise ConfigError(f"at_least={self.at_least} must be >= 1", next_step="or use Stratified")

    def bind(self, dataset: Readable, batch_size: int, seed: int) -> "MinPerClassOrder":
        """Return the order of a dataset's rows.

        Raises:
            InputError: a batch is smaller than the minimum of all classes together.
        """
        return MinPerClassOrder(label_index(dataset, self.by), batch_size, self, seed=seed)

    def identity(self) -> dict[str, object]:
        """Return what a loader's state says of the order."""
        return {"kind": "min_per_class", "by": self.by, "at_least": self.at_least}


class MinPerClassOrder(ClassOrder):
    """See `MinPerClass`; `num_rows` is above that of the dataset where rows repeat."""

    def __init__(self, index: LabelIndex, batch_size: int, spec: MinPerClass, *, seed: int) -> None:
        at_least = spec.at_least
        sizes = index.classes.counts.tolist()
        if at_least * len(sizes) > batch_size:
            raise InputError(
                f"cannot put {at_least} rows of each of {len(sizes)} classes of {index.classes.column.name!r} "
                f"into a batch of {batch_size}",
                next_step=f"use batch_size={at_least * len(sizes)} or more, or a smaller at_least",
            )
        super().__init__(sizes, epoch_quotas(sizes, batch_size, at_least), batch_size, seed=seed, minimum=at_least)
        self.identity = spec.identity() | {"batch_size": batch_size}
        self._index = index

    def class_rows(self, codes: NDArray[int64], places: NDArray[int64]) -> NDArray[int64]:
        """Return the rows of the dataset that are the given ones of their classes."""
        return self._index.rows(codes, places)


def epoch_quotas(sizes: list[int], batch_size: int, at_least: int) -> list[int]:
    """Return how many rows of each class the shortest epoch of full batches has, with each row in it at least once."""

    def needed(num_batches: int) -> list[int]:
        return [max(size, num_batches * at_least) for size in sizes]

    # A batch more adds batch_size rows and needs at most as many: what fits once fits from there on.
    low, high = 0, max(sizes, default=0) + sum(sizes)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if sum(needed(middle)) <= middle * batch_size else (middle + 1, high)
    quotas = needed(low)
    surplus = low * batch_size - sum(quotas)
    if not surplus:
        return quotas
    extra = largest_remainders(surplus, [Fraction(size) for size in sizes])
    return [quota + more for quota, more in zip(quotas, extra, strict=True)]
