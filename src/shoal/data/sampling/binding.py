"""Between a dataset and the orders of its rows: what an order reads of it, and how a declared one gets its rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from shoal.data.loading.order import Order
from shoal.data.schema import Schema

if TYPE_CHECKING:
    import pyarrow as pa


class Readable(Protocol):
    """Rows 0..num_rows-1 that can be read in order, and a folder in which to keep what follows from them."""

    @property
    def path(self) -> Path:
        """The dataset's folder."""
        ...

    @property
    def digest(self) -> str:
        """What names exactly these rows in this order."""
        ...

    @property
    def schema(self) -> Schema:
        """The columns."""
        ...

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        ...

    def batches(self, columns: Sequence[str] | None = None, batch_rows: int = 8_192) -> "Iterator[pa.RecordBatch]":
        """Yield the rows in order."""
        ...


@runtime_checkable
class OrderSpec(Protocol):
    """An order that is declared before it is known of which rows, such as `Stratified("label")`; plain data."""

    def bind(self, dataset: Readable, batch_size: int, seed: int) -> Order:
        """Return the order of a dataset's rows, made for batches of this size; the same one for the same arguments."""
        ...

    def identity(self) -> dict[str, object]:
        """Return what names the order in a loader's state, as plain JSON."""
        ...


def bound_order(order: Order | OrderSpec | None, dataset: Readable, batch_size: int, seed: int) -> Order | None:
    """Return an order of the dataset's rows, whether it was declared or made."""
    # Stratified itself, without its column, has a `bind` too: the loader says what is wrong with it.
    if isinstance(order, OrderSpec) and not isinstance(order, type):
        return order.bind(dataset, batch_size, seed)
    return cast("Order | None", order)
