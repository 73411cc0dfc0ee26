"""Batches that two threads gather, and those that go past the processor's caches: the same bytes, also in a fork."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.data import native
from shoal.data.native import Rectangle, Table

pytestmark = pytest.mark.skipif(native.native is None, reason="this environment has no compiler")
NUM_ROWS = 97


def rows_of(width: int) -> tuple[np.ndarray, Rectangle]:
    values = np.random.default_rng(width).integers(0, 256, (NUM_ROWS, width), dtype=np.uint8)
    table = Table(np.zeros(1, np.int64))
    table.put(0, values, row_bytes=width)
    return values, native.rectangle([table], [width])


def gathered(rows: np.ndarray, source: Rectangle, width: int, shift: int = 0) -> np.ndarray:
    memory = np.full(len(rows) * width + 128, 77, np.uint8)
    out = memory[shift : shift + len(rows) * width].reshape(len(rows), width)
    native.gather_rows(rows, np.zeros(len(rows), np.int32), source, (out,))
    assert (memory[:shift] == 77).all()
    assert (memory[shift + out.nbytes :] == 77).all()
    return out


@given(
    # Rows of a few lines, of a page, and so large that a batch is streamed; not all begin where a line does.
    width=st.sampled_from([700, 784, 4_095, 4_096, 60_001, 150_528]),
    count=st.integers(0, 120),
    shift=st.integers(0, 65),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_a_large_batch_has_the_rows_asked_for_and_nothing_beside_it_is_touched(
    width: int, count: int, shift: int, seed: int
) -> None:
    values, source = rows_of(width)
    rows = np.random.default_rng(seed).integers(0, NUM_ROWS, count)

    assert np.array_equal(gathered(rows, source, width, shift), values[rows])


@given(
    longest=st.sampled_from([900, 70_000]), count=st.integers(1, 200), shift=st.integers(0, 65), seed=st.integers(0, 99)
)
@settings(deadline=None, max_examples=40)
def test_a_large_batch_of_blobs_has_every_blob(longest: int, count: int, shift: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    items = random.integers(0, 256, longest * 3, dtype=np.uint8)
    table = Table(np.zeros(1, np.int64))
    table.put(0, items, row_bytes=0)
    lengths = random.integers(0, longest, count)
    starts = random.integers(0, longest, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    out = np.empty(int(offsets[-1]) + shift, np.uint8)[shift:]

    native.gather_items(starts, np.zeros(count, np.int32), table, 1, offsets, 0, out)

    assert out.tobytes() == b"".join(items[s : s + n].tobytes() for s, n in zip(starts, lengths, strict=True))


def test_many_threads_gather_at_once_and_each_gets_its_own_rows() -> None:
    values, source = rows_of(4_095)

    def run(seed: int) -> bool:
        rows = np.random.default_rng(seed).integers(0, NUM_ROWS, 64)
        return all(np.array_equal(gathered(rows, source, 4_095), values[rows]) for _ in range(40))

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(run, range(24)))


def test_a_fork_gathers_like_its_parent_however_busy_that_was() -> None:
    # In an interpreter of its own: this one has threads that a fork would not survive.
    program = """
import os, threading, time
from tests.data.test_large_gathers import NUM_ROWS, gathered, np, rows_of
values, source = rows_of(4_095)
rows = np.arange(64) % NUM_ROWS
over = False
def keep_busy():
    while not over:
        gathered(rows, source, 4_095)
threads = [threading.Thread(target=keep_busy) for _ in range(2)]
for thread in threads:
    thread.start()
children = []
for _ in range(20):
    child = os.fork()
    if child == 0:
        right = all(np.array_equal(gathered(rows, source, 4_095), values[rows]) for _ in range(20))
        os._exit(0 if right else 1)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
over = True
for thread in threads:
    thread.join()
print(codes == [0] * 20)
"""
    # Nor would the lock of coverage, which a thread may hold at that moment.
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, env=unmeasured)

    assert done.stdout == "True\n", done.stderr
