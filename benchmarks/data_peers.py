"""Every loader that is measured: where it lives, what it wrote, and its figures over all rounds."""

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from data_environments import ARROW, BENCH, CHUNKS, PEERS, TENSORFLOW, Environment, MissingPeerError

TIMEOUT_S = 240
# Driver -> environment; None is shoal's own. Interpreters of peers never see this project's packages.
DRIVERS: dict[str, Environment | None] = {
    "shoal_dataset": None,
    "torch_loader": None,
    "mosaicml_streaming": CHUNKS,
    "lit_data": CHUNKS,
    "web_dataset": ARROW,
    "huggingface_datasets": ARROW,
    "ray_data": ARROW,
    "google_grain": TENSORFLOW,
    "tensorflow_data": TENSORFLOW,
}
QUICK_DRIVERS = ("shoal_dataset", "lit_data", "huggingface_datasets")
# Sides that read rows from files. The others hold all rows in memory, or have most of the work done by hand.
ON_DISK = ("mosaicml-streaming", "litdata", "webdataset", "datasets", "grain", "ray data", "tf.data")


@dataclass
class Peers:
    """The figures of one run: rows per second of every epoch timed, and what could not be measured and why."""

    workloads: dict[str, Path]
    folder: Path
    epochs: dict[str, dict[str, list[list[float]]]] = field(default_factory=lambda: defaultdict(dict))
    write_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    settings: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def prepare(self, drivers: Iterable[str], *, anew: Sequence[str] = ("A",)) -> None:
        """Let every driver write what is not there yet, and these workloads in any case; the seconds are kept."""
        for driver in drivers:
            with self._reported(driver):
                interpreter(driver)
                due = [name for name in self.workloads if name in anew or not self._stamp(driver, name).exists()]
                if due:
                    self._write(driver, due)

    def read(self, drivers: Iterable[str], seconds: float) -> None:
        """One round: every driver in turn, in a process of its own, over all workloads."""
        for driver in drivers:
            if driver in self.missing:
                continue
            with self._reported(driver):
                parts = [part for name in self.workloads for part in self._part(driver, name)]
                for name in self.workloads:
                    _warm(self._stored(driver, name))
                found = run_driver(driver, "read", "--seconds", str(seconds), *parts)
                self.settings[driver] = found["settings"]
                for name in self.workloads:
                    for side, rates in found[name].items():
                        self.epochs[name].setdefault(side, []).append(rates)

    def rate(self, workload: str, side: str) -> float:
        """Rows per second: the median over rounds of the median epoch, without the first epoch of a process."""
        return statistics.median(statistics.median(rates[1:] or rates) for rates in self.epochs[workload][side])

    def first_rate(self, workload: str, side: str) -> float:
        """Rows per second of a process's first epoch: the median over rounds."""
        return statistics.median(rates[0] for rates in self.epochs[workload][side])

    def rates(self, workload: str) -> dict[str, float]:
        """The same for every side."""
        return {side: self.rate(workload, side) for side in self.epochs[workload]}

    def best_on_disk(self, workload: str) -> tuple[str, float] | None:
        """The peer that reads files fastest, and its rows per second; None when no peer was measured."""
        found = {side: rate for side, rate in self.rates(workload).items() if side in ON_DISK}
        return max(found.items(), key=lambda item: item[1]) if found else None

    def fraction(self, workload: str, side: str, limits: Sequence[str]) -> float:
        """Median of side / the fastest limit, over epochs that ran one after the other in one process."""
        found = self.epochs[workload]
        ratios = []
        for number, ours in enumerate(found[side]):
            limit = max((found[name][number] for name in limits), key=statistics.median)
            ratios += [mine / theirs for mine, theirs in zip(ours[1:], limit[1:], strict=False)]
        return statistics.median(ratios)

    def _write(self, driver: str, names: Sequence[str]) -> None:
        for name in names:
            shutil.rmtree(self._stored(driver, name), ignore_errors=True)
            self._stored(driver, name).mkdir(parents=True)
        found = run_driver(driver, "write", *[part for name in names for part in self._part(driver, name)])
        if "A" in names:
            self.write_s[driver].append(found["A"])
        unchecked = [name for name in names if not self._stamp(driver, name).exists()]
        if unchecked:
            run_driver(driver, "check", *[part for name in unchecked for part in self._part(driver, name)])
        for name in unchecked:
            self._stamp(driver, name).touch()

    def _stamp(self, driver: str, name: str) -> Path:
        # Another driver means other files, and other files are checked once.
        text = (PEERS / f"{driver}.py").read_bytes()
        return self._stored(driver, name).with_suffix(f".{blake2b(text, digest_size=6).hexdigest()}")

    def _stored(self, driver: str, name: str) -> Path:
        return self.folder / "peers" / driver / name

    def _part(self, driver: str, name: str) -> list[str]:
        return [name, str(self.workloads[name]), str(self._stored(driver, name))]

    def _reported(self, driver: str) -> "_Reported":
        return _Reported(self, driver)


@dataclass(frozen=True)
class _Reported:
    """A peer that fails is left out of what follows and named in the result; shoal failing ends the run."""

    peers: Peers
    driver: str

    def __enter__(self) -> None:
        print(f"  {self.driver}", file=sys.stderr, flush=True)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, MissingPeerError) or DRIVERS.get(self.driver) is None:
            return False
        self.peers.missing[self.driver] = str(error)
        print(f"  {self.driver} is left out: {error}", file=sys.stderr)
        return True


def interpreter(driver: str) -> str:
    """Return the Python that a driver runs in, after making its environment."""
    environment = DRIVERS.get(driver)
    return sys.executable if environment is None else environment.python()


def run_driver(driver: str, *arguments: str) -> dict:
    """Run a driver and return its JSON line.

    Raises:
        MissingPeerError: it failed or took too long.
    """
    return run_python(interpreter(driver), PEERS / f"{driver}.py", arguments)


def run_python(python: str, script: Path, arguments: Sequence[str], **variables: str) -> dict:
    """Run a script in an interpreter and return the JSON of its last line."""
    quiet = {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0", "TF_ENABLE_ONEDNN_OPTS": "0", **variables}
    scratch = BENCH / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            [python, "-W", "ignore", str(script), *arguments],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            cwd=scratch,
            env={**os.environ, **quiet},
        )
    except subprocess.TimeoutExpired as error:
        raise MissingPeerError(f"{script.stem} took more than {TIMEOUT_S} s") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise MissingPeerError(f"{script.stem} {arguments[0]}: {said[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def _warm(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(1 << 24):
                    pass
