"""Compressed samples to arrays, many at a time: a pool of threads whose size is found out by measuring."""

import io
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shoal.base import ConfigError, InputError, UnsupportedError
from shoal.data.loading.packed import Packed
from shoal.data.native import Rows
from shoal.data.schema import Schema

Decoder = Callable[[bytes], NDArray[Any]]
DecoderName = Literal["jpeg", "png"]
# Each size is timed over this many batches before the next is tried.
_BATCHES_PER_SIZE = 3
# Twice the threads must save a tenth of the time, else they only take cores from the training.
_WORTHWHILE = 0.9


def image_decoder(format: DecoderName) -> Decoder:
    """Return what decodes one image to uint8 [height, width] or [height, width, channels].

    Raises:
        UnsupportedError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise UnsupportedError(
            f"decoding {format} needs Pillow, which is not installed", next_step="pip install 'shoal[images]'"
        ) from error

    def decode(content: bytes) -> NDArray[Any]:
        # Only the format that was named: a file that says to be another never reaches another parser.
        with Image.open(io.BytesIO(content), formats=(format.upper(),)) as image:
            return np.asarray(image)

    return decode


@dataclass(slots=True)
class PoolSize:
    """How many threads decode: doubled while that pays, timed over a few batches each; never more than cores."""

    limit: int
    size: int = field(init=False, default=1)
    is_settled: bool = field(init=False, default=False)
    _times: list[float] = field(init=False, default_factory=list)
    _best_s: float = field(init=False, default=float("inf"))

    def __post_init__(self) -> None:
        self.is_settled = self.limit <= 1

    def add(self, seconds_per_sample: float) -> None:
        """Take the timing of one batch at the present size, and perhaps move to another."""
        self._times.append(seconds_per_sample)
        if self.is_settled or len(self._times) < _BATCHES_PER_SIZE:
            return
        # The fastest of a few: what a neighbour on the machine took is not this pool's doing.
        found, self._times = min(self._times), []
        if found > _WORTHWHILE * self._best_s:
            self.size, self.is_settled = max(1, self.size // 2), True
        elif self.size * 2 > self.limit:
            self._best_s, self.is_settled = found, True
        else:
            self._best_s, self.size = found, self.size * 2


class Decoders:
    """Decodes the named columns of batches; any number of threads may ask, and share the pool's threads.

    Samples of one shape become one array [num_rows, *shape], others a list of arrays. A batch without rows gives an
    empty array, of the last samples' shape and type.
    """

    def __init__(
        self,
        decode: Mapping[str, DecoderName | Decoder],
        schema: Schema,
        *,
        max_threads: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Find the decoders.

        Raises:
            ConfigError: a column does not hold blobs, or a decoder is unknown.
        """
        for name, decoder in decode.items():
            if schema[name].dtype != "binary":
                raise ConfigError(
                    f"cannot decode {schema[name]}: expected blobs", next_step="name a column of type binary"
                )
            if not callable(decoder) and decoder not in ("jpeg", "png"):
                raise ConfigError(
                    f"decode={{{name!r}: {decoder!r}}} is unknown", next_step="use 'jpeg', 'png' or a function"
                )
        self._decoders = {name: each if callable(each) else image_decoder(each) for name, each in decode.items()}
        self.names = tuple(self._decoders)
        self._clock = clock
        self._kinds: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        self.pool_size = PoolSize(max_threads or os.cpu_count() or 1)
        self._process = os.getpid()
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def apply(self, batch: dict[str, Any], rows: Rows | None = None) -> dict[str, Any]:
        """Return the batch with its named columns decoded, in place of the blobs; `rows` are their numbers, for errors.

        Raises:
            InputError: a sample is missing or cannot be decoded; the message gives column and place in the batch, and
                the row's number.
        """
        if self._process != os.getpid():
            # A fork has the pool of its parent and none of its threads, and perhaps a lock that nobody will open.
            self._process, self._executor, self._lock = os.getpid(), None, threading.Lock()
        for name, decoder in self._decoders.items():
            packed = batch[name]
            assert isinstance(packed, Packed)
            began = self._clock()
            samples = self._decoded(name, packed, decoder, rows)
            if len(packed):
                with self._lock:
                    self.pool_size.add((self._clock() - began) / len(packed))
            batch[name] = self._joined(name, samples)
        return batch

    def _joined(self, name: str, samples: list[NDArray[Any]]) -> NDArray[Any] | list[NDArray[Any]]:
        kinds = {(sample.shape, sample.dtype) for sample in samples}
        if len(kinds) == 1:
            self._kinds[name] = next(iter(kinds))
            return np.stack(samples)
        if samples:
            return samples
        # A rank may get no row of a last batch; what it would have been is known from the batches before.
        shape, dtype = self._kinds.get(name, ((), np.dtype(np.uint8)))
        return np.empty((0, *shape), dtype)

    def _decoded(self, name: str, packed: Packed, decoder: Decoder, rows: Rows | None) -> list[NDArray[Any]]:
        def decode_some(begin: int, end: int) -> list[NDArray[Any]]:
            return [_decode_one(name, packed, index, decoder, rows) for index in range(begin, end)]

        size, count = self.pool_size.size, len(packed)
        if size == 1:
            return decode_some(0, count)
        borders = [index * count // size for index in range(size + 1)]
        pool = self._pool()
        # The calling thread takes the first part itself: it would only wait.
        parts = [pool.submit(decode_some, borders[index], borders[index + 1]) for index in range(1, size)]
        found = decode_some(0, borders[1])
        for part in parts:
            found += part.result()
        return found

    def _pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self.pool_size.limit, thread_name_prefix="shoal-decode")
            return self._executor


def _decode_one(name: str, packed: Packed, index: int, decoder: Decoder, rows: Rows | None) -> NDArray[Any]:
    content = packed.values[packed.offsets[index] : packed.offsets[index + 1]].tobytes()
    try:
        return decoder(content)
    except Exception as error:  # the boundary to decoders, which raise whatever they like
        number = None if rows is None else int(rows[index])
        whose = f"row {index} of a batch" if number is None else f"row {number} of the dataset ({index} of its batch)"
        look = "" if number is None else f"look at it with dataset.row({number}); "
        raise InputError(
            f"cannot decode {whose}, column {name!r}: {len(content)} bytes, {error}",
            next_step=f"{look}remove or mend the row, or give a decoder for {name!r} that returns a stand-in",
        ) from error
