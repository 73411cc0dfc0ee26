"""Every batch with the classes of the whole dataset: `loader(order=Stratified("label"))`."""

from dataclasses import dataclass

from numpy import int64
from numpy.typing import NDArray

from shoal.data.sampling.binding import Readable
from shoal.data.sampling.class_order import ClassOrder
from shoal.data.sampling.label_index import LabelIndex, label_index


@dataclass(frozen=True, slots=True)
class Stratified:
    """Batches with the dataset's share of each class of the column `by`, rounded up or down; each row once an epoch.

    Two batches never differ by more than one row of a class, the last and smaller one aside. The classes are spread
    evenly over a batch, so that the parts that ranks get keep close to the shares too.
    """

    by: str

    def bind(self, dataset: Readable, batch_size: int, seed: int) -> "StratifiedOrder":
        """Return the order of a dataset's rows; the classes' places are found once and kept beside the dataset."""
        return StratifiedOrder(
            label_index(dataset, self.by), batch_size, seed=seed, identity=self.identity() | {"batch_size": batch_size}
        )

    def identity(self) -> dict[str, object]:
        """Return what a loader's state says of the order."""
        return {"kind": "stratified", "by": self.by}


class StratifiedOrder(ClassOrder):
    """See `Stratified`."""

    def __init__(self, index: LabelIndex, batch_size: int, *, seed: int, identity: dict[str, object]) -> None:
        sizes = index.classes.counts.tolist()
        super().__init__(sizes, sizes, batch_size, seed=seed)
        self.identity = identity
        self._index = index

    def class_rows(self, codes: NDArray[int64], places: NDArray[int64]) -> NDArray[int64]:
        """Return the rows of the dataset that are the given ones of their classes."""
        return self._index.rows(codes, places)
