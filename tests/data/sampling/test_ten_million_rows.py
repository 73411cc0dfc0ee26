"""Ten million rows: subsets and orders hold bits, never a list of rows (which would be 80 MB)."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.data import ingest

NUM_ROWS = 10_000_000

PROGRAM = """
import sys, threading
from pathlib import Path
import numpy as np
import shoal

def anonymous_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))

dataset = shoal.data.open(sys.argv[1])
# Once beforehand, on few rows: modules, thread pools and buffers are not what is measured.
few = dataset.split(0.0001)[0]
for subset in (few.sample(0.5), few.sample(10, by="label"), few.filter(("label", ">", 0))):
    few.loader(batch_size=64, order=shoal.data.Stratified("label"), format="numpy").micro_batch(0, 0, 0, 1)
    assert subset.num_rows

before, highest, is_over = anonymous_bytes(), 0, threading.Event()

def watch():
    global highest
    while not is_over.wait(0.002):
        highest = max(highest, anonymous_bytes())

watcher = threading.Thread(target=watch)
watcher.start()
sample = dataset.sample(0.3)
exact = dataset.sample(1_000_000, by="label")
side = dataset.filter(("label", ">", 0)).split(0.8, 0.2)[0]
assert exact.num_rows == 1_000_000
assert abs(sample.num_rows - 3_000_000) < 10_000
assert 0 < side.num_rows < dataset.num_rows
for subset, order in ((dataset, shoal.data.Stratified("label")), (side, shoal.data.MinPerClass("label"))):
    loader = subset.loader(batch_size=256, order=order, format="numpy")
    assert np.bincount(loader.micro_batch(3, len(loader) // 2, 0, 1)["label"]).sum() == 256
is_over.set()
watcher.join()
print(highest - before)
"""


@pytest.fixture
def large(tmp_path: Path) -> Path:
    def batches() -> Iterator[pa.RecordBatch]:
        rng = np.random.default_rng(0)
        for first in range(0, NUM_ROWS, 500_000):
            label = rng.choice(4, 500_000, p=[0.6, 0.3, 0.09, 0.01]).astype(np.uint8)
            yield pa.RecordBatch.from_pydict({"n": np.arange(first, first + 500_000), "label": label})

    return ingest(batches(), tmp_path / "large").path


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's own memory from mapped files")
def test_memory_does_not_grow_with_the_rows(large: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(large)], capture_output=True, text=True, timeout=240)

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64 << 20
    bits = [path.stat().st_size for path in (large / "subsets").glob("*.bits")]
    assert max(bits) < NUM_ROWS / 8 + 8 * NUM_ROWS / 4_096 + 10_000
