"""What a batch is handed out as: torch tensors (on a device, through pinned memory), NumPy arrays, or Arrow."""

import importlib.util
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from shoal.base import ConfigError, InputError, UnsupportedError
from shoal.data.loading.buffers import Buffers
from shoal.data.loading.packed import Packed, pack
from shoal.data.schema import Column, Schema

Format = Literal["torch", "numpy", "arrow"]
FORMATS = ("torch", "numpy", "arrow")
# Copies to a device that may be under way at once; the host's side of each is kept until it is done.
_IN_FLIGHT = 4


class Formatter(Protocol):
    """Turns a batch of arrays and packed rows into what the caller asked for; for any number of threads."""

    buffers: Buffers

    def __call__(self, arrays: Mapping[str, Any]) -> Any:  # noqa: ANN401  # a dict, or a record batch
        """Return the batch; what it does not know (tensors and objects of a transform) passes through."""
        ...

    def hand_over(self, batch: Any) -> Any:  # noqa: ANN401  # what was returned
        """Return the batch ready for use; called in the thread that uses it, which may be another."""
        ...


def default_format() -> Format:
    """Return "torch" where it is installed, else "numpy"."""
    return "torch" if importlib.util.find_spec("torch") else "numpy"


def make_formatter(
    format: Format, schema: Schema, pad: Mapping[str, float], device: str | None, pin_memory: bool | None
) -> Formatter:
    """Return what hands batches of these columns out.

    Raises:
        ConfigError: padding for a column of fixed size, or a device for something else than torch.
    """
    if wrong := [name for name in pad if name not in schema.names or schema[name].is_fixed]:
        raise ConfigError(
            f"cannot pad {wrong[0]!r}: it is no column of varying length",
            next_step="name text, blobs or lists; the columns are " + ", ".join(map(str, schema.columns)),
        )
    if format == "torch":
        return TorchFormat(schema, pad, device, pin_memory)
    if device is not None or pin_memory:
        raise ConfigError(f"device={device!r} and pin_memory={pin_memory} need tensors", next_step="use format='torch'")
    if format == "arrow":
        from shoal.data.loading.arrow_batches import ArrowFormat  # Arrow takes longer to load than a dataset to open

        return ArrowFormat(schema, pad)
    return NumpyFormat(schema, pad)


def spread(name: str, packed: Packed, pad: Mapping[str, float]) -> dict[str, NDArray[Any]]:
    """Return packed rows as arrays: padded beside "<name>_lengths" where `pad` says so, else with "<name>_offsets"."""
    if name in pad:
        return {name: packed.padded(pad[name]), f"{name}_lengths": packed.lengths}
    return {name: packed.values, f"{name}_offsets": packed.offsets}


