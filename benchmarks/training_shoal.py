"""Shoal's side of the training bars, run as a child: `training_shoal.py VERB DATASET FOLDER ...` prints one JSON line.

speed BATCH_SIZE STEPS WORKERS NUM_VIRTUAL: samples per second of the steady state, seconds to the first step.
kills WORKERS KILLS: pauses at SIGKILLs of random workers at random instants.
joins JOINS: pauses of the survivor when its partner's replacement joins.
weights STEPS WORKERS: the digest of the weights without any disturbance.
saving MEGABYTES: how long a checkpoint holds up the steps.
"""

import json
import os
import random
import signal
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parent / "peers"))

from training_workload import WARM_UP, Net, as_inputs, make_optimizer

import shoal.data
import shoal.store
import shoal.train
from shoal.train.task import Batch

BATCH_SIZE = 256
EVERY_S = 1.0  # between two kills: long enough for the replacement to be back


@dataclass(frozen=True)
class Fashion(shoal.train.Task):
    """The peers' network and optimiser."""

    def build(self) -> nn.Module:
        """The network."""
        return Net()

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """As the peers make them."""
        return (as_inputs(batch["image"]),)

    def loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Cross entropy."""
        return F.cross_entropy(outputs, batch["label"].long())

    def optimizer(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The peers'."""
        return make_optimizer(params)


@dataclass(frozen=True)
class Trace(shoal.train.Callback):
    """Has each worker append (process, step, seconds) to a file when it has done a step."""

    path: str
    everywhere: bool = True

    def on_step(self, moment: shoal.train.Moment) -> None:
        """One write a line: lines of several processes do not mix, and a kill leaves none half written."""
        with open(self.path, "ab", buffering=0) as file:  # noqa: PTH123 - its bytes, unbuffered
            file.write(f"{os.getpid()} {moment.step} {time.time():.6f}\n".encode())


