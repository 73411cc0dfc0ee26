"""Streaming ingest beside pyarrow reading the same file and throwing the rows away.

Run as a child by data.py: `data_ingest.py SCRATCH RUNS CSV JSONL PARQUET` prints one JSON line: seconds of every run.
Each side's first round loads what it needs and is told apart: "first, shoal workers=1".
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

import shoal.data

BLOCK_BYTES = (1 << 20, 8 << 20)  # the two that were fastest for pyarrow's streaming readers; the better one counts
WORKERS = (1, 2)


def main() -> None:
    """Take readers and ingests in turn, after one round of all of them that is not counted with the others."""
    _ = shoal.data.ingest  # the face loads its parts when they are first named
    scratch, runs = Path(sys.argv[1]), int(sys.argv[2])
    found: dict[str, dict[str, list[float]]] = {}
    for path in map(Path, sys.argv[3:]):
        sides = {f"pyarrow {size >> 20} MiB": partial(_read, path, size) for size in BLOCK_BYTES}
        sides |= {f"shoal workers={count}": partial(_ingest, path, scratch, count) for count in WORKERS}
        taken: dict[str, list[float]] = {}
        for number in range(runs + 1):
            for name, measure in sides.items():
                taken.setdefault(name if number else f"first, {name}", []).append(measure())
        found[path.suffix[1:]] = taken
    print(json.dumps(found))


def _read(path: Path, block_bytes: int) -> float:
    began = time.perf_counter()
    _READERS[path.suffix](path, block_bytes)
    return time.perf_counter() - began


def _read_csv(path: Path, block_bytes: int) -> int:
    options = pyarrow.csv.ReadOptions(block_size=block_bytes)
    with pyarrow.csv.open_csv(path, read_options=options) as reader:
        return sum(batch.num_rows for batch in reader)


def _read_jsonl(path: Path, block_bytes: int) -> int:
    options = pyarrow.json.ReadOptions(block_size=block_bytes)
    if hasattr(pyarrow.json, "open_json"):
        with pyarrow.json.open_json(path, read_options=options) as reader:
            return sum(batch.num_rows for batch in reader)
    return pyarrow.json.read_json(path, read_options=options).num_rows


def _read_parquet(path: Path, block_bytes: int) -> int:
    rows_per_batch = block_bytes >> 6
    with pyarrow.parquet.ParquetFile(path, pre_buffer=True) as file:
        return sum(batch.num_rows for batch in file.iter_batches(batch_size=rows_per_batch))


def _ingest(path: Path, scratch: Path, workers: int) -> float:
    shutil.rmtree(scratch, ignore_errors=True)
    began = time.perf_counter()
    shoal.data.ingest(str(path), scratch, workers=workers)
    seconds = time.perf_counter() - began
    shutil.rmtree(scratch, ignore_errors=True)
    return seconds


_READERS: dict[str, Callable[[Path, int], int]] = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}


if __name__ == "__main__":
    main()
