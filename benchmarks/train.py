"""The bars of `shoal.train`, side by side with the trainers that people use today: `make bench NAME=train`.

Every trainer has the same network, rows, global batch and one thread a worker, in processes of its own; they take turns
for several rounds, and a ratio is the median over rounds. `--quick` takes few steps and few peers, and keeps nothing.
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
from collections.abc import Callable, Sequence
from pathlib import Path

from bars import bar, report
from data_environments import PEERS, TRAINING, MissingPeerError
from data_workloads import FULL, QUICK, make_workloads

import shoal.data

HERE = Path(__file__).parent
SIZES = (256, 1_024)
V_MANY = 8
# Short runs in turn, as these machines are slow for some seconds at a time. Those whose bars are far apart need fewer.
ROUNDS, ROUNDS_OF_PEERS = 5, 2
PEERS_OF_TWO = ("ddp", "accelerate", "lightning", "ray")
TIMEOUT_S = 300
_TORCHRUN_TRIES = 3
_TORCHRUN_PATIENCE_S = 60
# Shoal's workers keep what they free for the next step. Whoever knows the C library can have that everywhere, so every
# peer has it too; "as it comes" is the plain loop without.
KEEPS_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "2147483647", "MALLOC_MMAP_MAX_": "0"}
AS_IT_COMES = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_MMAP_MAX_": "65536"}

Bars = list[dict]


def main() -> None:
    """Measure everything, print one JSON line a bar, and keep them with every peer's version."""
    # Where it is set, each process compiles each file anew; a start is measured as users have it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    quick = "--quick" in sys.argv
    only = [name for name in sys.argv[1:] if not name.startswith("--")]
    folder = make_workloads(QUICK if quick else FULL)["A"]
    with tempfile.TemporaryDirectory() as scratch:
        dataset = Path(scratch) / "fashion"
        _ingest(folder, dataset)
        bench = Bench(folder, dataset, Path(scratch), quick=quick)
        measures: list[tuple[str, Callable[[], Bars]]] = [
            ("speed", bench.speed),
            ("reduction", bench.reduction),
            ("start", bench.start),
            ("kills", bench.kills),
            ("joins", bench.joins),
            ("saving", bench.saving),
        ]
        if not quick:
            measures.append(("adaptive", bench.adaptive))
        found: Bars = []
        failed: list[str] = []
        for name, measure in measures:
            if only and name not in only:
                continue
            print(name, file=sys.stderr)
            try:
                made = measure()
                found += made
                # At once, so that a run that is cut short was not for nothing.
                print("\n".join(json.dumps(each) for each in made), file=sys.stderr, flush=True)
            except (MissingPeerError, subprocess.SubprocessError) as error:
                failed.append(f"{name}: {error}")
                print(f"{name} was not measured: {error}", file=sys.stderr)
    if quick or only:
        print("\n".join(json.dumps(each) for each in found))
    else:
        wanted = ("accelerate", "pytorch-lightning", "ray")
        pins = [pin for pin in TRAINING.versions() if pin.partition("==")[0] in wanted]
        notes = [f"peers     {', '.join(pins)}; torchrun and DistributedDataParallel are torch's", *bench.notes]
        notes += [f"missing   {reason}" for reason in failed]
        packages = ["shoal", "torch", "numpy"]
        report("train", found, packages=packages, command="make bench NAME=train", notes=notes)
    if failed:
        sys.exit(1)


