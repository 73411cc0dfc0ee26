"""What every training strategy must keep: subclass `StrategyContract` and supply one fixture."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shoal.base import ConfigError
from shoal.train.base import GlobalBatch, Group, PeerLostError, Reduce, Strategy, TrainState
from shoal.train.building import build_state
from shoal.train.environment import set_threads
from shoal.train.group.stretches import stretch
from shoal.train.task import Batch, Outputs, Task

T = TypeVar("T")
NUM_ROWS = 53
BATCH_SIZE = 16


class ThreadGroup:
    """A group whose members are threads of this process that run strictly one at a time.

    One at a time, because torch has one random generator per process: members would draw each other's numbers.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._turn = threading.Lock()
        self._barrier = threading.Barrier(size, timeout=60)
        self._sent: dict[int, Any] = {}
        self._result = torch.zeros(0, dtype=torch.uint8)

    def run(self, member: Callable[[Group], T]) -> list[T]:
        """What each member returned, in rank order; the first error of one is raised again."""
        results: dict[int, T] = {}
        errors: list[BaseException] = []

        def run_one(rank: int) -> None:
            try:
                with self._turn:
                    results[rank] = member(_Seat(self, rank, self._size))
            except BaseException as error:  # noqa: BLE001  # the boundary of a thread: raised again below
                errors.append(error)
                self._barrier.abort()

        threads = [threading.Thread(target=run_one, args=(rank,)) for rank in range(self._size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise min(errors, key=lambda error: isinstance(error, PeerLostError))
        return [results[rank] for rank in range(self._size)]

    def gather(self, rank: int, mine: T) -> list[T]:
        """What all gave, in rank order: hand over the turn until all have given, and again until all have taken."""
        self._sent[rank] = mine
        self._wait()
        everyone = [self._sent[other] for other in range(self._size)]
        self._wait()
        return everyone

    def combine(
        self, rank: int, memory: torch.Tensor, num_bytes: int, reduce: Reduce, note: int
    ) -> tuple[torch.Tensor, list[int]]:
        """Each member's stretch by that member, as a group of processes does it."""
        gathered = self.gather(rank, (memory, note))
        if len(self._result) != num_bytes:
            self._result = torch.zeros(num_bytes, dtype=torch.uint8)
        reduce([other for other, _ in gathered], self._result, *stretch(num_bytes, rank, self._size))
        self._wait()
        return self._result, [other for _, other in gathered]

    def _wait(self) -> None:
        self._turn.release()
        try:
            self._barrier.wait()
        except threading.BrokenBarrierError as error:
            raise PeerLostError("another member of the group has failed") from error
        finally:
            self._turn.acquire()


@dataclass(slots=True)
class _Seat:
    group: ThreadGroup
    rank: int
    size: int
    _memory: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.uint8))

    def memory(self, num_bytes: int) -> torch.Tensor:
        if len(self._memory) != num_bytes:
            self._memory = torch.zeros(num_bytes, dtype=torch.uint8)
        return self._memory

    def combine(self, num_bytes: int, reduce: Reduce, note: int = 0) -> tuple[torch.Tensor, list[int]]:
        return self.group.combine(self.rank, self._memory, num_bytes, reduce, note)

    def share(self, data: bytes) -> list[bytes]:
        return self.group.gather(self.rank, data)

    def broadcast(self, data: torch.Tensor | None, root: int) -> torch.Tensor:
        found = self.group.gather(self.rank, data)[root]
        assert found is not None
        return found

    def close(self) -> None:
        return None


