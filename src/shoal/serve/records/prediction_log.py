"""The prediction log: every answered row with what went in and what came out, as a dataset that grows."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shoal.base import (
    Json,
    NotFoundError,
    OrderWriter,
    SegmentLog,
    SegmentReader,
    UnsupportedError,
    decode,
    digest_bytes,
    encode,
    new_token,
    part_folder,
)
from shoal.serve.records.log_rule import LogRule
from shoal.serve.wire.interface import Interface, TensorField
from shoal.serve.wire.tensors import Array

# A killed front loses the rows since the last commit, and their numbers are given out again: keep that moment short.
_COMMIT_EVERY_S = 0.1
# Arrow's columns cost as much for one row as for hundreds: rows of several batches are written together.
_MOST_WAITING_ROWS = 512
_OWN_COLUMNS = ("prediction_id", "version", "time_us")
_FACTS = b"shoal"
_LOG_EVERYTHING = LogRule()


@dataclass(frozen=True, slots=True)
class _Waiting:
    """One batch that has its row numbers and is not in the log yet; for each logged tensor the parts of its rows."""

    version: str
    num_rows: int
    time_us: int
    tensors: list[Sequence[Array]]


class PredictionLog:
    """The log of one model, written by the event loop of its front alone.

    Row numbers come from the log itself, and prediction ids from row numbers: an id leads to its row by one lookup.
    Rows wait in memory until `flush`; after it they are durable and readable within a tenth of a second.
    """

    def __init__(
        self,
        folder: Path,
        model: str,
        interface: Interface,
        *,
        model_kind: str,
        rule: LogRule = _LOG_EVERYTHING,
        front: int = 0,
        num_fronts: int = 1,
    ) -> None:
        """Open the log under `folder`, named after the model.

        A version whose logged inputs or outputs differ from those of the log found there gets a log beside it, whose
        name ends in the digest of its columns; so does one of another sampled share, that each log states one share
        for all its rows. Of several fronts each writes a part of the log, which `open_log` reads as one.

        Raises:
            ConfigError: the rule names a field that the model does not have.
            UnsupportedError: the sizes of a tensor vary from row to row, or its name is one of the log's own columns.
            ConflictError: another server writes this model's log.
        """
        self.model = model
        self.rule = rule
        self.dropped = tuple(sorted(rule.dropped(model, interface)))
        schema = _schema(model, interface, model_kind, rule)
        main = _place(folder, model, schema, rule)
        self._log = SegmentLog(part_folder(main, front), schema, commit_every_s=_COMMIT_EVERY_S)
        self._order = OrderWriter(main, front) if OrderWriter.is_needed(main, num_fronts) else None
        # Rows lost with a killed server leave their numbers to the next: each server's ids bear letters of its own.
        self._mark = self._log.log_id + new_token(4)
        self._types = [field.type for field in schema][len(_OWN_COLUMNS) :]
        fields = (*interface.inputs, *interface.outputs)
        # Of the inputs and then the outputs, in the order of the columns.
        self._kept = [place for place, field in enumerate(fields) if field.name not in self.dropped]
        self._waiting: list[_Waiting] = []
        self._num_waiting = 0

    def fits(self, model: str, interface: Interface) -> bool:
        """Whether predictions of a version with this interface have the log's columns."""
        return model == self.model and self._log.schema.equals(_schema(model, interface, "", self.rule))

    @property
    def folder(self) -> Path:
        """Where the segments are."""
        return self._log.folder

    @property
    def num_rows(self) -> int:
        """Rows that were given a number, those of earlier servers included."""
        # Nobody else writes this log, so the rows that wait will get just these numbers.
        return self._log.num_rows + self._num_waiting

    @property
    def failure(self) -> Exception | None:
        """Why rows are only in memory at the moment, such as a full disk."""
        return self._log.failure

    def append(
        self, version: str, num_rows: int, inputs: Sequence[Sequence[Array]], outputs: Sequence[Array]
    ) -> tuple[str, int]:
        """Log a batch and return (prefix, row): row i of the batch has the prediction id `prefix.(row + i)`.

        Args:
            version: the version that answered.
            num_rows: rows in the batch.
            inputs: for each input its parts, in the order of the rows; not written to afterwards.
            outputs: for each output the whole batch; not written to afterwards.

        Raises:
            StorageFullError: the disk has been full for long; the batch was not logged.
        """
        if self._num_waiting >= _MOST_WAITING_ROWS:
            self.flush()
        first = self.num_rows
        tensors = [*inputs, *([output] for output in outputs)]
        tensors = [tensors[place] for place in self._kept]
        self._waiting.append(_Waiting(version, num_rows, time.time_ns() // 1000, tensors))
        self._num_waiting += num_rows
        return f"{self.model}@{version}.{self._mark}", first

    def flush(self) -> None:
        """Hand the rows that wait to the log, which commits them soon.

        Raises:
            StorageFullError: the disk has been full for long; the rows wait on, under the numbers that they have.
        """
        if self._waiting:
            self._log.append(self._batch(self._log.num_rows))
            self._waiting.clear()
            self._num_waiting = 0
        self._tell()

    def sync(self) -> None:
        """Make every flushed row durable and readable; any thread may call it."""
        self._log.sync()
        self._tell()

    def close(self) -> None:
        """Seal the last segment and let the next writer in."""
        try:
            self.flush()
        finally:
            self._log.close()
            self._tell()

    def _tell(self) -> None:
        # A part that is alone needs no order, and pays nothing for it.
        if self._order is not None:
            self._order.tell(self._log.num_durable_rows)

    def _batch(self, row: int) -> pa.RecordBatch:
        ids: list[bytes] = []
        versions: list[bytes] = []
        for waiting in self._waiting:
            prefix = f"{self.model}@{waiting.version}.{self._mark}"
            ids += [f"{prefix}.{number}".encode() for number in range(row, row + waiting.num_rows)]
            versions += [waiting.version.encode()] * waiting.num_rows
            row += waiting.num_rows
        times = np.repeat([each.time_us for each in self._waiting], [each.num_rows for each in self._waiting])
        columns = [_texts(ids), _texts(versions), _values(times.astype(np.int64))]
        for place, kind in enumerate(self._types):
            flat = np.concatenate([part.reshape(-1) for each in self._waiting for part in each.tensors[place]])
            columns.append(_column(flat, kind))
        return pa.RecordBatch.from_arrays(columns, schema=self._log.schema)


def _place(folder: Path, model: str, schema: pa.Schema, rule: LogRule) -> Path:
    place = folder / model
    # The log there may be open in this very process, for the version before: its columns are compared, not its lock.
    try:
        found = SegmentReader(place).schema
    except NotFoundError:
        return place
    if not found.equals(schema) or _sample_of(found) != rule.sample:
        what = schema.remove_metadata().serialize().to_pybytes()
        if rule.sample < 1:
            what += encode(rule.sample)
        return folder / f"{model}-{digest_bytes(what).partition(':')[2][:8]}"
    return place


def _sample_of(schema: pa.Schema) -> float:
    facts: dict[str, Any] = decode((schema.metadata or {}).get(_FACTS, b"{}"))
    return float(facts.get("sample", 1.0))


def _schema(model: str, interface: Interface, model_kind: str, rule: LogRule) -> pa.Schema:
    dropped = rule.dropped(model, interface)
    facts: dict[str, Json] = {
        "model": model,
        "kind": model_kind,
        "inputs": [field.name for field in interface.inputs if field.name not in dropped],
        "outputs": [field.name for field in interface.outputs if field.name not in dropped],
    }
    # Said where there is something to say: a log of all that there is stays as it always was.
    if rule.sample < 1:
        facts["sample"] = rule.sample
    if dropped:
        facts["dropped"] = sorted(dropped)
    fields = [pa.field(name, pa.int64() if name == "time_us" else pa.string()) for name in _OWN_COLUMNS]
    for field in (*interface.inputs, *interface.outputs):
        if field.name in dropped:
            continue
        if field.name in _OWN_COLUMNS:
            raise UnsupportedError(
                f"cannot log predictions of {model}: its tensor {field.name!r} is named as a column of the log itself",
                next_step="rename the tensor, leave it out of the log with log_drop, or serve without a log",
            )
        fields.append(pa.field(field.name, _column_type(model, field, batched=interface.batched)))
    return pa.schema(fields, metadata={_FACTS: encode(facts)})


def _column_type(model: str, field: TensorField, *, batched: bool) -> pa.DataType:
    # A model that takes no batches runs one request at a time: the whole tensor is the row.
    shape = field.shape[1:] if batched or field.shape[:1] == (1,) else field.shape
    if None in shape:
        raise UnsupportedError(
            f"cannot log predictions of {model}: {field.name!r} has shape {field.wire_shape}, whose sizes vary",
            next_step="export the model with fixed sizes but for the batch, or leave it out of the log with log_drop",
        )
    if field.type.family is str:
        if shape:
            raise UnsupportedError(
                f"cannot log predictions of {model}: {field.name!r} has {field.wire_shape} texts, expected one a row",
                next_step="give the model one text a row, or leave it out of the log with log_drop",
            )
        return pa.string()
    element = pa.from_numpy_dtype(field.type.dtype)
    return pa.fixed_shape_tensor(element, shape) if shape else element


def _column(flat: Array, kind: pa.DataType) -> pa.Array:
    if flat.dtype.kind == "U":
        return _texts([text.encode() for text in flat.tolist()])
    if not isinstance(kind, pa.FixedShapeTensorType):
        return _values(flat)
    storage = pa.FixedSizeListArray.from_arrays(_values(flat), type=kind.storage_type)
    return pa.ExtensionArray.from_storage(kind, storage)


# From buffers: pa.array() would import pandas where that is installed, which takes 0.3 s and 60 MB for nothing.
def _values(array: Array) -> pa.Array:
    kind = pa.from_numpy_dtype(array.dtype)
    data = np.packbits(array, bitorder="little") if array.dtype == np.bool_ else np.ascontiguousarray(array)
    return pa.Array.from_buffers(kind, len(array), [None, pa.py_buffer(data)])


def _texts(values: list[bytes]) -> pa.Array:
    ends = np.zeros(len(values) + 1, np.int32)
    np.cumsum([len(value) for value in values], out=ends[1:])
    return pa.Array.from_buffers(pa.string(), len(values), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(values))])