class Bench:
    """One run: where its data lie, and how long it may take."""

    def __init__(self, arrays: Path, dataset: Path, scratch: Path, *, quick: bool) -> None:
        self._arrays = arrays
        self._dataset = dataset
        self._scratch = scratch
        self._quick = quick
        self.notes: list[str] = []

    # ---- speed ----------------------------------------------------------------------------------------------------

    def speed(self) -> Bars:
        """Samples per second of the steady state, and what share of it the limits leave."""
        rounds = 1 if self._quick else ROUNDS
        taken: dict[tuple[int, str], dict[int, float]] = defaultdict(dict)
        for number in range(rounds):
            for size in SIZES:
                for name, measure in self._trainers(size, with_all_peers=number < ROUNDS_OF_PEERS).items():
                    found = measure()
                    taken[size, name][number] = found["samples_per_s"]
                    print(f"  {size} {name}: {found['samples_per_s']:.0f}/s", file=sys.stderr, flush=True)
        bars = []
        for size in SIZES:
            sides = {name: each for (of, name), each in taken.items() if of == size}
            rates = {f"{name} samples/s": statistics.median(each.values()) for name, each in sides.items()}

            def share(first: str, second: str, sides: dict[str, dict[int, float]] = sides) -> float:
                ours, theirs = sides[first], sides[second]
                return statistics.median(ours[number] / theirs[number] for number in ours.keys() & theirs.keys())

            many = f"shoal 2, V={V_MANY}"
            ratios = [
                (f"one_worker_of_plain_loop_{size}", "shoal 1", "plain", 0.98),
                (f"two_workers_of_no_communication_{size}", "shoal 2", "apart", 0.95),
                # No bar, but what the one before is to be read with: nobody who keeps in step can be ahead of it.
                (f"in_step_without_exchange_of_apart_{size}", "in step", "apart", 0.95),
                (f"v8_on_2_of_ddp_{size}", many, "ddp", 0.95),
                *((f"two_workers_of_{peer}_{size}", "shoal 2", peer, 1.0) for peer in PEERS_OF_TWO if peer in sides),
            ]
            bars += [
                bar(name, share(ours, theirs), f"of {theirs}", target, rates, at_most=False)
                for name, ours, theirs, target in ratios
            ]
        return bars

    def _trainers(self, size: int, *, with_all_peers: bool) -> dict[str, Callable[[], dict]]:
        steps = (16 if size == SIZES[0] else 10) if self._quick else (40 if size == SIZES[0] else 16)
        peer = [str(self._arrays), str(size), str(steps)]
        trainers: dict[str, Callable[[], dict]] = {
            "plain": lambda: _run([TRAINING.python(), PEERS / "training_loops.py", "plain", *peer]),
            "shoal 1": lambda: self._shoal(size, steps, workers=1, num_virtual=1),
            "apart": lambda: _apart([TRAINING.python(), PEERS / "training_loops.py", "apart", *peer]),
            "in step": lambda: self._in_step([TRAINING.python(), PEERS / "training_loops.py", "in_step", *peer]),
            "shoal 2": lambda: self._shoal(size, steps, workers=2, num_virtual=2),
            "ddp": lambda: _torchrun("training_loops.py", "ddp", *peer),
            f"shoal 2, V={V_MANY}": lambda: self._shoal(size, steps, workers=2, num_virtual=V_MANY),
        }
        if with_all_peers and not self._quick:
            plain = [TRAINING.python(), PEERS / "training_loops.py", "plain", *peer]
            trainers |= {
                "plain, memory as it comes": lambda: _run(plain, **AS_IT_COMES),
                "accelerate": lambda: _torchrun("training_loops.py", "accelerate", *peer),
                "lightning": lambda: _torchrun("training_lightning.py", *peer),
                "ray": lambda: _run([TRAINING.python(), PEERS / "training_ray.py", *peer]),
            }
        return trainers

    def _in_step(self, command: Sequence[object]) -> dict:
        meeting = self._scratch / "meeting"
        meeting.write_bytes(bytes(128))
        return _apart(command, BENCH_MEETING=str(meeting))

    def _shoal(self, size: int, steps: int, *, workers: int, num_virtual: int) -> dict:
        numbers = [str(each) for each in (size, steps, workers, num_virtual)]
        return self._child("speed", *numbers)

    # ---- the other bars -------------------------------------------------------------------------------------------

    def reduction(self) -> Bars:
        """25 MB summed over processes of this machine, beside gloo's all-reduce."""
        bars = []
        for members in (2, 4):
            found = _run([sys.executable, HERE / "training_reduction.py", str(members), "5" if self._quick else "30"])
            rates = {f"{name} ms": each for name, each in found["median_ms"].items()}
            name = f"reduction_25MB_{members}_processes"
            bars.append(bar(name, found["ratio"], "times gloo", 3.0, rates, at_most=False))
        return bars

    def start(self) -> Bars:
        """From the call of fit to the first step of two workers, beside importing torch once."""
        ratios, shown = [], defaultdict(list)
        for _ in range(2 if self._quick else 7):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", "import torch"], check=True)
            importing = time.perf_counter() - began
            found = self._child("speed", "256", "6", "2", "2")
            ratios.append(found["start_up_s"] / importing)
            shown["import torch s"].append(importing)
            shown["shoal s"].append(found["start_up_s"])
        if not self._quick:
            for name, command in {"ddp": ["training_loops.py", "ddp"], "lightning": ["training_lightning.py"]}.items():
                shown[f"{name}, end of first step s"] = [_torchrun(*command, str(self._arrays), "256", "6")["start_s"]]
            ray = _run([TRAINING.python(), PEERS / "training_ray.py", str(self._arrays), "256", "6"])
            shown["ray, end of first step s"] = [ray["start_s"]]
        peers = {name: statistics.median(each) for name, each in shown.items()}
        return [bar("start_of_2_workers", statistics.median(ratios), "imports of torch", 1.2, peers)]

    def kills(self) -> Bars:
        """SIGKILL of random workers at random instants: the pauses, the steps done twice, the bits."""
        kills = 3 if self._quick else 50
        found = self._child("kills", "2", str(kills), timeout_s=900)
        undisturbed = self._child("weights", str(found["steps"]), "3", timeout_s=900)
        pauses = found["pause_s"]
        shown = {name: found[name] for name in ("kills", "step_s", "steps")}
        if not self._quick:
            # A group that torchrun starts anew hangs now and then while it meets: then it is tried again, and told.
            for _ in range(_TORCHRUN_TRIES):
                pause_s = self._torchrun_pause()
                if pause_s is not None:
                    shown["torchrun, checkpoint every 5 steps s"] = pause_s
                    break
                self.notes.append(f"torchrun  did not go on within {_TORCHRUN_PATIENCE_S} s of a kill, in one try")
        limit = 1 + found["step_s"]
        return [
            bar("kill_pause_median_s", statistics.median(pauses), "s", limit, shown),
            bar("kill_pause_worst_s", max(pauses), "s", limit, shown),
            bar("kill_steps_redone", found["redone"], "steps", 0, {}),
            bar(
                "kill_same_bits", float(found["digest"] == undisturbed["digest"]), "1: identical", 1, {}, at_most=False
            ),
        ]

    def _torchrun_pause(self) -> float | None:
        scratch = Path(tempfile.mkdtemp(dir=self._scratch))
        trace, kept = scratch / "trace.txt", scratch / "kept"
        kept.mkdir()
        arguments = [str(self._arrays), "256", "400", "--trace", str(trace), "--checkpoints", str(kept)]
        command = _torchrun_command("training_loops.py", "ddp", *arguments, restarts=3)
        nothing = subprocess.DEVNULL
        with subprocess.Popen(command, env=_environment(), stdout=nothing, stderr=nothing) as done:
            try:
                while not trace.exists() or len(trace.read_text().splitlines()) < 40:
                    time.sleep(0.2)
                child = next(_workers_below(done.pid))
                killed = time.time()
                os.kill(child, 9)
                highest = max(int(line.split()[1]) for line in trace.read_text().splitlines())
                while time.time() < killed + _TORCHRUN_PATIENCE_S:
                    lines = [line.split() for line in trace.read_text().splitlines()]
                    new = [float(at) for _, step, at in lines if int(step) > highest + 1 and float(at) > killed + 0.5]
                    if new:
                        return min(new) - killed
                    time.sleep(0.1)
                return None
            finally:
                done.terminate()

    def joins(self) -> Bars:
        """What the survivor waits when a replacement joins."""
        found = self._child("joins", "2" if self._quick else "10", timeout_s=600)["joins"]
        extra = [each["pause_s"] - 2 * each["step_s"] for each in found] or [float("nan")]
        step_s = statistics.median(each["step_s"] for each in found)
        shown = {"joins": len(found), "worst s": max(extra), "step s": step_s}
        # The step that the newcomer takes part in counts as one of the two.
        return [bar("join_pause_beyond_one_step_s", statistics.median(extra), "s, 5 MB of state", 0.25, shown)]

    def saving(self) -> Bars:
        """How long a checkpoint of 100 MB holds up the loop."""
        found = self._child("saving", "100")
        blocked = found["blocked_ms"]
        shown = {"worst ms": max(blocked), "first ms": blocked[0], "step ms": found["step_ms"]}
        return [bar("checkpoint_100MB_blocks", statistics.median(blocked), "ms", 20, shown)]

    def adaptive(self) -> Bars:
        """Time to a fixed accuracy with a batch size that adapts, beside fixed ones."""
        found = _run([sys.executable, HERE / "training_adaptive.py", str(self._dataset)], timeout_s=3_600)
        self.notes += found["notes"]
        return found["bars"]

    def _child(self, verb: str, *numbers: str, timeout_s: float = TIMEOUT_S) -> dict:
        folder = self._scratch / verb
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        command = [sys.executable, HERE / "training_shoal.py", verb, str(self._dataset), str(folder), *numbers]
        return _run(command, timeout_s=timeout_s)


