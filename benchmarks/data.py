"""The bars of `shoal.data`, side by side with the loaders that people use today: `make bench NAME=data`.

Every loader reads the same rows, shuffled, from a warm page cache, in a process of its own; the processes take turns
for several rounds. `--quick` takes small data and few peers, prints its lines and keeps nothing.
"""

import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bars import bar, report
from data_environments import ARROW, CHUNKS, TENSORFLOW, MissingPeerError
from data_peers import DRIVERS, ON_DISK, QUICK_DRIVERS, Peers, run_driver, run_python
from data_workloads import FULL, QUICK, Sizes, make_tables, make_workloads

import shoal.data

HERE = Path(__file__).parent
LIMITS = ("index_select", "index_select 1 thread")
ROW_BYTES_B = 3 * 224 * 224
FRESH_PROCESSES = 3

Bars = list[dict]


def main() -> None:
    """Measure everything, print one JSON line a bar, and keep them with every peer's version and setting."""
    quick = "--quick" in sys.argv
    sizes = QUICK if quick else FULL
    scratch = sizes.folder / "made"
    shutil.rmtree(scratch, ignore_errors=True)
    peers = Peers(make_workloads(sizes), sizes.folder)
    measures: list[tuple[str, Callable[[], Bars]]] = [
        ("loaders", lambda: _loaders(peers, quick=quick)),
        ("shards", lambda: _shards(peers, quick=quick)),
        ("ingest", lambda: _ingest(sizes, scratch, runs=1 if quick else 2)),
        ("memory", lambda: _memory(sizes, scratch)),
        ("first batch", lambda: _opening(peers, sizes, scratch, quick=quick)),
        ("remote", lambda: _remote(peers, ["http"] if quick else ["http", "s3"], runs=1 if quick else 3)),
    ]
    found: Bars = []
    failed: list[str] = []
    for name, measure in measures:
        print(name, file=sys.stderr)
        try:
            found += measure()
        except MissingPeerError as error:
            failed.append(f"{name}: {error}")
            print(f"{name} was not measured: {error}", file=sys.stderr)
    shutil.rmtree(scratch, ignore_errors=True)
    if quick:
        print("\n".join(json.dumps(each) for each in found))
    else:
        packages = ["shoal", "torch", "numpy", "pyarrow"]
        report("data", found, packages=packages, command="make bench NAME=data", notes=_notes(peers, failed))
    if failed or peers.missing:
        sys.exit(1)


def _loaders(peers: Peers, *, quick: bool) -> Bars:
    drivers = list(QUICK_DRIVERS if quick else DRIVERS)
    if quick:  # making environments takes minutes: a quick run does with those that are there
        drivers = [name for name in drivers if (made := DRIVERS[name]) is None or made.is_ready()]
    peers.prepare(drivers, anew=() if quick else ("A",))
    for _ in range(1 if quick else 4):
        peers.prepare(["shoal_dataset"])
    for _ in range(1 if quick else 3):
        peers.read(drivers, seconds=0.3 if quick else 1.0)
    return [*_bars_of_images(peers), *_times_best(peers, "C", 1.5), _bar_of_writing(peers)]


def _bars_of_images(peers: Peers) -> Bars:
    found = []
    for name, fraction, times in (("A", 0.75, 15), ("B", 0.85, 2.5)):
        scale, unit = (ROW_BYTES_B / 1e9, "GB/s") if name == "B" else (1, "rows/s")
        rates = {f"{side} {unit}": rate * scale for side, rate in peers.rates(name).items()}
        # A process's first epoch also opens the shards, checks every chunk and maps every page.
        rates[f"shoal, first epoch {unit}"] = peers.first_rate(name, "shoal") * scale
        share = peers.fraction(name, "shoal", LIMITS)
        found.append(bar(f"{name}_fraction_of_index_select", share, "ratio", fraction, rates, at_most=False))
        found += _times_best(peers, name, times)
    return found


def _times_best(peers: Peers, workload: str, target: float) -> Bars:
    best = peers.best_on_disk(workload)
    if best is None:
        return []
    rates = {f"{side} rows/s": found for side, found in peers.rates(workload).items() if side in (*ON_DISK, "shoal")}
    name = f"{workload}_times_best_disk_peer"
    value = peers.rate(workload, "shoal") / best[1]
    return [bar(name, value, f"times {best[0]}", target, rates, at_most=False)]


def _bar_of_writing(peers: Peers) -> dict:
    taken = {name: statistics.median(each) for name, each in peers.write_s.items() if name != "torch_loader"}
    ours = taken.pop("shoal_dataset")
    return bar("write_A_s", ours, "s", 0.6, {f"{name} s": each for name, each in taken.items()})


def _shards(peers: Peers, *, quick: bool) -> Bars:
    folder = peers.folder / "made" / "shards"
    folder.mkdir(parents=True)
    part = ["A", str(peers.workloads["A"]), str(folder)]
    run_driver("shoal_shards", "write", *part)
    rounds = [run_driver("shoal_shards", "read", "--seconds", "0.5", *part)["A"] for _ in range(1 if quick else 3)]
    rates = {
        side: statistics.median(statistics.median(found[side][1:] or found[side]) for found in rounds)
        for side in rounds[0]
    }
    spread = min(rates.values()) / max(rates.values())
    shown = {f"{side} rows/s": rate for side, rate in rates.items()}
    return [bar("shards_1_8_128_1024_spread", spread, "slowest / fastest", 0.8, shown, at_most=False)]


