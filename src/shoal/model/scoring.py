"""One part of an offline prediction, as a worker computes it: read, run, write one whole file."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shoal.base import CorruptError, InputError, PackageError, Ref, UnsupportedError, atomic_file
from shoal.data import Dataset
from shoal.data import open as open_dataset
from shoal.model.onnx_file import load_session, open_model
from shoal.model.session import Session
from shoal.model.signature import Signature
from shoal.model.tables import repeat_rows, to_batch

if TYPE_CHECKING:
    from collections.abc import Callable

ROW = "row"
_WRITTEN_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """Rows start..stop-1 of a dataset, and the file that their predictions go to."""

    start: int
    stop: int
    path: Path

    @property
    def num_rows(self) -> int:
        """How many rows it has."""
        return self.stop - self.start


@dataclass(frozen=True)
class Scorer:
    """A loaded model over the rows of a dataset; `columns` of it go along with each row's outputs."""

    session: Session
    dataset: Dataset
    columns: tuple[str, ...] = ()

    def score(self, start: int, stop: int) -> pa.RecordBatch:
        """The rows of the result for rows start..stop-1: their numbers, the columns that go along, and the outputs.

        Raises:
            InputError: as `inputs_of`.
            PackageError: the model fails on a row, which is named.
            UnsupportedError: an output has not one row for each input row, or is nothing that can be stored.
        """
        inputs = inputs_of(self.session.signature, self.dataset, start, stop)
        try:
            outputs = _run(self.session, inputs, stop - start)
        except PackageError as error:
            raise self._refusal(inputs, start, stop, error) from error
        numbers = np.arange(start, stop)
        beside = self._beside(numbers) if self.columns else None
        made = _batch_of(numbers, outputs)
        if beside is None:
            return made
        columns = [made.column(0), *beside.columns, *made.columns[1:]]
        return pa.RecordBatch.from_arrays(columns, names=[ROW, *self.columns, *made.schema.names[1:]])

    @cached_property
    def _beside(self) -> "Callable[[NDArray[np.int64]], pa.RecordBatch]":
        # In Arrow from end to end: texts and missing values come out as they are.
        return self.dataset.gatherer(self.dataset.schema.select(self.columns)).record_batch

    def _refusal(self, inputs: dict[str, NDArray[Any]], start: int, stop: int, error: PackageError) -> PackageError:
        found = _first_refused(self.session, inputs, stop - start)
        said = error.__cause__ or error
        if found is None:
            return PackageError(
                f"the model failed on rows {start} to {stop - 1} of {self.dataset.address} together, and on no smaller "
                f"part of them: {said}",
                next_step="predict with a smaller batch size, into another folder",
            )
        return PackageError(
            f"the model failed on {_place(self.dataset, start + found)}: {said}",
            next_step="correct that row, or leave it out with Dataset.filter, and predict into another folder",
        )


def score_part(model: Ref, dataset: Ref, part: Part, batch_size: int, columns: tuple[str, ...] = ()) -> None:
    """Write the predictions of one part as an Arrow file, completely or not at all; doing it twice gives the same file.

    Raises:
        InputError: a row does not fit the model; it is named.
        PackageError: the model fails on a row; it is named.
        UnsupportedError: an output is nothing that a column can hold.
        CorruptError: the model or the dataset is no longer what it was.
    """
    scorer = _scorer(model, dataset, columns)
    with atomic_file(part.path) as sink:
        writer: pa.RecordBatchFileWriter | None = None
        waiting: list[pa.RecordBatch] = []
        for start in range(part.start, part.stop, batch_size):
            stop = min(start + batch_size, part.stop)
            batch = scorer.score(start, stop)
            if writer is None:
                writer, schema = pa.ipc.new_file(sink, batch.schema), batch.schema
            elif batch.schema != schema:
                raise _changed_shape(schema, batch.schema, start)
            waiting.append(batch)
            # Few large ones: whoever reads the result pays for each batch, and the model's may be a few rows.
            if stop == part.stop or sum(each.nbytes for each in waiting) > _WRITTEN_BYTES:
                writer.write_batch(pa.concat_batches(waiting))
                waiting.clear()
        if writer is not None:
            writer.close()


def release() -> None:
    """Let go of the model and the dataset that the last part was scored with."""
    _scorer.cache_clear()


