"""From row numbers to a finished batch: gather, prepare, decode, transform, hand out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from shoal.base import ConfigError
from shoal.data.loading.formats import Formatter
from shoal.data.loading.gather import RowGatherer
from shoal.data.loading.packed import Packed
from shoal.data.native import Rows
from shoal.data.schema import Schema

if TYPE_CHECKING:
    from shoal.data.loading.batch_cache import BatchCache
    from shoal.data.loading.decoders import Decoders

Batch = dict[str, Any]
Transform = Callable[[Batch], Any]


class BatchPreparation(Protocol):
    """What a fitted preparation offers a loader: raw columns in, prepared ones out; for any number of threads."""

    @property
    def input_schema(self) -> Schema:
        """The raw columns that it takes."""
        ...

    @property
    def output_schema(self) -> Schema:
        """The columns that it gives."""
        ...

    def apply(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the prepared batch."""
        ...


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Makes the batch of any row numbers; any number of threads may ask, if the transform allows it.

    With a `cache`, what `plain_formatter` makes of a batch is kept, and handed out by `formatter` like a fresh one.
    Preparation and transform see NumPy arrays, text and blobs as Python objects; a transform may also return tensors.
    """

    gatherer: RowGatherer
    stored: Schema
    given: Schema
    formatter: Formatter
    preparation: BatchPreparation | None = None
    decoders: "Decoders | None" = None
    transform: Transform | None = None
    cache: "BatchCache | None" = None
    plain_formatter: Formatter | None = None

    def make(self, rows: Rows, place: tuple[int, ...] = ()) -> Any:  # noqa: ANN401  # a dict, or an Arrow record batch
        """Return the batch of these rows; `place` is which batch it is, where finished batches are kept on disk."""
        if self.cache is None or self.plain_formatter is None:
            return self.formatter(self._finished(rows))
        plain = self.plain_formatter
        return self.formatter(self.cache.get(place, rows, lambda: plain(self._finished(rows))))

    def hand_over(self, batch: Any) -> Any:  # noqa: ANN401  # what `make` returned
        """Return a batch to its consumer, in whose thread this is called."""
        return self.formatter.hand_over(batch)

    def _finished(self, rows: Rows) -> Mapping[str, Any]:
        arrays: dict[str, Any] = self.gatherer.gather(rows, self.formatter.buffers)
        if self.preparation is not None:
            arrays = self.preparation.apply(self._with_objects(arrays, self.stored))
        if self.decoders is not None:
            arrays = self.decoders.apply(arrays, rows)
        if self.transform is not None:
            arrays = self.transform(self._with_objects(arrays, self.given))
            if not isinstance(arrays, Mapping):
                raise ConfigError(
                    f"transform returned {type(arrays).__name__}, expected a dict of arrays by name",
                    next_step="return the batch it was given, changed as you like",
                )
        return arrays

    def _with_objects(self, arrays: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
        # What is decoded later stays packed: samples would be copied twice to become objects in between.
        later = self.decoders.names if self.decoders is not None else ()
        return {
            name: values.objects(schema[name], arrays.get(f"{name}_mask"))
            if isinstance(values, Packed) and name not in later
            else values
            for name, values in arrays.items()
        }
