"""A batch size that adapts beside fixed ones: `training_adaptive.py DATASET` prints one JSON line, {"bars", "notes"}.

Two workers train a small network on Fashion-MNIST until it has LEVEL of the held-out rows right. Fixed sizes have the
learning rate that was best for each in a sweep; adaptive runs have that of 64 rows alone. Then the same with 20 ms more
for every reduction. Time is that of the steps: start-up and validation do not count.
"""

import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from bars import bar
from torch import nn

import shoal.data
import shoal.store
import shoal.train
from shoal.train import Collective, Group, Stepper, TrainState

LEVEL = 0.87
SEEDS = 7
DELAY_S = 0.02
EPOCHS = 8
# Rates by size, from a sweep of the same network without a delay; SWEEP holds its figures.
RATES = {64: 0.03, 256: 0.1, 1024: 0.2}
SWEEP = (
    "thousand rows to 86% of the last 5,000 training images by rate, median of 5 seeds: "
    "64: 98 at 0.02, 90 at 0.03, 90 at 0.05; 256: 135 at 0.05, 118 at 0.1, 151 at 0.15; "
    "1024: 226 at 0.1, 188 at 0.2, 209 at 0.3"
)
# With the delay, runs end after so many steps, or 64 rows would take a minute each: by then it has lost. Such runs are
# marked by a + in the notes, and count with the time that they had taken.
MOST_STEPS = 700
# Held-out accuracy is measured after about so many rows.
EVERY_ROWS = 4096