def inputs_of(signature: Signature, dataset: Dataset, start: int, stop: int) -> dict[str, NDArray[Any]]:
    """What a model takes for rows start..stop-1 of a dataset.

    Raises:
        InputError: a value is missing, or a column has another dtype or shape than the model takes.
    """
    taken = dataset.take(np.arange(start, stop), signature.columns)
    for name in set(signature.columns) - set(signature.masked):
        mask = taken.get(f"{name}_mask")
        if mask is not None and not mask.all():
            row = start + int(np.flatnonzero(~mask)[0])
            raise InputError(
                f"input {name!r} has no value in {_place(dataset, row)}",
                next_step="fill or remove such rows, or give the column an Impute in the model's preparation",
            )
    inputs = signature.inputs_from(taken)
    fixed = fixed_batch(signature)
    try:
        signature.check(inputs if fixed in (None, stop - start) else repeat_rows(inputs, fixed or 1))
    except InputError as error:
        raise InputError(
            f"cannot predict {dataset.address}: {error.message}",
            next_step="store the column as the model takes it, or export the model for what is stored",
        ) from error
    return inputs


def fixed_batch(signature: Signature) -> int | None:
    """The only number of rows that a model takes at once; None where any will do.

    Raises:
        UnsupportedError: its inputs take different ones, so that no row of theirs belongs together.
    """
    sizes = {spec.name: spec.shape[0] for spec in signature.inputs if spec.shape and spec.shape[0] is not None}
    if len(set(sizes.values())) > 1:
        raise UnsupportedError(
            f"cannot predict with a model whose inputs take {sizes} rows at once, expected one number for all",
            next_step="export the model with a dynamic batch dimension",
        )
    return next(iter(sizes.values()), None)


def _run(session: Session, inputs: dict[str, NDArray[Any]], num_rows: int) -> dict[str, NDArray[Any]]:
    size = fixed_batch(session.signature) or num_rows
    # A model that takes only whole batches gets the last rows repeated; what comes out for those is dropped.
    outputs = session.run(inputs if size == num_rows else repeat_rows(inputs, size))
    for name, values in outputs.items():
        if values.ndim == 0 or len(values) != size:
            raise UnsupportedError(
                f"output {name!r} has shape {list(values.shape)} for {size} rows, expected one row of it for each",
                next_step="export the model so that row i of every output belongs to row i of the inputs",
            )
    return outputs if size == num_rows else {name: values[:num_rows] for name, values in outputs.items()}


def _first_refused(session: Session, inputs: dict[str, NDArray[Any]], num_rows: int) -> int | None:
    """The first of two or more rows that the model fails on without the others; None: it is no single row."""

    def fails(low: int, high: int) -> bool:
        try:
            _run(session, {name: values[low:high] for name, values in inputs.items()}, high - low)
        except PackageError:
            return True
        return False

    low, high = 0, num_rows
    while high - low > 1:
        middle = (low + high) // 2
        if fails(low, middle):
            high = middle
        elif fails(middle, high):
            low = middle
        else:
            return None
    return low


def _place(dataset: Dataset, row: int) -> str:
    key = dataset.key
    named = "" if key is None else f" ({key} {dataset.take(np.array([row]), [key])[key][0]})"
    return f"row {row}{named} of {dataset.address}"


def _batch_of(numbers: NDArray[np.int64], outputs: dict[str, NDArray[Any]]) -> pa.RecordBatch:
    try:
        return to_batch({ROW: numbers, **outputs})
    except (pa.ArrowException, TypeError, ValueError) as error:
        shapes = {name: f"{values.dtype} {list(values.shape)}" for name, values in outputs.items()}
        raise UnsupportedError(
            f"cannot store the outputs {shapes} as columns: {error}",
            next_step="let the model give numbers, or one text a row",
        ) from error


def _changed_shape(first: pa.Schema, other: pa.Schema, row: int) -> UnsupportedError:
    name = next(a.name for a, b in zip(first, other, strict=True) if a != b)
    return UnsupportedError(
        f"output {name!r} is {other.field(name).type} from row {row} on and was {first.field(name).type} before, "
        "expected one shape for all rows",
        next_step="pad it to one shape inside the model",
    )


# A worker gets part after part of the same two: loading and checking them once is enough.
@lru_cache(maxsize=1)
def _scorer(model: Ref, dataset: Ref, columns: tuple[str, ...]) -> Scorer:
    return Scorer(load_session(open_model(model.kind, model.address, model.digest)), _rows(dataset), columns)


def _rows(ref: Ref) -> Dataset:
    dataset = open_dataset(ref.address)
    if dataset.digest != ref.digest:
        raise CorruptError(
            f"{ref.address} is another dataset than at the start: its digest is {dataset.digest}, "
            f"expected {ref.digest}",
            next_step="predict again into another folder",
        )
    return dataset
