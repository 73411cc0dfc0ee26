"""Where a worker gets its rows from: a dataset of ours, or somebody's own DataLoader."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset

from shoal.base import ConfigError, InputError, Json
from shoal.train.random_streams import stream_seed
from shoal.train.task import Batch, count_rows

if TYPE_CHECKING:
    from shoal.data import Dataset

# What the user of a DataLoader is told, once. The words are frozen by a test.
LOADER_WARNING = (
    "training reads a DataLoader, so three promises do not hold: every worker reads all rows and uses its part, so "
    "more workers do not read faster; an interrupted epoch goes on by reading its rows again up to that place; and the "
    "weights are the same bits for any number of workers only as far as the loader itself repeats its rows: what it "
    "draws from Python's or NumPy's random numbers, or from a clock, it does not. For all three: shoal.data.ingest()"
)


class Feed(Protocol):
    """The rows of an epoch by their position, whatever the batch size; the same positions hold the same rows always."""

    @property
    def num_rows(self) -> int:
        """Rows in an epoch."""

    def stretch(self, epoch: int, first: int, size: int, part: int, num_parts: int) -> Batch:
        """One part of the `size` rows from position `first` on: those from part * size // num_parts of them.

        Cheap where it goes on behind the last one asked for.
        """

    def row_numbers(self, epoch: int, first: int, size: int) -> NDArray[np.int64]:
        """int64 [size]: which rows of the data lie at positions `first` and following."""


class DatasetFeed:
    """The rows of a dataset of ours: any stretch of any epoch at once, each row read by the worker that needs it."""

    def __init__(self, dataset: "Dataset", *, batch_size: int, seed: int, shuffle: bool) -> None:
        """Take the rows in the dataset's order, or shuffled anew in each epoch; `batch_size` decides nothing."""
        loader = dataset.loader(batch_size=batch_size, shuffle=shuffle, seed=seed, rank=0, world_size=1, format="torch")
        self.num_rows = loader.order.num_rows
        self._loader = loader

    def stretch(self, epoch: int, first: int, size: int, part: int, num_parts: int) -> Batch:
        """Gathered from the shards."""
        batch: Batch = self._loader.stretch(epoch, first, size, part, num_parts)
        return batch

    def row_numbers(self, epoch: int, first: int, size: int) -> NDArray[np.int64]:
        """Rows of the dataset."""
        return self._loader.row_numbers(epoch, first, size)


class DataLoaderFeed:
    """The rows of a plain DataLoader, read in one go from the epoch's beginning, from one thread.

    Random numbers that torch draws while reading come from a stream of their own, keyed by seed and epoch: every worker
    gets the same rows, and the model's own random numbers are left alone. Batches are dicts of tensors; those
    of a tuple are called "0", "1" and so on.
    """

    def __init__(self, loader: "DataLoader[Any]", *, seed: int) -> None:
        """Read nothing yet.

        Raises:
            ConfigError: the loader does not say how many rows it has.
        """
        self.num_rows = count_loader_rows(loader)
        self._loader = loader
        self._seed = seed
        self._epoch = -1
        self._batches: Iterator[Any] = iter(())
        self._random_state = torch.empty(0)
        # What was read and may still be asked for: rows `_start` to `_end` of the epoch.
        self._held: list[Batch] = []
        self._start = self._end = 0
        self._made: tuple[tuple[int, int, int], Batch] | None = None

    def stretch(self, epoch: int, first: int, size: int, part: int, num_parts: int) -> Batch:
        """Read on to where these rows end; from the epoch's beginning if they were passed by."""
        if not (first >= 0 and first + size <= self.num_rows and 0 <= part < num_parts and epoch >= 0):
            raise InputError(
                f"there is no part {part} of {num_parts} of rows {first} to {first + size} in epoch {epoch}: an epoch "
                f"has {self.num_rows} rows",
                next_step="count epochs, rows and parts from 0",
            )
        batch = self._rows(epoch, first, size)
        begin, end = part * size // num_parts, (part + 1) * size // num_parts
        return {name: column[begin:end] for name, column in batch.items()}

    def row_numbers(self, epoch: int, first: int, size: int) -> NDArray[np.int64]:
        """Positions in the loader's own order: it does not tell which rows of its dataset these are."""
        del epoch
        return np.arange(first, first + size, dtype=np.int64)

    def _rows(self, epoch: int, first: int, size: int) -> Batch:
        wanted = (epoch, first, size)
        if self._made is not None and self._made[0] == wanted:
            return self._made[1]
        if epoch != self._epoch or first < self._start:
            self._begin(epoch)
        while self._end < first + size:
            self._read_one(first)
        joined = self._held[0] if len(self._held) == 1 else _join(self._held)
        # One piece from now on, and nothing of what lies before it: small stretches are not joined again and again.
        rest = {name: column[first - self._start :] for name, column in joined.items()}
        self._held, self._start = [rest], first
        batch = {name: column[:size] for name, column in rest.items()}
        self._made = (wanted, batch)
        return batch

    def _begin(self, epoch: int) -> None:
        self._held, self._start, self._end, self._made = [], 0, 0, None
        self._epoch = epoch
        seed = stream_seed(self._seed, epoch, 0)
        self._random_state = torch.Generator().manual_seed(seed).get_state()
        if isinstance(generator := self._loader.generator, torch.Generator):
            generator.manual_seed(seed)
        with self._own_stream():
            self._batches = iter(self._loader)

    def _read_one(self, first: int) -> None:
        with self._own_stream():
            given = next(self._batches, None)
        if given is None:
            raise InputError(
                f"cannot read on behind row {self._end}: the DataLoader is at its end, expected {self.num_rows} rows",
                next_step="give a DataLoader whose len() of dataset or sampler is the rows that it yields",
            )
        batch = _columns(given)
        num_rows = count_rows(batch)
        # What lies before the rows asked for is not kept.
        while self._held and self._start + (held := count_rows(self._held[0])) <= first:
            self._start += held
            self._held.pop(0)
        if self._end + num_rows <= first:
            self._start = self._end + num_rows
        else:
            self._held.append(batch)
        self._end += num_rows

    @contextmanager
    def _own_stream(self) -> Iterator[None]:
        generator = torch.default_generator
        before = generator.get_state()
        generator.set_state(self._random_state)
        try:
            yield
        finally:
            self._random_state = generator.get_state()
            generator.set_state(before)


