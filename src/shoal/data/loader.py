"""Batches for training: any batch of any epoch by its number, and iteration over them that resumes exactly."""

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from shoal.base import ConfigError, InputError, SchemaError
from shoal.data.gather import RowGatherer
from shoal.data.order import EpochOrder
from shoal.data.schema import Schema

Batch = dict[str, Any]
Format = Literal["torch", "numpy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderConfig:
    """How a dataset is cut into batches; `batch_size` rows over all ranks together.

    `rank` of `world_size` gets its part of every batch; both None means: those of torch's process group, if there is
    one in this process, else the whole batch. `format` None means torch where it is installed, else numpy.
    """

    batch_size: int
    shuffle: bool = False
    seed: int = 0
    rank: int | None = None
    world_size: int | None = None
    drop_last: bool = False
    format: Format | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size={self.batch_size} must be >= 1", next_step="give the rows of a whole batch")
        if (self.rank is None) != (self.world_size is None):
            raise ConfigError(
                f"rank={self.rank} and world_size={self.world_size} belong together", next_step="give both or neither"
            )
        if self.rank is not None and self.world_size is not None and not 0 <= self.rank < self.world_size:
            raise ConfigError(
                f"rank={self.rank} must be from 0 to {self.world_size - 1}", next_step="count ranks from 0"
            )
        if self.format not in ("torch", "numpy", None):
            raise ConfigError(f"format={self.format!r} must be 'torch' or 'numpy'", next_step="choose one")


class Loader:
    """The batches of a dataset, epoch after epoch.

    The sequence of global batches depends on (dataset digest, seed, epoch, batch size, shuffle) alone; each row is in
    exactly one batch of an epoch, but for `drop_last`. Each `for` loop is the next epoch. Iterate from one thread;
    `micro_batch` may be called from any.
    """

    def __init__(self, gatherer: RowGatherer, schema: Schema, digest: str, config: LoaderConfig) -> None:
        self._gatherer = gatherer
        self._digest = digest
        self._config = config
        self._rank, self._world_size = _place(config)
        self._to_torch = (config.format or _default_format()) == "torch"
        if self._to_torch:
            _check_for_torch(schema)
        self._order = EpochOrder(gatherer.num_rows, seed=config.seed, shuffle=config.shuffle)
        self._epoch = 0
        self._batch = 0
        self._continues = True

    def __len__(self) -> int:
        """Batches per epoch, the same on every rank."""
        num_full, rest = divmod(self._gatherer.num_rows, self._config.batch_size)
        return num_full + (1 if rest and not self._config.drop_last else 0)

    @property
    def epoch(self) -> int:
        """The epoch of the batch that comes next."""
        return self._epoch

    def num_rows(self, batch: int) -> int:
        """Return how many rows the global batch of this number has: only the last may have fewer than the others."""
        return max(0, min(self._config.batch_size, self._gatherer.num_rows - batch * self._config.batch_size))

    def __iter__(self) -> Iterator[Batch]:
        # A loop that was left early does not go on here: its epoch counts as over, unless its state was loaded.
        if not self._continues and self._batch:
            self._epoch, self._batch = self._epoch + 1, 0
        self._continues = False
        epoch, num_batches = self._epoch, len(self)
        for batch in range(self._batch, num_batches):
            part = self.micro_batch(epoch, batch, self._rank, self._world_size)
            # Before the batch is handed out: a state that is saved while it is worked on counts it as delivered.
            is_last = batch + 1 == num_batches
            self._epoch, self._batch = (epoch + 1, 0) if is_last else (epoch, batch + 1)
            yield part

    def micro_batch(self, epoch: int, batch: int, part: int, num_parts: int) -> Batch:
        """Return one part of a global batch: rows part * B // num_parts to (part + 1) * B // num_parts of its B rows.

        Parts of one batch never overlap and together are the batch. A part is empty when the batch has fewer rows
        than parts. Needs no state: any batch of any epoch, in any order.

        Raises:
            InputError: there is no such batch or part.
        """
        if epoch < 0 or not 0 <= batch < len(self) or not 0 <= part < num_parts:
            raise InputError(
                f"there is no part {part} of {num_parts} of batch {batch} in epoch {epoch}: an epoch has "
                f"{len(self)} batches",
                next_step="count epochs, batches and parts from 0",
            )
        # Integer division gives parts whose sizes differ by one at most, and needs no list of sizes.
        first, size = batch * self._config.batch_size, self.num_rows(batch)
        rows = self._order.rows(epoch, first + part * size // num_parts, first + (part + 1) * size // num_parts)
        arrays = self._gatherer.take(rows)
        return _as_torch(arrays) if self._to_torch else arrays

    def state_dict(self) -> dict[str, Any]:
        """Return where the next batch lies, as plain JSON values: O(1) whatever the dataset's size.

        The state is the same on every rank, and may be loaded with another number of ranks.
        """
        return {"epoch": self._epoch, "batch": self._batch, **self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where the state was taken: the next loop starts with the batch after the last delivered one.

        Raises:
            InputError: the state belongs to other data or another way to cut it; the message names the field.
        """
        for name, expected in self._identity().items():
            if state.get(name) != expected:
                raise InputError(
                    f"cannot resume: the state has {name}={state.get(name)!r}, this loader has {expected!r}",
                    next_step=f"make the loader with the {name} of the state, or start anew without it",
                )
        self._epoch, self._batch, self._continues = int(state["epoch"]), int(state["batch"]), True

    def _identity(self) -> dict[str, Any]:
        config = self._config
        return {
            "dataset": self._digest,
            "batch_size": config.batch_size,
            "shuffle": config.shuffle,
            "seed": config.seed,
            "drop_last": config.drop_last,
        }


def _place(config: LoaderConfig) -> tuple[int, int]:
    if config.rank is not None and config.world_size is not None:
        return config.rank, config.world_size
    # Who has a process group has imported torch: so it need not be imported here to find out.
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _default_format() -> Format:
    return "torch" if importlib.util.find_spec("torch") else "numpy"


def _check_for_torch(schema: Schema) -> None:
    unfit = [str(column) for column in schema.columns if column.numpy_dtype.kind in "OM"]
    if unfit:
        raise SchemaError(
            f"cannot make tensors of {', '.join(unfit)}",
            next_step="name the other columns: loader(columns=[...]), or use format='numpy'",
        )


def _as_torch(arrays: dict[str, np.ndarray[Any, Any]]) -> Batch:
    import torch  # the one place where data meets torch; everything else works without it

    return {name: torch.from_numpy(values) for name, values in arrays.items()}
