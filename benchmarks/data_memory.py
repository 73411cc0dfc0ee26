"""The most memory that ingest, and an epoch of the loader, hold at a time.

Measured is anonymous memory (RssAnon in /proc/self/status), looked at every 2 ms: VmHWM also counts pages of mapped
files, which the system lends and takes back. Run as a child by data.py: `data_memory.py ingest|epoch FOLDER ROWS`
prints one JSON line.
"""

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch  # noqa: F401  # imports are not what is measured

import shoal.data

ROWS_PER_BATCH = 4_096
SHAPE = (28, 28)


class PeakWatch:
    """The largest RssAnon while the block runs; a thread looks, because the kernel keeps no such mark."""

    def __enter__(self) -> "PeakWatch":
        self.before_bytes = self.peak_bytes = anonymous_bytes()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self.peak_bytes = max(self.peak_bytes, anonymous_bytes())


def main() -> None:
    """Do one of the two and print peak and growth in MB."""
    verb, folder, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with PeakWatch() as watch:
        if verb == "ingest":
            shoal.data.ingest(_batches(rows), folder)
        else:
            for _ in shoal.data.open(folder).loader(batch_size=256, shuffle=True):
                pass
    print(json.dumps({"peak_mb": watch.peak_bytes / 1e6, "grown_mb": (watch.peak_bytes - watch.before_bytes) / 1e6}))


def _batches(rows: int) -> Iterator[pa.RecordBatch]:
    random = np.random.default_rng(7)
    for start in range(0, rows, ROWS_PER_BATCH):
        count = min(ROWS_PER_BATCH, rows - start)
        images = random.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
        yield pa.RecordBatch.from_pydict(
            {"image": pa.FixedShapeTensorArray.from_numpy_ndarray(images), "label": pa.array(images[:, 0, 0] % 10)}
        )


def anonymous_bytes() -> int:
    """Memory of this process that no file stands behind."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    main()
