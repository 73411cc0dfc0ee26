"""What every trainer is given: Fashion-MNIST in memory, a small CNN of 1.2 M weights, and a clock for its steps.

Drivers run in their peers' own environment, so this file needs torch and NumPy alone. A driver trains a number of steps
and prints one JSON line: samples per second over the steps after the first few, and seconds from its start to the
first step.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

WARM_UP = 5


class Net(nn.Module):
    """Two convolutions and two dense layers: 1,199,882 weights."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.classes = nn.Sequential(nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """From float [rows, 1, 28, 28] to scores [rows, 10]."""
        return self.classes(self.features(images))


def make_optimizer(parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
    """The same for all."""
    return torch.optim.SGD(parameters, lr=0.02, momentum=0.9)


def as_inputs(images: torch.Tensor) -> torch.Tensor:
    """From uint8 [rows, 28, 28] to what the network takes."""
    return images.unsqueeze(1).float().div_(255)


@dataclass(frozen=True)
class Order:
    """What the command line says: how many rows a step has over all processes, and how many steps there are."""

    data: Path
    batch_size: int
    steps: int


def read_order() -> tuple[Order, argparse.Namespace]:
    """Parse `DATA BATCH_SIZE STEPS` and what a driver may want besides."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("batch_size", type=int)
    parser.add_argument("steps", type=int)
    parser.add_argument("--trace", type=Path, help="append (rank, step, seconds) of every step to this file")
    parser.add_argument("--checkpoints", type=Path, help="write one here every 5 steps and go on from it")
    given = parser.parse_args()
    return Order(given.data, given.batch_size, given.steps), given


def batches(order: Order, rank: int, world_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """This rank's part of each step's rows, gathered from memory by a permutation for each epoch."""
    images = torch.from_numpy(np.load(order.data / "images.npy"))
    labels = torch.from_numpy(np.load(order.data / "labels.npy")).long()
    size = order.batch_size // world_size
    done = epoch = 0
    while done < order.steps:
        shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(epoch))
        for rows in shuffled.split(order.batch_size):
            if len(rows) < order.batch_size or done == order.steps:
                break
            mine = rows[rank * size : (rank + 1) * size]
            yield as_inputs(images.index_select(0, mine)), labels.index_select(0, mine)
            done += 1
        epoch += 1


@dataclass
class StepClock:
    """Seconds at the end of each step."""

    order: Order
    rank: int = 0
    trace: Path | None = None
    began: float = field(default_factory=lambda: float(os.environ.get("BENCH_BEGAN", time.time())))
    ends: list[float] = field(default_factory=list)

    def step(self, number: int = 0) -> None:
        """A step is over."""
        self.ends.append(time.time())
        if self.trace is not None:
            with self.trace.open("a") as file:
                file.write(f"{self.rank} {number} {self.ends[-1]:.6f}\n")

    def report(self, *, share: int = 1) -> None:
        """Print the JSON line; `share` of the processes' batch is what this one did."""
        seconds = self.ends[-1] - self.ends[WARM_UP - 1]
        rows = (len(self.ends) - WARM_UP) * self.order.batch_size / share
        print(json.dumps({"samples_per_s": rows / seconds, "start_s": self.ends[0] - self.began}), flush=True)
