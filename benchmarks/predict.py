"""The bars of offline prediction, beside what people do today: `make bench NAME=predict`.

Each side runs as a whole command, its start included, over the same images and with the same model, one thread in each
worker; its rows per second are given as a share of what the model alone gives with as many processes on data in memory.
All take turns, so that a slow minute of the machine meets all. `--quick` has few rows and one round and keeps nothing.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bars import bar, report
from data_environments import PEERS, Environment, MissingPeerError
from serving_model import SIDE, make_model

ENVIRONMENT = Environment("predicting", needs_torch=False)
HERE = Path(__file__).parent
WORKERS = (1, 2)
NUM_ROWS, QUICK_ROWS = 240_000, 12_000
NUM_FILES = 16
ROUNDS = 3
MODEL_S, QUICK_MODEL_S = 10.0, 2.0
BATCH_SIZES = (8, 16, 32, 64, 128, 256)
TARGET = 0.9
TIMEOUT_S = 900


def main() -> None:
    """Measure everything, print one JSON line a bar, and keep them with every side's version and setting."""
    # Where it is set, each process compiles each file anew; a start is measured as users have it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: max(WORKERS)])
    quick = "--quick" in sys.argv
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch), quick=quick)
        shares = bench.shares()
    bars = [_bar(workers, shares[workers]) for workers in WORKERS]
    if quick:
        print("\n".join(json.dumps(found) for found in bars))
    else:
        packages = ["shoal", "onnxruntime", "numpy", "pyarrow"]
        report("predict", bars, packages=packages, command="make bench NAME=predict", notes=bench.notes())
    if bench.missing:
        sys.exit(1)


class Bench:
    """One run: the rows in the form that each side reads, and the commands."""

    def __init__(self, scratch: Path, *, quick: bool) -> None:
        self._scratch = scratch
        self._num_rows = QUICK_ROWS if quick else NUM_ROWS
        self._rounds = 1 if quick else ROUNDS
        self._model_s = QUICK_MODEL_S if quick else MODEL_S
        self._model = scratch / "model.onnx"
        make_model(self._model)
        _write_rows(scratch, self._num_rows)
        self._batch_size = 0
        self._chosen: set[int] = set()
        self.missing: dict[str, str] = {}

    def shares(self) -> dict[int, dict[str, list[float]]]:
        """By number of workers and side, for each round: rows per second as a share of the model's own."""
        own = self._own_rates(1, BATCH_SIZES)
        self._batch_size = max(own, key=lambda size: own[size])
        found: dict[int, dict[str, list[float]]] = {workers: defaultdict(list) for workers in WORKERS}
        for number in range(self._rounds):
            for workers in WORKERS:
                # Before and after, as the machine may change its speed within a round.
                before = self._own_rate(workers)
                rates = {name: side(workers) for name, side in self._sides().items() if name not in self.missing}
                alone = (before + self._own_rate(workers)) / 2
                for name, rate in rates.items():
                    if name not in self.missing:
                        found[workers][name].append(rate / alone)
                        text = f"round {number}, {workers} workers, {name}: {rate:.0f} rows/s, {rate / alone:.3f}"
                        print(text, file=sys.stderr, flush=True)
        return found

    def notes(self) -> list[str]:
        """The settings, as lines of the result's file."""
        return [
            f"rows      {self._num_rows:,} images of {SIDE} x {SIDE} bytes; {self._rounds} rounds, medians",
            f"model     1,199,882 weights; best batch size {self._batch_size}, one thread a process",
            f"shoal     batch size as it measures: {sorted(self._chosen)}; wall time of the whole command",
            "loop      pyarrow and ONNX Runtime from Parquet to Parquet, a process for each share of the files",
            "ray data  read_parquet, map_batches with an actor for each worker, write_parquet; order not kept",
            *(f"missing   {name}: {reason}" for name, reason in self.missing.items()),
            "peers     " + ", ".join(ENVIRONMENT.versions()),
        ]

    def _sides(self) -> dict[str, Callable[[int], float]]:
        return {"shoal": self._shoal, "loop": self._loop, "ray data": self._ray}

    def _own_rates(self, processes: int, sizes: tuple[int, ...]) -> dict[int, float]:
        script = str(HERE / "predicting_model.py")
        command = [sys.executable, script, str(self._model), str(self._model_s), str(processes), *map(str, sizes)]
        return {int(size): rate for size, rate in json.loads(_run(command)).items()}

    def _own_rate(self, processes: int) -> float:
        return self._own_rates(processes, (self._batch_size,))[self._batch_size]

    def _shoal(self, workers: int) -> float:
        out = self._scratch / "shoal"
        command = [str(Path(sys.executable).with_name("shoal")), "model", "predict"]
        command += [str(self._model), str(self._scratch / "rows"), str(out), "--workers", str(workers), "--json"]
        rate, said = self._timed(command, out)
        found = json.loads(said)
        assert found["rows"] == self._num_rows
        self._chosen.add(found["batch_size"])
        return rate

    def _loop(self, workers: int) -> float:
        out = self._scratch / "loop"
        return self._timed([sys.executable, str(PEERS / "predict_loop.py"), *self._arguments(out, workers)], out)[0]

    def _ray(self, workers: int) -> float:
        out = self._scratch / "ray"
        try:
            command = [ENVIRONMENT.python(), "-W", "ignore", str(PEERS / "predict_ray.py")]
            return self._timed([*command, *self._arguments(out, workers)], out)[0]
        except MissingPeerError as error:
            self.missing["ray data"] = str(error)
            print(f"ray data was not measured: {error}", file=sys.stderr)
            return 0.0

    def _arguments(self, out: Path, workers: int) -> list[str]:
        return [str(self._model), str(self._scratch / "parquet"), str(out), str(self._batch_size), str(workers)]

    def _timed(self, command: list[str], out: Path) -> tuple[float, str]:
        began = time.perf_counter()
        said = _run(command)
        taken = time.perf_counter() - began
        shutil.rmtree(out)
        return self._num_rows / taken, said


def _bar(workers: int, shares: dict[str, list[float]]) -> dict:
    found = {name: statistics.median(each) for name, each in shares.items()}
    value = found.pop("shoal")
    name = f"predict_{workers}_worker{'' if workers == 1 else 's'}_share_of_model"
    return bar(name, value, "share", TARGET, found, at_most=False)


def _write_rows(folder: Path, num_rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    import shoal.data

    generator = np.random.default_rng(1)
    (folder / "parquet").mkdir()
    per_file = -(-num_rows // NUM_FILES)
    for number in range(NUM_FILES):
        ids = np.arange(number * per_file, min((number + 1) * per_file, num_rows))
        pixels = generator.integers(0, 256, (len(ids), SIDE * SIDE), dtype=np.uint8)
        columns = [pa.array(ids), pa.FixedSizeListArray.from_arrays(pixels.reshape(-1), SIDE * SIDE)]
        table = pa.table(columns, names=["id", "image"])
        pq.write_table(table, folder / "parquet" / f"{number:02d}.parquet", compression="none", use_dictionary=False)
    source = shoal.data.ParquetSource(str(folder / "parquet" / "*.parquet"))
    schema = {"id": "int64", "image": f"uint8[{SIDE}, {SIDE}]"}
    shoal.data.ingest(source, folder / "rows", key="id", schema=schema)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise MissingPeerError(f"{' '.join(command[:4])} failed: {done.stderr[-2_000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