@dataclass(frozen=True)
class Garments(shoal.train.Task):
    """One hidden layer, SGD with momentum."""

    rate: float = 0.02

    def build(self) -> nn.Module:
        """101,770 weights."""
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))

    def inputs(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Pixels from 0 to 1."""
        return (batch["image"].float().div_(255),)

    def loss(self, outputs: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Cross entropy."""
        return F.cross_entropy(outputs, batch["label"].long())

    def optimizer(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """A constant rate."""
        return torch.optim.SGD(params, lr=self.rate, momentum=0.9)

    def metrics(self, outputs: torch.Tensor, batch: dict[str, torch.Tensor]) -> Mapping[str, shoal.train.Metric]:
        """Accuracy."""
        return {"accuracy": shoal.train.accuracy(outputs, batch["label"])}


@dataclass(frozen=True, kw_only=True)
class Reached(shoal.train.EarlyStopping):
    """Ends a run at an accuracy, looked at every EVERY_ROWS rows: whoever looks more often would be lucky sooner."""

    level: float
    num_rows: int
    monitor: str = "accuracy"
    restore_best: bool = False

    def should_stop(self, values: Mapping[str, float], state: TrainState) -> bool:
        """Whether it is reached."""
        row = state.position.epoch * self.num_rows + state.position.row
        kept = state.extras.setdefault("reached", {"looked": 0})
        if row - kept["looked"] < EVERY_ROWS:
            return False
        kept["looked"] = row
        return values[self.monitor] >= self.level


@dataclass(frozen=True)
class Delayed:
    """A collective strategy on a network whose every reduction takes longer."""

    delay_s: float
    inner: Collective = field(default_factory=lambda: Collective(num_virtual=2))

    def roles(self, workers: int) -> Mapping[str, int]:
        """As without."""
        return self.inner.roles(workers)

    def num_parts(self, workers: int) -> int:
        """As without."""
        return self.inner.num_parts(workers)

    def join(
        self, state: TrainState, group: Group, *, seed: int, num_parts: int, measure_noise: bool = False
    ) -> Stepper:
        """With a slower group."""
        slow = _SlowGroup(group, self.delay_s)
        return self.inner.join(state, slow, seed=seed, num_parts=num_parts, measure_noise=measure_noise)


class _SlowGroup:
    def __init__(self, group: Group, delay_s: float) -> None:
        self._group = group
        self._delay_s = delay_s

    def __getattr__(self, name: str) -> object:
        return getattr(self._group, name)

    def combine(self, *args: object, **named: object) -> object:
        time.sleep(self._delay_s)
        return self._group.combine(*args, **named)  # type: ignore[arg-type]  # handed through


@dataclass(frozen=True)
class Outcome:
    """One run: seconds of steps to the level, steps, and rows of a step in the middle of that time and at its end."""

    seconds: float
    steps: int
    reached: bool
    usual_size: float


def main() -> None:
    """Both networks, all sizes, all seeds in turn."""
    dataset = shoal.data.open(sys.argv[1])
    seeds = int(sys.argv[2]) if len(sys.argv) > 2 else SEEDS
    train, held_out = dataset.split(11 / 12, 1 / 12)
    taken: dict[tuple[float, str], list[Outcome]] = defaultdict(list)
    for seed in range(seeds):
        for delay_s in (0.0, DELAY_S):
            for name, run in _trainers(train, held_out, delay_s).items():
                found = run(seed)
                taken[delay_s, name].append(found)
                print(f"  {1000 * delay_s:.0f} ms, seed {seed}, {name}: {found}", file=sys.stderr, flush=True)
    bars, notes = [], [f"rates     {SWEEP}"] if SWEEP else []
    for delay_s, label in ((0.0, ""), (DELAY_S, "_20ms")):
        of_delay = {name: found for (delay, name), found in taken.items() if delay == delay_s}
        bars += _bars(of_delay, label)
        notes += [_note(name, found, delay_s) for name, found in of_delay.items()]
    grown = statistics.median(found.usual_size for found in taken[DELAY_S, "adaptive"])
    before = statistics.median(found.usual_size for found in taken[0.0, "adaptive"])
    bars.append(
        bar(
            "adaptive_size_with_20ms",
            grown / before,
            "times that without",
            1.2,
            {"rows": grown, "rows without": before},
            at_most=False,
        )
    )
    print(json.dumps({"bars": bars, "notes": notes}), flush=True)


def _trainers(
    train: shoal.data.Dataset, held_out: shoal.data.Dataset, delay_s: float
) -> dict[str, Callable[[int], Outcome]]:
    def fixed(size: int) -> Callable[[int], Outcome]:
        return lambda seed: _train(train, held_out, seed, delay_s, size, RATES[size])

    adaptive = shoal.train.AdaptiveBatch(min=64, max=1024)
    return {
        **{str(size): fixed(size) for size in RATES},
        "adaptive": lambda seed: _train(train, held_out, seed, delay_s, adaptive, RATES[64]),
    }


def _train(
    train: shoal.data.Dataset,
    held_out: shoal.data.Dataset,
    seed: int,
    delay_s: float,
    size: int | shoal.train.AdaptiveBatch,
    rate: float,
) -> Outcome:
    with tempfile.TemporaryDirectory() as folder, shoal.store.open(Path(folder) / ".shoal") as store:
        result = shoal.train.fit(
            Garments(rate),
            train,
            validation=held_out,
            epochs=EPOCHS,
            batch_size=size,
            max_steps=MOST_STEPS if delay_s else None,
            seed=seed,
            workers=2,
            strategy=Delayed(delay_s) if delay_s else Collective(num_virtual=2),
            validate_every_steps=EVERY_ROWS // size if isinstance(size, int) else 4,
            early_stopping=Reached(level=LEVEL, num_rows=train.num_rows),
            store=store,
        )
        curve = {name: store.metrics.curve(result.run, f"train.{name}") for name in ("step_s", "batch_size")}
    ends = [0, *(point.step for point in curve["step_s"])]
    seconds = [point.value * (end - begin) for point, begin, end in zip(curve["step_s"], ends, ends[1:], strict=False)]
    # The last few steps may lie behind the last point of the curve.
    rest = (result.steps - ends[-1]) * curve["step_s"][-1].value
    return Outcome(
        seconds=sum(seconds) + rest,
        steps=result.steps,
        reached=result.metrics["validation.accuracy"] >= LEVEL,
        usual_size=_usual_size(curve["batch_size"], result.steps) if curve["batch_size"] else float(size),  # type: ignore[arg-type]  # fixed
    )


def _usual_size(changes: Sequence[Any], steps: int) -> float:
    """The median over the steps."""
    ends = [*(change.step for change in changes[1:]), steps]
    return statistics.median(
        size for change, end in zip(changes, ends, strict=True) for size in [change.value] * max(end - change.step, 0)
    )


def _bars(taken: Mapping[str, Sequence[Outcome]], label: str) -> list[dict]:
    seconds = {name: statistics.median(found.seconds for found in each) for name, each in taken.items()}
    shown = {f"{name} s": found for name, found in seconds.items()}
    adaptive = seconds.pop("adaptive")
    return [
        bar(f"adaptive_of_best_fixed{label}", adaptive / min(seconds.values()), "ratio of seconds", 1.1, shown),
        bar(
            f"adaptive_over_worst_fixed{label}",
            max(seconds.values()) / adaptive,
            "times faster",
            1.5,
            shown,
            at_most=False,
        ),
    ]


def _note(name: str, found: Sequence[Outcome], delay_s: float) -> str:
    seconds = ", ".join(f"{each.seconds:.2f}{'' if each.reached else '+'}" for each in found)
    steps = statistics.median(each.steps for each in found)
    size = statistics.median(each.usual_size for each in found)
    return f"adaptive  {1000 * delay_s:.0f} ms, {name}: s {seconds}; steps {steps:.0f}; usual size {size:.0f}"


if __name__ == "__main__":
    main()
