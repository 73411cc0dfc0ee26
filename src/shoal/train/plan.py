"""What decides a run's result: settled before the first worker starts, recorded, and the same after a resume."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import shoal.data
from shoal.base import ConfigError, CorruptError, Json, Ref, digest_json
from shoal.train.base import Strategy
from shoal.train.batch_size.settings import AdaptiveBatch
from shoal.train.feeds import describe_loader
from shoal.train.task import Task

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from shoal.data import Dataset

# What is trained on: the words of a dataset, or a plain torch DataLoader, which no record can name.
Source: TypeAlias = "Ref | DataLoader[Any]"

_LEAST = {
    "epochs": 1,
    "max_steps": 1,
    "num_parts": 1,
    "accumulate": 1,
    "threads": 1,
    "validate_every_steps": 1,
    "every_steps": 1,
    "every_s": 0,
    "keep": 1,
    "keep_s": 0,
}
# Recorded under the names that the user gave them by.
_RECORDED = {
    "epochs": "epochs",
    "max_steps": "max_steps",
    "seed": "seed",
    "num_parts": "num_virtual",
    "accumulate": "accumulate",
    "threads": "threads",
    "validate_every_steps": "validate_every_steps",
    "every_steps": "checkpoint_every_steps",
    "every_s": "checkpoint_every_s",
    "keep": "keep_checkpoints",
    "keep_s": "keep_checkpoints_s",
    "checkpoints_to": "checkpoints_to",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The settings of a run. The number of workers is not among them: it changes the time alone.

    Attributes:
        train, validation: the words of a dataset, or a torch DataLoader.
        max_steps: the run ends after so many steps, if its epochs do not end before.
        batch_size: rows of one batch, or the `AdaptiveBatch` that chooses them.
        num_parts: micro-batches per batch, from the strategy.
        accumulate: batches per step.
        threads: of each worker; another number gives other bits.
        validate_every_steps: measure after so many steps, beside the time at the end of each epoch.
        early_stopping, callbacks: what watches the run's values.
        every_steps: checkpoint after so many steps, beside the one at the end of each epoch.
        every_s: the same by time.
        keep, keep_s: so many of the newest checkpoints are kept, none but the newest for longer than so many seconds.
        checkpoints_to: folder or URL of an object store, in which each run has a folder; None: the run's own folder.
        schedule: (step, batch size, factor of the learning rate) of an earlier run, to do again as they were.
    """

    task: Task
    strategy: Strategy
    train: "Source"
    validation: "Source | None"
    epochs: int
    batch_size: int | AdaptiveBatch
    seed: int
    num_parts: int
    max_steps: int | None = None
    accumulate: int = 1
    threads: int = 1
    validate_every_steps: int | None = None
    early_stopping: Any = None
    callbacks: tuple[Any, ...] = ()
    every_steps: int | None = None
    every_s: float | None = None
    keep: int = 2
    keep_s: float | None = None
    checkpoints_to: str | None = None
    schedule: tuple[tuple[int, int, float], ...] = ()

    def __post_init__(self) -> None:
        least = {**_LEAST, "batch_size": 1} if isinstance(self.batch_size, int) else _LEAST
        for name, minimum in least.items():
            value = getattr(self, name)
            if value is not None and not isinstance(value, Real):
                given = _RECORDED.get(name, name)
                raise ConfigError(
                    f"{given}={value!r:.200} is a {type(value).__name__}, expected a number",
                    next_step=f"give {given} {'in seconds, such as 300.0' if given.endswith('_s') else 'as a number'}",
                )
            if value is not None and value < minimum:
                raise ConfigError(f"{name}={value} must be >= {minimum}", next_step=f"correct {name}")
        if isinstance(self.batch_size, AdaptiveBatch) and self.step_parts < 2 and not self.schedule:
            raise ConfigError(
                f"cannot adapt the batch size with num_virtual={self.num_parts}: how noisy a gradient is shows in how "
                "the virtual workers' own gradients differ, expected two of them or more",
                next_step="use strategy=Collective(num_virtual=4), or leave the strategy out",
            )

    @property
    def step_parts(self) -> int:
        """Micro-batches of one step."""
        return self.num_parts * self.accumulate

    @property
    def first_batch_size(self) -> int:
        """Rows of the first batch."""
        if self.schedule:
            return self.schedule[0][1]
        return self.batch_size if isinstance(self.batch_size, int) else self.batch_size.min

    @property
    def step_rows(self) -> int:
        """Rows of one step, as long as the batch size is the first one."""
        return self.first_batch_size * self.accumulate

    def num_steps(self, num_rows: int) -> int:
        """Steps of the whole run with so many rows per epoch, as long as the batch size is the first one."""
        steps = self.epochs * -(-num_rows // self.step_rows)
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def to_json(self) -> dict[str, Json]:
        """For the record of the run."""
        from shoal.train.record import describe  # reads sources and walks code, for those who start a run alone

        return {
            "task": describe(self.task),
            "strategy": describe(self.strategy),
            "train": _words(self.train),
            "validation": _words(self.validation),
            "batch_size": self.batch_size if isinstance(self.batch_size, int) else describe(self.batch_size),
            "early_stopping": None if self.early_stopping is None else describe(self.early_stopping),
            "callbacks": [describe(callback) for callback in self.callbacks],
            "schedule": [list(change) for change in self.schedule],
            **{name: getattr(self, field) for field, name in _RECORDED.items()},
        }

    @classmethod
    def from_json(
        cls,
        config: Mapping[str, Any],
        *,
        task: Task | None = None,
        train: "Source | None" = None,
        validation: "Source | None" = None,
        callbacks: Sequence[Any] | None = None,
    ) -> "Plan":
        """From the record.

        Args:
            config: as `to_json` gave it.
            task: stands in where its class cannot be imported.
            train: the DataLoader of the run, if it has one, which no record can hold.
            validation: the same.
            callbacks: stand in for the recorded ones, of which those that cannot be built are left out with a warning.

        Raises:
            ConfigError: the recorded task cannot be built, or differs from the given one, or something is missing.
        """
        from shoal.train.record import describe, revive  # as in `to_json`

        if task is not None and describe(task) != config["task"]:
            raise ConfigError(
                f"cannot resume with the task {describe(task)}: the run was started with {config['task']}",
                next_step="pass the same task, or start a new run with fit()",
            )
        size, stopping = config["batch_size"], config["early_stopping"]
        return cls(
            task=task or revive(config["task"], Task),  # type: ignore[type-abstract]  # a subclass is found at run time
            strategy=revive(config["strategy"], Strategy),  # type: ignore[type-abstract]  # the same
            train=_source(config["train"], "train", train),
            validation=_source(config["validation"], "validation", validation) if config["validation"] else None,
            batch_size=size if isinstance(size, int) else revive(size, AdaptiveBatch),
            early_stopping=None if stopping is None else revive(stopping, object),
            callbacks=_callbacks(config["callbacks"]) if callbacks is None else tuple(callbacks),
            schedule=tuple((step, size, factor) for step, size, factor in config["schedule"]),
            **{field: config[name] for field, name in _RECORDED.items()},
        )


def _callbacks(recorded: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    """They decide nothing about the weights, so a run goes on without one that is not to be found."""
    from shoal.train.record import revive  # as in `Plan.to_json`

    found = []
    for described in recorded:
        try:
            found.append(revive(described, object))
        except ConfigError as error:
            text = f"going on without a callback: {error.message}; pass it to resume(..., callbacks=...)"
            warnings.warn(text, RuntimeWarning, stacklevel=4)
    return tuple(found)


def open_rows(ref: Ref) -> "Dataset":
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


# The kind of a source that no record can hold: it has a digest of what it says of itself, to tell another one by.
_LOADER = "loader"


def _words(source: "Source | None") -> list[str] | None:
    if source is None:
        return None
    if isinstance(source, Ref):
        return [source.kind, source.address, source.digest]
    return [_LOADER, "", digest_json(describe_loader(source))]


def _source(words: Sequence[str], name: str, given: "Source | None") -> "Source":
    if words[0] != _LOADER:
        return Ref(*words)
    if given is None:
        raise ConfigError(
            f"cannot resume without the DataLoader that the run had for {name}: no record can hold one",
            next_step=f"pass the same loader to resume(..., {name}=...)",
        )
    if _words(given) != list(words):
        raise ConfigError(
            f"cannot resume with another DataLoader for {name}: {describe_loader(cast('DataLoader[Any]', given))} is "
            "not what the run was started with",
            next_step="pass a loader over the same dataset, with the same sampler and batch_size",
        )
    return given