class NumpyFormat:
    """Arrays; text and blobs as Python objects unless they are padded, lists of numbers packed or padded."""

    def __init__(self, schema: Schema, pad: Mapping[str, float]) -> None:
        self.buffers = Buffers()
        self._columns = {column.name: column for column in schema.columns}
        self._pad = pad

    def __call__(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return a dict of arrays."""
        batch: dict[str, Any] = {}
        for name, values in arrays.items():
            column = self._columns.get(name)
            if isinstance(values, Packed):
                if column is not None and not column.is_list and name not in self._pad:
                    batch[name] = values.objects(column, arrays.get(f"{name}_mask"))
                else:
                    batch |= spread(name, values, self._pad)
            elif column is not None and column.dtype == "timestamp":
                batch[name] = values.view(column.numpy_dtype)
            else:
                batch[name] = values
        return batch

    def hand_over(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the batch as it is."""
        return batch


class _Moved(dict[str, Any]):
    """A batch whose copies to a device may still be under way; `done` is the event behind them."""

    done: Any


class TorchFormat:
    """Tensors; text is UTF-8 bytes, packed like blobs and lists; instants are int64 microseconds.

    With a CUDA device, batches are gathered into pinned memory and copied without waiting, on a stream of their own:
    while a model works on one batch, the next is copied.
    """

    def __init__(
        self, schema: Schema, pad: Mapping[str, float], device: str | None = None, pin_memory: bool | None = None
    ) -> None:
        import torch  # one of the few files where data meets torch; everything else works without it

        self._torch = torch
        self._from_numpy = torch.from_numpy
        self._columns = {column.name: column for column in schema.columns}
        self._pad = pad
        self._device = None if device is None else torch.device(device)
        is_cuda = self._device is not None and self._device.type == "cuda"
        if (is_cuda or pin_memory) and not torch.cuda.is_available():
            raise UnsupportedError(
                f"device={device!r} with pin_memory={pin_memory} needs CUDA, and torch finds none",
                next_step="leave out device and pin_memory",
            )
        self._pins = is_cuda if pin_memory is None else pin_memory
        self._stream = torch.cuda.Stream(self._device) if is_cuda else None  # type: ignore[no-untyped-call]  # torch's
        self._in_flight: deque[tuple[Any, Any]] = deque()
        self._lock = threading.Lock()
        if not self._pins:
            self.buffers = Buffers()
        elif is_cuda:
            self.buffers = Buffers(self._pinned)
        else:
            # The caller copies: only torch's own allocator knows when that is done, and gives the memory again.
            self.buffers = Buffers(self._pinned, num_kept=0)

    def __call__(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Return a dict of tensors, which share the arrays' memory unless they go to a device."""
        batch: dict[str, Any] = {}
        from_numpy = self._from_numpy
        for name, values in arrays.items():
            if type(values) is np.ndarray and values.dtype != object and values.dtype.kind != "M":
                try:
                    batch[name] = from_numpy(values if values.flags.writeable else values.copy())
                except (TypeError, ValueError):
                    batch |= self._unusual(name, values)
            else:
                batch |= self._other(name, values)
        return batch if self._device is None else self._moved(batch)

    def _other(self, name: str, values: Any) -> dict[str, Any]:  # noqa: ANN401  # whatever a transform returns
        if isinstance(values, np.ndarray) and values.dtype.kind == "M":
            return {name: self._from_numpy(values.astype("M8[us]").view(np.int64))}
        if isinstance(values, np.ndarray) and values.dtype == object:
            values = pack(values, self._columns.get(name) or _column_of(name, values))
        if isinstance(values, Packed):
            spread_out = spread(name, values, self._pad)
            return {key: self._tensor(array) for key, array in spread_out.items()}
        if isinstance(values, list) and values and all(isinstance(each, np.ndarray) for each in values):
            return {name: [self._tensor(np.ascontiguousarray(each)) for each in values]}
        return {name: values}

    def _tensor(self, values: NDArray[Any]) -> Any:  # noqa: ANN401  # torch is known to the constructor alone
        # A tensor may be written to: what must not be, such as bytes seen as numbers, is copied.
        return self._from_numpy(values if values.flags.writeable else values.copy())

    def _unusual(self, name: str, values: NDArray[Any]) -> dict[str, Any]:
        if values.dtype.kind in "US":
            return self._other(name, values.astype(object))
        # Backwards, or of another machine's byte order: torch knows neither.
        plain = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
        try:
            return {name: self._tensor(plain)}
        except TypeError as error:
            raise InputError(
                f"cannot make a tensor of {name!r}, an array of {values.dtype}: {error}",
                next_step="let the transform return numbers, text or tensors, or use format='numpy'",
            ) from error

    def _pinned(self, num_bytes: int) -> NDArray[np.uint8]:
        flat: NDArray[np.uint8] = self._torch.empty(num_bytes, dtype=self._torch.uint8, pin_memory=True).numpy()
        return flat

    def _moved(self, batch: dict[str, Any]) -> dict[str, Any]:
        if self._stream is None:
            return self._copied(batch)
        cuda = self._torch.cuda
        if any(isinstance(values, self._torch.Tensor) and values.is_cuda for values in batch.values()):
            # A transform's own tensors may still be computed on the stream that it used.
            self._stream.wait_stream(cuda.current_stream(self._device))
        with cuda.stream(self._stream):
            moved = _Moved(self._copied(batch))
            done = cuda.Event()
            done.record(self._stream)
            moved.done = done
        finished = []
        with self._lock:
            # The copies may still be running: their source must not become the next batch before they are done.
            self._in_flight.append((moved.done, batch))
            while self._in_flight and (len(self._in_flight) > _IN_FLIGHT or self._in_flight[0][0].query()):
                finished.append(self._in_flight.popleft())
        # Waited for outside of the lock, and their sources are let go only then.
        for done, _ in finished:
            done.synchronize()
        return moved

    def _copied(self, batch: dict[str, Any]) -> dict[str, Any]:
        tensor_type = self._torch.Tensor
        return {
            name: values.to(self._device, non_blocking=self._pins) if isinstance(values, tensor_type) else values
            for name, values in batch.items()
        }

    def hand_over(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the batch; what this thread does on its present stream with it begins when the copies are done."""
        if not isinstance(batch, _Moved):
            return batch
        stream = self._torch.cuda.current_stream(self._device)
        stream.wait_event(batch.done)
        for values in batch.values():
            if isinstance(values, self._torch.Tensor) and values.is_cuda:
                # Else its memory would be given out again for the next copy while this stream still reads it.
                values.record_stream(stream)
        return dict(batch)


def _column_of(name: str, values: NDArray[np.object_]) -> Column:
    is_text = all(isinstance(value, str) for value in values if value is not None)
    return Column(name=name, dtype="string" if is_text else "binary")