@dataclass(frozen=True)
class Wide(Fashion):
    """A model whose state, weights and two moments for each, takes some megabytes, and whose steps are short."""

    megabytes: int = 100

    def build(self) -> nn.Module:
        """One large table of weights of which each row uses little."""
        return nn.Sequential(nn.Flatten(), nn.Linear(784, self.megabytes * 1_000_000 // 12 // 784))

    def loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Something that depends on all weights."""
        return outputs.square().mean() + batch["label"].float().mean()

    def optimizer(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Two moments a weight."""
        return torch.optim.Adam(params, lr=1e-4)


def main() -> None:
    """Dispatch on the verb."""
    verb, dataset, *arguments = sys.argv[1:]
    verbs = {"speed": _speed, "kills": _kills, "joins": _joins, "weights": _weights, "saving": _saving}
    print(json.dumps(verbs[verb](dataset, *arguments)), flush=True)


def _speed(dataset: str, folder: str, batch_size: str, steps: str, workers: str, num_virtual: str) -> dict:
    trace = Path(folder) / "trace.txt"
    trace.unlink(missing_ok=True)
    began = time.time()
    result = _fit(Fashion(), dataset, folder, int(steps), int(workers), int(num_virtual), int(batch_size), trace=trace)
    ends = next(iter(_times(trace).values()))
    rate = (len(ends) - WARM_UP) * int(batch_size) / (ends[-1] - ends[WARM_UP - 1])
    # Until the first step is done, as for the peers; and until the first begins.
    return {"samples_per_s": rate, "start_s": ends[0] - began, "start_up_s": result.start_up_s}


def _weights(dataset: str, folder: str, steps: str, workers: str) -> dict:
    return {"digest": _digest(_fit(Fashion(), dataset, folder, int(steps), int(workers), 4).model)}


def _kills(dataset: str, folder: str, workers: str, kills: str) -> dict:
    trace = Path(folder) / "trace.txt"
    steps = int(kills) * 12
    stop = threading.Event()
    killed: list[float] = []
    hunter = threading.Thread(target=_hunt, args=(trace, int(kills), stop, killed), daemon=True)
    hunter.start()
    result = _fit(Fashion(), dataset, folder, steps, int(workers), 4, trace=trace, retries=int(kills))
    stop.set()
    hunter.join()
    times = _times(trace)
    pauses = _pauses(times, killed)
    normal = statistics.median(b - a for ends in times.values() for a, b in pairwise(ends))
    done = max(result.steps, 1)
    return {
        "kills": len(killed),
        "pause_s": pauses,
        "step_s": normal,
        "steps": done,
        "digest": _digest(result.model),
        "redone": _redone(trace),
    }


def _hunt(trace: Path, kills: int, stop: threading.Event, killed: list[float]) -> None:
    random_ = random.Random(7)
    while len(killed) < kills and not stop.wait(EVERY_S * random_.uniform(0.6, 1.4)):
        times = _times(trace) if trace.exists() else {}
        alive = [pid for pid, ends in times.items() if len(ends) > WARM_UP and _is_alive(pid)]
        if not alive:
            continue
        pid = random_.choice(alive)
        time.sleep(random_.uniform(0, 0.2))  # at any point of a step
        killed.append(time.time())
        os.kill(pid, signal.SIGKILL)


def _joins(dataset: str, folder: str, joins: str) -> dict:
    """One survivor all along: the second worker is killed, and its replacement joins."""
    trace = Path(folder) / "trace.txt"
    stop = threading.Event()
    killed: list[float] = []

    def hunt() -> None:
        first: int | None = None
        while len(killed) < int(joins) and not stop.wait(EVERY_S * 1.5):
            times = _times(trace) if trace.exists() else {}
            alive = [pid for pid, ends in times.items() if len(ends) > WARM_UP and _is_alive(pid)]
            first = first or (alive[0] if alive else None)
            victims = [pid for pid in alive if pid != first]
            if victims:
                killed.append(time.time())
                os.kill(victims[0], signal.SIGKILL)

    hunter = threading.Thread(target=hunt, daemon=True)
    hunter.start()
    _fit(Fashion(), dataset, folder, int(joins) * 60, 2, 4, trace=trace, retries=int(joins))
    stop.set()
    hunter.join()
    times = _times(trace)
    survivor = max(times, key=lambda pid: len(times[pid]))
    found = []
    for pid, ends in times.items():
        if pid == survivor or not killed or ends[0] < killed[0]:
            continue
        before = [at for at in times[survivor] if at < ends[0] - 1e-3]
        steps = [b - a for a, b in zip(before[-6:], before[-5:], strict=False)]
        around = [at for at in times[survivor] if before and at >= before[-1]]
        found.append({"pause_s": around[1] - around[0], "step_s": statistics.median(steps)})
    return {"joins": found}


def _saving(dataset: str, folder: str, megabytes: str) -> dict:
    trace = Path(folder) / "trace.txt"
    task = Wide(megabytes=int(megabytes))
    _fit(task, dataset, folder, 120, 1, 1, 32, trace=trace, checkpoint_every_steps=15)
    ends = next(iter(_times(trace).values()))
    steps = [b - a for a, b in pairwise(ends)]
    normal = statistics.median(steps)
    # The checkpoint after step 15 holds up the 16th, and so on; the first one also finds its memory untouched.
    held = [steps[number - 1] - normal for number in range(15, len(steps), 15)]
    return {"blocked_ms": [1_000 * each for each in held], "step_ms": 1_000 * normal}


def _fit(
    task: Fashion,
    dataset: str,
    folder: str,
    steps: int,
    workers: int,
    num_virtual: int,
    batch_size: int = BATCH_SIZE,
    *,
    trace: Path | None = None,
    **settings: object,
) -> shoal.train.Result:
    rows = shoal.data.open(dataset)
    with shoal.store.open(Path(folder) / ".shoal") as store:
        return shoal.train.fit(
            task,
            rows,
            epochs=1 + steps * batch_size // rows.num_rows,
            max_steps=steps,
            batch_size=batch_size,
            workers=workers,
            strategy=shoal.train.Collective(num_virtual=num_virtual),
            store=store,
            callbacks=[Trace(str(trace))] if trace else [],
            **settings,  # type: ignore[arg-type]  # a few that differ from bar to bar
        )


def _lines(trace: Path) -> list[tuple[int, int, float]]:
    """(process, step, seconds) of every step that some worker has done."""
    return [(int(pid), int(step), float(at)) for pid, step, at in map(str.split, trace.read_text().splitlines())]


def _times(trace: Path) -> dict[int, list[float]]:
    found: dict[int, list[float]] = defaultdict(list)
    for pid, _, at in _lines(trace):
        found[pid].append(at)
    return dict(found)


def _pauses(times: dict[int, list[float]], killed: list[float]) -> list[float]:
    """From each kill to the next step that anybody ends after all have found each other again."""
    every = sorted(at for ends in times.values() for at in ends)
    pauses = []
    for moment in killed:
        # A survivor may just be ending the step that the dead worker had brought its part to.
        after = [at for at in every if at > moment]
        pauses.append(after[0] - moment if len(after) < 2 else max(after[0] - moment, after[1] - after[0]))
    return pauses


def _redone(trace: Path) -> int:
    """How often some worker has done a step that it had done before, or one before it."""
    last: dict[int, int] = {}
    redone = 0
    for pid, step, _ in _lines(trace):
        redone += step <= last.get(pid, 0)
        last[pid] = step
    return redone


def _digest(model: nn.Module) -> str:
    import hashlib

    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