@dataclass(frozen=True)
class ContractTask(Task):
    """A small classifier with batch normalisation and dropout: state and chance that must not leak between workers."""

    width: int = 6

    def build(self) -> nn.Module:
        """Two layers."""
        return nn.Sequential(
            nn.Linear(5, self.width), nn.BatchNorm1d(self.width), nn.ReLU(), nn.Dropout(0.4), nn.Linear(self.width, 3)
        )

    def inputs(self, batch: Batch) -> tuple[torch.Tensor, ...]:
        """The features."""
        return (batch["features"],)

    def loss(self, outputs: Outputs, batch: Batch) -> torch.Tensor:
        """Cross entropy."""
        return F.cross_entropy(outputs, batch["label"])

    def optimizer(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Adam, whose state turns the smallest difference into a large one."""
        return torch.optim.Adam(params, lr=0.05)


def make_rows(num_rows: int = NUM_ROWS) -> Batch:
    """Random rows, the same at every call."""
    generator = torch.Generator().manual_seed(7)
    return {
        "features": torch.randn(num_rows, 5, generator=generator),
        "label": torch.randint(0, 3, (num_rows,), generator=generator),
    }


def cut(rows: Batch, first: int, end: int, num_parts: int) -> GlobalBatch:
    """Rows `first` to `end` as one global batch of `num_parts` micro-batches."""

    def read(part: int, num: int) -> Batch:
        edges = [first + (end - first) * edge // num for edge in (part, part + 1)]
        return {name: column[edges[0] : edges[1]] for name, column in rows.items()}

    return GlobalBatch.of(end - first, batch_size=BATCH_SIZE, num_parts=num_parts, read=read)


def make_state(task: Task) -> TrainState:
    """A fresh state, the same at every call."""
    return build_state(task, seed=11, num_steps=4)


def train_once(
    strategy: Strategy, group: Group, rows: Batch, task: Task | None = None
) -> tuple[TrainState, list[float]]:
    """One epoch, its last batch partial: the state after it and the loss of each step."""
    state = make_state(task or ContractTask())
    num_parts = strategy.num_parts(group.size)
    stepper = strategy.join(state, group, seed=3, num_parts=num_parts)
    losses = []
    num_rows = len(rows["label"])
    for first in range(0, num_rows, BATCH_SIZE):
        losses.append(stepper.step(cut(rows, first, min(first + BATCH_SIZE, num_rows), num_parts)).loss)
        state.position = replace(state.position, step=state.position.step + 1)
    return state, losses


def train_bits(group: Group, strategy: Strategy, task: Task | None = None) -> tuple[dict[str, bytes], list[float]]:
    """The weights after one epoch, bit by bit, and its losses; with one thread, wherever it runs."""
    set_threads(1)
    state, losses = train_once(strategy, group, make_rows(), task)
    return _bits(state), losses


class StrategyContract:
    """Promises of every strategy. The fixture `strategy` gives one that can run on 1, 2 and 3 workers alike."""

    @pytest.fixture
    def strategy(self) -> Strategy:
        """The strategy under test."""
        raise NotImplementedError

    @pytest.mark.parametrize("workers", [2, 3])
    def test_weights_are_the_same_bits_for_any_number_of_workers(self, strategy: Strategy, workers: int) -> None:
        """Batch normalisation, dropout and a partial last batch included, on every member."""
        ((alone, losses),) = ThreadGroup(1).run(lambda group: train_once(strategy, group, make_rows()))

        members = ThreadGroup(workers).run(lambda group: train_once(strategy, group, make_rows()))

        for state, member_losses in members:
            assert member_losses == losses
            assert _bits(state) == _bits(alone)

    def test_the_loss_is_the_mean_over_the_rows(self, strategy: Strategy) -> None:
        """Also where micro-batches differ in size."""
        rows = make_rows(BATCH_SIZE - 3)
        task = _PlainTask()
        module = make_state(task).module
        expected = F.cross_entropy(module(rows["features"]), rows["label"]).item()

        ((_, losses),) = ThreadGroup(1).run(lambda group: train_once(strategy, group, rows, task))

        assert losses == pytest.approx([expected], rel=1e-6)

    def test_a_batch_smaller_than_the_number_of_parts_is_trained_on(self, strategy: Strategy) -> None:
        """Micro-batches without rows bring nothing."""
        (one, _), (two, _) = ThreadGroup(2).run(lambda group: train_once(strategy, group, make_rows(2), _PlainTask()))

        assert _bits(one) == _bits(two) != _bits(make_state(_PlainTask()))

    def test_a_loss_that_is_no_number_leaves_the_state_as_it_was(self, strategy: Strategy) -> None:
        """The weights from before it can be looked at."""
        rows = make_rows(BATCH_SIZE)
        rows["features"][3, 2] = torch.nan

        members = ThreadGroup(2).run(lambda group: train_once(strategy, group, rows))

        for state, losses in members:
            assert not all(map(torch.isfinite, torch.tensor(losses)))
            assert _bits(state) == _bits(make_state(ContractTask()))

    def test_more_workers_than_it_can_use_are_refused(self, strategy: Strategy) -> None:
        """Before anything is started."""
        with pytest.raises(ConfigError):
            strategy.roles(strategy.num_parts(1) + 1)


@dataclass(frozen=True)
class _PlainTask(ContractTask):
    def build(self) -> nn.Module:
        return nn.Linear(5, 3)


def _bits(state: TrainState) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in state.module.state_dict().items()}
