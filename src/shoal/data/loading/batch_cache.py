"""Finished batches kept on disk: an epoch that failed goes on from them without preparing or decoding again."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from shoal.base import ConfigError, digest_json, report_full_storage
from shoal.data.remote.disk_cache import DiskCache
from shoal.runtime import code_digest

Batch = dict[str, Any]
_DTYPES = {
    "F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
    "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


class BatchCache:
    """Batches of one loader in a bounded cache on disk, each in a safetensors file.

    A batch is found again only by a loader of the same identity (data, order, seed, steps) whose code has not changed,
    in this process or another. Of all who ask for one batch at once a single one makes it. Any number of threads.
    """

    def __init__(self, cache: DiskCache, identity: Mapping[str, object], *code: Callable[..., object]) -> None:
        """Keep batches apart from those of other loaders.

        Args:
            cache: where they are kept, and up to how many bytes.
            identity: what decides the batches, as plain JSON values.
            code: functions that decide them too; each counts with everything of ours that it is seen to reach.
        """
        self._cache = cache
        self._identity = digest_json([dict(identity), [code_digest(function).digest for function in code]])

    def get(self, place: tuple[int, ...], rows: NDArray[np.int64], make: Callable[[], Batch]) -> Batch:
        """Return the batch of these rows as writable NumPy arrays, calling `make` only when it is not kept.

        Args:
            place: which batch it is: epoch, first and last position.
            rows: its row numbers.
            make: makes it, of arrays or of tensors in memory.

        Raises:
            ConfigError: the batch holds something else than numbers.
            StorageFullError: no room on the disk.
        """
        name = digest_json([self._identity, place, rows.tobytes().hex()]).removeprefix("b3:")

        def write(target: Path) -> None:
            data = save({key: _array(key, value) for key, value in make().items()})
            with report_full_storage(target):
                target.write_bytes(data)

        with self._cache.lease(f"{name}.safetensors", write) as lease:
            return _read(lease.path)


def _array(name: str, value: Any) -> NDArray[Any]:  # noqa: ANN401  # whatever a transform returns
    array = value if isinstance(value, np.ndarray) else value.numpy() if hasattr(value, "numpy") else None
    if array is not None and array.dtype.kind == "M":
        array = array.view(np.int64)
    if array is None or array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        found = type(value).__name__ if array is None else f"an array of {array.dtype}"
        raise ConfigError(
            f"cannot keep batches on disk: {name!r} is {found}, expected arrays or tensors of numbers",
            next_step="leave that column out with columns=[...], or do not keep batches: cache='auto'",
        )
    return np.ascontiguousarray(array)


def _read(path: Path) -> Batch:
    # Read and not mapped: Python's maps hold a descriptor each, and who keeps an epoch's batches would run out of them.
    data = np.fromfile(path, np.uint8)
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    batch = {}
    for name, told in json.loads(data[8:start].tobytes()).items():
        first, stop = told["data_offsets"]
        batch[name] = data[start + first : start + stop].view(_DTYPES[told["dtype"]]).reshape(told["shape"])
    return batch
