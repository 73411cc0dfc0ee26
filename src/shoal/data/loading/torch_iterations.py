"""Which epoch each iteration of a DataLoader reads: the same in all of its workers, whatever their number."""

import multiprocessing
import os
import time
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.utils.data import get_worker_info

from shoal.base import InputError, UnsupportedError

# More workers than that on one machine would have no cores to run on.
_MAX_WORKERS = 1_024
# So many iterations over one dataset may be begun at once, as by zip(batches, batches).
_NUM_CLAIMS = 16
_POLL_S = 0.001
# In the shared numbers: what the next iteration begins with, how many there were, and each of the last ones.
_NEXT, _COUNT, _CLAIMS = slice(0, 3), 3, 4
_CLAIM_FIELDS = 6
_TAKEN = _CLAIMS + _NUM_CLAIMS * _CLAIM_FIELDS
# Of each worker: its process, and the last iteration that it came to the end of.
_PROCESS = _TAKEN + _MAX_WORKERS
_ENDED = _PROCESS + _MAX_WORKERS


class Worker(Protocol):
    """What `torch.utils.data.get_worker_info` tells a DataLoader's worker."""

    @property
    def id(self) -> int:
        """Its number among them."""
        ...

    @property
    def num_workers(self) -> int:
        """How many there are."""
        ...

    @property
    def seed(self) -> int:
        """The iteration's seed, and its own number added to it."""
        ...


@dataclass(frozen=True, slots=True)
class Start:
    """Where an iteration begins; `batch_size` 0 means: as the loader was made."""

    epoch: int
    row: int
    batch_size: int


class Iterations:
    """Counts the iterations over one dataset in memory that a process shares with its DataLoader workers.

    A DataLoader draws one seed for each iteration, and gives all workers of that iteration theirs by adding their
    numbers: so they know each other. The first of them takes the next epoch, for all. One process and its workers
    share a count; other processes that the object travels to count on their own.
    """

    def __init__(self) -> None:
        """Begin with epoch 0."""
        self._home = os.getpid()
        self._own = torch.zeros(_ENDED + _MAX_WORKERS, dtype=torch.int64)
        self._own.share_memory_()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._given = self._own
        self._last = self._begun = 0

    @property
    def next(self) -> Start:
        """Where the next iteration begins."""
        return Start(*self._numbers()[_NEXT].tolist())

    @property
    def is_last_mine(self) -> bool:
        """Whether no worker has begun an iteration since this process has begun one itself, or has set its start."""
        return int(self._numbers()[_COUNT]) == self._last

    @property
    def is_last_over(self) -> bool:
        """Whether workers began the last iteration, came to its end, and are gone; asked by whom they work for.

        Workers read ahead: as long as one lives, some of its batches may still wait to be consumed.
        """
        numbers = self._numbers()
        count = int(numbers[_COUNT])
        num_workers = int(numbers[_CLAIMS + count % _NUM_CLAIMS * _CLAIM_FIELDS + 2])
        ended = numbers[_ENDED : _ENDED + num_workers].eq(count).all()
        living = {child.pid for child in multiprocessing.active_children()}
        return bool(ended) and living.isdisjoint(numbers[_PROCESS : _PROCESS + num_workers].tolist())

    def set_next(self, start: Start) -> None:
        """Let the next iteration, in whatever process, begin here."""
        numbers = self._numbers()
        numbers[_NEXT] = torch.tensor([start.epoch, start.row, start.batch_size])
        self._last = int(numbers[_COUNT])

    def begin(self, worker: Worker | None = None) -> Start:
        """Return where the iteration that begins now does so: in this process, or in all workers together.

        Raises:
            UnsupportedError: there are more than 1,024 workers.
            InputError: the process that the workers work for is gone.
        """
        numbers = self._numbers()
        if worker is None:
            start, self._last = _claim(numbers, 0, 0)
            return start
        if worker.num_workers > _MAX_WORKERS:
            raise UnsupportedError(
                f"cannot read in {worker.num_workers} workers", next_step=f"use at most {_MAX_WORKERS}"
            )
        seed = worker.seed - worker.id
        numbers[_PROCESS + worker.id] = os.getpid()
        if worker.id == 0:
            start, self._begun = _claim(numbers, seed, worker.num_workers)
            return start
        while (found := _find(numbers, seed, worker)) is None:
            parent = multiprocessing.parent_process()
            if parent is not None and not parent.is_alive():
                raise InputError("the process that reads from this worker is gone", next_step="start it again")
            time.sleep(_POLL_S)
        self._begun = int(numbers[_TAKEN + worker.id])
        return found

    def end(self, worker: Worker) -> None:
        """Take note that a worker has made all its batches of the iteration that it began last."""
        self._numbers()[_ENDED + worker.id] = self._begun

    def _numbers(self) -> torch.Tensor:
        is_worker = get_worker_info() is not None
        if os.getpid() == self._home:
            # A worker that was started anew has what its process sent along; all others have their own.
            return self._given if is_worker else self._own
        if not is_worker:
            self._home, self._own = os.getpid(), _copy(self._own)
        return self._own

    def __getstate__(self) -> dict[str, Any]:
        return {"given": self._numbers()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Whether this is a worker or another reader, perhaps with workers of its own, is not known before it reads.
        self._home, self._given, self._own = os.getpid(), state["given"], _copy(state["given"])
        self._last = int(self._own[_COUNT])
        self._begun = 0


def _copy(numbers: torch.Tensor) -> torch.Tensor:
    copied = numbers.clone()
    copied.share_memory_()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return copied


def _claim(numbers: torch.Tensor, seed: int, num_workers: int) -> tuple[Start, int]:
    start, number = Start(*numbers[_NEXT].tolist()), int(numbers[_COUNT]) + 1
    # Not when its last batch is read: an iteration that is given up has begun all the same.
    numbers[_NEXT] = torch.tensor([start.epoch + 1, 0, start.batch_size])
    at = _CLAIMS + number % _NUM_CLAIMS * _CLAIM_FIELDS
    numbers[at + 1 : at + _CLAIM_FIELDS] = torch.tensor([seed, num_workers, start.epoch, start.row, start.batch_size])
    # Last of all: who sees the number finds the rest.
    numbers[at] = number
    numbers[_COUNT] = number
    return start, number


def _find(numbers: torch.Tensor, seed: int, worker: Worker) -> Start | None:
    taken = int(numbers[_TAKEN + worker.id])
    for number, its_seed, num_workers, *start in numbers[_CLAIMS:_TAKEN].view(_NUM_CLAIMS, _CLAIM_FIELDS).tolist():
        # A seed that is set anew before each epoch is the same in all: what was taken before does not count.
        if number > taken and (its_seed, num_workers) == (seed, worker.num_workers):
            numbers[_TAKEN + worker.id] = number
            return Start(*start)
    return None