def _ingest(arrays: Path, dataset: Path) -> None:
    import numpy as np

    images, labels = np.load(arrays / "images.npy"), np.load(arrays / "labels.npy")
    shoal.data.ingest({"image": images, "label": labels}, dataset)


def _environment(**more: str) -> dict[str, str]:
    quiet = {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    return {**os.environ, **quiet, **KEEPS_MEMORY, "BENCH_BEGAN": str(time.time()), **more}


def _run(command: Sequence[object], *, timeout_s: float = TIMEOUT_S, **variables: str) -> dict:
    words = [str(part) for part in command]
    environment = _environment(**variables)
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, env=environment)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise MissingPeerError(f"{Path(str(command[1])).stem}: {said[-1]}")
    return json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])


def _apart(command: Sequence[object], **variables: str) -> dict:
    children = [
        subprocess.Popen(
            [str(part) for part in command],
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(RANK=str(rank), WORLD_SIZE="2", **variables),
        )
        for rank in range(2)
    ]
    found = [json.loads(child.communicate(timeout=TIMEOUT_S)[0].splitlines()[-1]) for child in children]
    return {"samples_per_s": sum(each["samples_per_s"] for each in found), "start_s": found[0]["start_s"]}


def _torchrun_command(script: str, *arguments: str, restarts: int = 0) -> list[str]:
    options = ["--standalone", "--nproc_per_node=2", f"--max-restarts={restarts}"]
    return [TRAINING.python(), "-m", "torch.distributed.run", *options, str(PEERS / script), *arguments]


def _torchrun(script: str, *arguments: str) -> dict:
    return _run(_torchrun_command(script, *arguments))


def _workers_below(pid: int):  # noqa: ANN202 - process ids
    for stat in Path("/proc").glob("[0-9]*/stat"):
        fields = stat.read_text().rpartition(")")[2].split()
        if int(fields[1]) == pid:
            yield int(stat.parent.name)


if __name__ == "__main__":
    main()
