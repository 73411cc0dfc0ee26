import base64
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import CorruptError
from shoal.data.loading.unchecked import PendingChunks
from shoal.data.storage.chunks import ChunkChecks, chunk_sums
from shoal.data.storage.shard import OpenBatch

CHUNK = 1 << 16
NOTHING = pa.RecordBatch.from_pydict({"x": [1]})


def opened(data: np.ndarray) -> OpenBatch:
    sums, chunk_bytes = chunk_sums(data)
    checks = ChunkChecks(Path("file"), np.frombuffer(base64.b64decode(sums), "<u8"), chunk_bytes)
    return OpenBatch(NOTHING, None, data, checks)


def test_only_chunks_of_wanted_regions_are_pending() -> None:
    data = np.zeros(4 * CHUNK, np.uint8)
    pending = PendingChunks([(len(data), CHUNK), (len(data), CHUNK)])

    pending.open(1, opened(data), [data[10:20], data[2 * CHUNK - 1 : 2 * CHUNK + 1], np.zeros(9, np.uint8)])

    assert np.flatnonzero(pending.flags).tolist() == [4, 5, 6]
    assert pending.left == 3


def test_checking_counts_down_to_nothing() -> None:
    data = np.zeros(4 * CHUNK, np.uint8)
    pending = PendingChunks([(len(data), CHUNK)])
    pending.open(0, opened(data), [data])

    pending.check([1, 0, 1])
    pending.check([3, 2, 1])
    pending.check([])

    assert pending.left == 0
    assert not pending.flags.any()


def test_what_others_have_checked_is_not_pending() -> None:
    data = np.zeros(4 * CHUNK, np.uint8)
    known = opened(data)
    assert known.checks is not None
    known.checks.check(data, 0, CHUNK)
    pending = PendingChunks([(len(data), CHUNK)])

    pending.open(0, known, [data])

    assert pending.left == 3


def test_a_damaged_chunk_stays_pending() -> None:
    data = np.zeros(4 * CHUNK, np.uint8)
    pending = PendingChunks([(len(data), CHUNK)])
    pending.open(0, opened(data), [data])
    data[2 * CHUNK] = 1

    with pytest.raises(CorruptError, match="between bytes 131072"):
        pending.check([1, 2])

    assert pending.flags[2]


def test_a_batch_in_memory_has_nothing_pending() -> None:
    pending = PendingChunks([(0, 1), (4 * CHUNK, CHUNK)])

    pending.open(0, OpenBatch(NOTHING), [])

    assert pending.firsts.tolist() == [0, 0, 4]
    assert (pending.left, pending.origins.tolist()) == (0, [0, 0])