def count_loader_rows(loader: "DataLoader[Any]") -> int:
    """Rows that a DataLoader yields in an epoch, from its dataset, sampler and batch size.

    Raises:
        ConfigError: it does not say.
    """
    batch_size = loader.batch_size
    if isinstance(loader.dataset, IterableDataset) and not hasattr(loader.dataset, "__len__"):
        raise ConfigError(
            f"cannot train on a DataLoader over {type(loader.dataset).__name__}: it does not say how many rows it has",
            next_step="define __len__ on its dataset, or ingest its rows by shoal.data.ingest()",
        )
    if batch_size is None:
        raise ConfigError(
            "cannot train on a DataLoader without a batch_size: its number of rows cannot be known",
            next_step="give DataLoader(..., batch_size=...) instead of a batch_sampler",
        )
    rows: Any = loader.dataset if isinstance(loader.dataset, IterableDataset) else loader.sampler
    num_rows = len(rows)
    return num_rows // batch_size * batch_size if loader.drop_last else num_rows


def describe_loader(loader: "DataLoader[Any]") -> dict[str, Json]:
    """For the run's record: enough to see that another one is given at a resume, too little to build it."""
    kinds = {"dataset": loader.dataset, "sampler": loader.sampler}
    named: dict[str, Json] = {
        name: f"{type(part).__module__}:{type(part).__qualname__}" for name, part in kinds.items()
    }
    return {**named, "num_rows": count_loader_rows(loader), "batch_size": loader.batch_size}


def _columns(given: object) -> Batch:
    if isinstance(given, torch.Tensor):
        given = (given,)
    if isinstance(given, Mapping):
        columns = {str(name): column for name, column in given.items()}
    elif isinstance(given, Sequence) and not isinstance(given, str):
        columns = {str(place): column for place, column in enumerate(given)}
    else:
        columns = {}
    lengths = {column.shape[:1] if isinstance(column, torch.Tensor) else None for column in columns.values()}
    if len(lengths) != 1 or lengths <= {None, torch.Size([])}:
        found = {name: getattr(column, "shape", type(column).__name__) for name, column in columns.items()}
        raise InputError(
            f"cannot take apart a batch of the DataLoader: found {found or type(given).__name__}, expected a dict or "
            "tuple of tensors with a row for each sample",
            next_step="return such a batch from the DataLoader's collate_fn",
        )
    return columns


def _join(batches: Sequence[Batch]) -> Batch:
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