def _ingest(sizes: Sizes, scratch: Path, *, runs: int) -> Bars:
    tables = make_tables(sizes)
    paths = [str(path) for path in tables.values()]
    found = run_python(sys.executable, HERE / "data_ingest.py", [str(scratch / "table"), str(runs), *paths])
    bars = []
    for kind, taken in found.items():
        seconds = {name: statistics.median(each) for name, each in taken.items()}
        reading = min(each for name, each in seconds.items() if name.startswith("pyarrow"))
        ours = min(each for name, each in seconds.items() if name.startswith("shoal"))
        shown = {f"{name} s": each for name, each in seconds.items()}
        bars.append(bar(f"ingest_{kind}_fraction_of_pyarrow", reading / ours, "ratio", 0.8, shown, at_most=False))
    return bars


def _memory(sizes: Sizes, scratch: Path) -> Bars:
    found: dict[str, dict[str, float]] = {}
    for times in (1, 10):
        folder, rows = str(scratch / f"memory-{times}"), str(sizes.memory_rows * times)
        for verb in ("ingest", "epoch"):
            found[f"{verb} {times}x"] = run_python(sys.executable, HERE / "data_memory.py", [verb, folder, rows])
        shutil.rmtree(folder)
    shown = {f"{name} {kind}": each[kind] for name, each in found.items() for kind in ("peak_mb", "grown_mb")}
    return [
        bar(
            f"{verb}_peak_anonymous_memory_10x_to_1x",
            found[f"{verb} 10x"]["peak_mb"] / found[f"{verb} 1x"]["peak_mb"],
            "ratio",
            1.1,
            {name: each for name, each in shown.items() if name.startswith(verb)},
        )
        for verb in ("ingest", "epoch")
    ]


def _opening(peers: Peers, sizes: Sizes, scratch: Path, *, quick: bool) -> Bars:
    many, millions = scratch / "many", f"{sizes.many_rows // 10**6} M rows"
    _ingest_many(many, sizes.many_rows)
    folders = {name: (peers.folder / "peers" / "shoal_dataset" / name, size) for name, size in _BATCH_SIZES.items()}
    if quick:
        folders = {"A": folders["A"]}
    folders[millions] = (many, 256)
    first: dict[str, float] = {}
    resumed: dict[str, list[float]] = {}
    opened: dict[str, dict] = {}
    for name, (folder, batch_size) in folders.items():
        runs = [
            run_python(sys.executable, HERE / "data_opening.py", [str(folder), str(batch_size)])
            for _ in range(1 if quick else FRESH_PROCESSES)
        ]
        opened[name] = runs[-1]
        first[name] = statistics.median(run["first_batch_ms"] for run in runs)
        resumed[name] = [each for run in runs for each in run["resume_ms"]]
    shown = {f"{name} ms": each for name, each in first.items()}
    shown |= {f"{name} open ms": each["open_ms"] for name, each in opened.items()}
    medians = {f"{name} median ms": statistics.median(each) for name, each in resumed.items()}
    slowest = {f"{name} slowest ms": max(each) for name, each in resumed.items()}
    large = opened[millions]
    grown = {"A": opened["A"]["state_bytes"], "MB held after the first batch": large["grown_bytes"] / 1e6}
    return [
        bar("first_batch_ms", max(first.values()), "ms after open, fresh process", 50, shown),
        bar("resume_ms", max(medians.values()), "ms, 50 random points", 50, medians | slowest),
        bar(f"state_bytes_at_{sizes.many_rows // 10**6}M_rows", large["state_bytes"], "bytes", 1_024, grown),
    ]


def _ingest_many(folder: Path, rows: int) -> None:
    import numpy as np

    shoal.data.ingest({"id": np.arange(rows), "label": (np.arange(rows) % 10).astype(np.uint8)}, folder)


def _remote(peers: Peers, protocols: list[str], *, runs: int) -> Bars:
    import numpy as np

    images = np.load(peers.workloads["B"] / "images.npy", mmap_mode="r")
    # Outside .bench: the server does not list what lies below a hidden folder.
    with tempfile.TemporaryDirectory() as folder:
        shoal.data.ingest({"image": images}, Path(folder) / "bucket" / "rows", num_shards=8)
        found = run_python(sys.executable, HERE / "data_remote.py", ["bars", folder, str(runs), *protocols])
    bars = []
    for protocol in protocols:
        seconds = {side: statistics.median(each) for side, each in found[protocol].items()}
        rates = {f"{side} MB/s": found["dataset_mb"] / each for side, each in seconds.items()}
        share = seconds["obstore"] / seconds["shoal"]
        bars.append(bar(f"remote_{protocol}_fraction_of_obstore", share, "ratio", 0.7, rates, at_most=False))
        fetched = found[f"{protocol} bytes share"]
        bars.append(bar(f"remote_{protocol}_bytes_fetched_by_3_workers", fetched, "x dataset", 1.01, {}))
    return bars


def _notes(peers: Peers, failed: list[str]) -> list[str]:
    lines = [
        "rows/s and GB/s are of whole epochs: the median over 3 rounds of the median epoch, without a process's first;",
        "memory is anonymous memory (RssAnon): pages of mapped files belong to the system.",
        f"counted as reading from disk: {', '.join(ON_DISK)}",
    ]
    lines += [f"missing   {name}: {reason}" for name, reason in peers.missing.items()]
    lines += [f"missing   {reason}" for reason in failed]
    for name, chosen in peers.settings.items():
        lines += [f"setting   {name}, {what}: {text}" for what, text in chosen.items()]
    wanted = ("mosaicml-streaming", "litdata", "webdataset", "datasets", "ray", "grain", "tensorflow_cpu", "numpy")
    for environment in (CHUNKS, ARROW, TENSORFLOW):
        pins = [pin for pin in environment.versions() if pin.partition("==")[0] in wanted]
        lines.append(f"peers     {environment.name}: {', '.join(pins)}")
    return lines


_BATCH_SIZES = {"A": 256, "B": 64, "C": 128}


if __name__ == "__main__":
    main()
