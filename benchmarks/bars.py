"""What every benchmark shares: medians of paired runs, one JSON line a bar, and a text file of results."""

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def bar(name: str, value: float, unit: str, target: float, peers: dict[str, float], *, at_most: bool = True) -> dict:
    """One bar: `holds` compares the value with the target in the direction that is better."""
    holds = value <= target if at_most else value >= target
    rounded = {peer: round(found, 4) for peer, found in peers.items()}
    return {"bar": name, "value": round(value, 4), "unit": unit, "target": target, "holds": holds, "peers": rounded}


def paired_seconds(commands: dict[str, Sequence[str]], *, runs: int) -> dict[str, list[float]]:
    """Wall seconds of whole commands, taken in turn so that a slow minute of the machine meets all of them."""
    return paired({name: lambda command=command: _run(command) for name, command in commands.items()}, runs=runs)


def paired(measures: dict[str, Callable[[], object]], *, runs: int) -> dict[str, list[float]]:
    """Wall seconds of callables in turn, after one uncounted round."""
    taken: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(runs + 1):
        for name, measure in measures.items():
            began = time.perf_counter()
            measure()
            if number:
                taken[name].append(time.perf_counter() - began)
    return taken


def median_ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """Median over the pairs of first / second: what the machine does to one, it does to the other."""
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


def report(
    name: str, bars: Sequence[dict], *, packages: Sequence[str], command: str, notes: Sequence[str] = ()
) -> None:
    """Print the bars and keep them with machine, versions, date, command and notes in `results/<name>.txt`."""
    lines = [json.dumps(found) for found in bars]
    print("\n".join(lines))
    head = [
        f"date      {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"command   {command}",
        f"machine   {platform.machine()}, {_cores()} cores, {platform.system()} {platform.release()}",
        f"python    {platform.python_version()}",
        "packages  " + ", ".join(f"{package} {version(package)}" for package in packages),
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.txt").write_text("\n".join([*head, *notes, "", *lines, ""]))
    if not all(found["holds"] for found in bars):
        sys.exit(1)


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _cores() -> int:
    import os

    return os.cpu_count() or 1
