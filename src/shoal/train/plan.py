"""What decides a run's result: settled before the first worker starts, recorded, and the same after a resume."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import shoal.data
from shoal.base import ConfigError, CorruptError, Json, Ref
from shoal.data import Dataset
from shoal.train.base import Strategy
from shoal.train.record import describe, revive
from shoal.train.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The settings of a run. The number of workers is not among them: it changes the time alone.

    Attributes:
        num_parts: micro-batches per global batch, from the strategy.
        threads: of each worker; another number gives other bits.
        every_steps: checkpoint after so many steps, beside the one at the end of each epoch.
        every_s: the same by time.
    """

    task: Task
    strategy: Strategy
    train: Ref
    validation: Ref | None
    epochs: int
    batch_size: int
    seed: int
    num_parts: int
    threads: int = 1
    every_steps: int | None = None
    every_s: float | None = None

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch_size": 1, "num_parts": 1, "threads": 1, "every_steps": 1, "every_s": 0}
        for name, minimum in least.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ConfigError(f"{name}={value} must be >= {minimum}", next_step=f"correct {name}")

    def to_json(self) -> dict[str, Json]:
        """For the record of the run."""
        return {
            "task": describe(self.task),
            "strategy": describe(self.strategy),
            "train": _words(self.train),
            "validation": _words(self.validation),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "num_virtual": self.num_parts,
            "threads": self.threads,
            "checkpoint_every_steps": self.every_steps,
            "checkpoint_every_s": self.every_s,
        }

    @classmethod
    def from_json(cls, config: Mapping[str, Any], *, task: Task | None = None) -> "Plan":
        """From the record; `task` stands in where its class cannot be imported.

        Raises:
            ConfigError: the recorded task cannot be built, or differs from the given one.
        """
        if task is not None and describe(task) != config["task"]:
            raise ConfigError(
                f"cannot resume with the task {describe(task)}: the run was started with {config['task']}",
                next_step="pass the same task, or start a new run with fit()",
            )
        return cls(
            task=task or revive(config["task"], Task),  # type: ignore[type-abstract]  # a subclass is found at run time
            strategy=revive(config["strategy"], Strategy),  # type: ignore[type-abstract]  # the same
            train=Ref(*config["train"]),
            validation=None if config["validation"] is None else Ref(*config["validation"]),
            epochs=config["epochs"],
            batch_size=config["batch_size"],
            seed=config["seed"],
            num_parts=config["num_virtual"],
            threads=config["threads"],
            every_steps=config["checkpoint_every_steps"],
            every_s=config["checkpoint_every_s"],
        )


def open_rows(ref: Ref) -> Dataset:
    """The dataset of a plan.

    Raises:
        CorruptError: what lies there holds other rows than when the plan was made.
    """
    dataset = shoal.data.open(ref.address)
    if dataset.digest != ref.digest:
        raise CorruptError(
            f"cannot train on {ref.address}: its digest is {dataset.digest}, the run was started with {ref.digest}",
            next_step="restore the dataset's folder, or start a new run with fit()",
        )
    return dataset


def _words(ref: Ref | None) -> list[str] | None:
    return None if ref is None else [ref.kind, ref.address, ref.digest]
