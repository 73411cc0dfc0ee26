"""What training promises when workers fail, on every runtime: subclass `FaultContract` and supply the runtime.

The workers must be processes of this machine: they are killed by their numbers.
"""

import os
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import shoal.data
import shoal.store
from shoal.base import WorkerError
from shoal.data import Dataset
from shoal.runtime import Runtime
from shoal.store import Store
from shoal.testing.faulty import FaultyTask, Footprints
from shoal.testing.strategy import ContractTask, make_rows
from shoal.train.collective import Collective
from shoal.train.journal import Progress
from shoal.train.session import Result
from shoal.train.task import Task
from shoal.train.training import fit

# 60 epochs of 53 rows by 16.
NUM_STEPS = 240
SETTINGS: Mapping[str, Any] = {"epochs": 60, "batch_size": 16, "seed": 5, "strategy": Collective(num_virtual=4)}
# Steps of a millisecond outrun any disk, and are told so.
QUIET = pytest.mark.filterwarnings("ignore:run r-.*writing a checkpoint:RuntimeWarning")

Fit = Callable[..., tuple[Result, list[tuple[str, Mapping[str, Any]]]]]
Strike = Callable[[list[int]], object]


def kill(*ranks: int, number: int = signal.SIGKILL) -> Strike:
    """A strike at the workers that had these ranks at first; at all, unless any are named."""

    def strike(pids: list[int]) -> None:
        for rank in ranks or range(len(pids)):
            os.kill(pids[rank], number)

    return strike


class Disturbance:
    """Strikes once, when the run has come so far that every worker has done a step; `step` is then the newest."""

    def __init__(self, prints: Footprints, num_workers: int, strike: Strike, at_step: int) -> None:
        self._prints = prints
        self._num_workers = num_workers
        self._strike = strike
        self._at_step = at_step
        self.has_struck = False

    def __call__(self, progress: Progress) -> None:
        """Take a look; the run's `progress`."""
        if self.has_struck or progress.step < self._at_step:
            return
        pids = {rank: pid for pid, rank, _ in self._prints.read()}
        if len(pids) == self._num_workers:
            self.has_struck = True
            self._strike([pids[rank] for rank in range(self._num_workers)])


@QUIET
class FaultContract:
    """Whatever happens to its workers, a run ends with the bits of an undisturbed one, and does no step twice."""

    @pytest.fixture
    def runtime(self) -> Runtime | str:
        """The runtime under test, with room for three workers."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def fault_data(cls, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
        """Rows to train on, and to validate with."""
        folder = tmp_path_factory.mktemp("fault-data")
        train, validation = (
            shoal.data.ingest({name: each.numpy() for name, each in make_rows(num).items()}, folder / str(num))
            for num in (53, 19)
        )
        return train, validation

    @pytest.fixture(scope="class")
    @classmethod
    def fault_store(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
        """Where all of the runs are."""
        with shoal.store.open(tmp_path_factory.mktemp("fault-store") / ".shoal") as store:
            yield store

    @pytest.fixture(scope="class")
    @classmethod
    def undisturbed(cls, fault_data: tuple[Dataset, Dataset], fault_store: Store) -> Result:
        """One worker, at home."""
        return fit(ContractTask(), fault_data[0], validation=fault_data[1], store=fault_store, **SETTINGS)

    @pytest.fixture
    def disturb(
        self,
        runtime: Runtime | str,
        fault_data: tuple[Dataset, Dataset],
        fault_store: Store,
        undisturbed: Result,
        tmp_path: Path,
    ) -> Fit:
        """Train on the runtime and strike; checks the bits, and returns the result and the events of the run."""

        def run(
            strike: Strike | None = None,
            *,
            task: Task | None = None,
            workers: int = 3,
            num_processes: int = 0,
            again: bool = False,
            **settings: object,
        ) -> tuple[Result, list[tuple[str, Mapping[str, Any]]]]:
            prints = Footprints(str(tmp_path / "steps"), num_processes=num_processes)
            disturbance = Disturbance(prints, workers, strike or (lambda _: None), at_step=25)
            result = fit(
                task or ContractTask(),
                fault_data[0],
                validation=fault_data[1],
                store=fault_store,
                runtime=runtime,
                workers=workers,
                callbacks=[prints],
                progress=disturbance,
                **{**SETTINGS, **settings},
            )
            assert disturbance.has_struck
            assert result.checkpoint.digest == undisturbed.checkpoint.digest
            assert result.history == undisturbed.history
            curve = [point.step for point in fault_store.metrics.curve(result.run, "train.loss")]
            assert curve == list(range(1, NUM_STEPS + 1))
            if not again:
                check_nothing_is_done_twice(prints.read())
            return result, [(event.kind, event.fields) for event in fault_store.runs.events(result.run)]

        return run

    def test_a_killed_worker_is_replaced(self, disturb: Fit) -> None:
        """The survivors go on without it, and with its replacement, which gets their state."""
        _, events = disturb(kill(1), num_processes=4)

        (lost,) = of_kind(events, "worker_lost")
        generations = [sorted(fields["workers"]) for fields in of_kind(events, "generation")]
        assert lost["worker"] == 1
        assert "signal 9" in lost["cause"]
        assert generations == [[0, 1, 2], [0, 2], [0, 2, 3]]

    def test_a_stopped_worker_is_found_by_its_silence(self, disturb: Fit) -> None:
        """SIGSTOP: it neither dies nor works."""
        _, events = disturb(kill(2, number=signal.SIGSTOP), heartbeat_s=2.0)

        assert any(fields["worker"] == 2 and "silent" in fields["cause"] for fields in of_kind(events, "worker_lost"))

    def test_two_may_die_at_once(self, disturb: Fit) -> None:
        """The first among them."""
        _, events = disturb(kill(0, 2))

        assert {fields["worker"] for fields in of_kind(events, "worker_lost")} >= {0, 2}

    def test_when_all_die_newcomers_go_on_from_the_newest_checkpoint(self, disturb: Fit) -> None:
        """What is done again is said, and comes out the same."""
        _, events = disturb(kill(), again=True, checkpoint_every_steps=5)

        (again,) = of_kind(events, "rewound")
        assert again["to_step"] <= again["from_step"]

    def test_too_little_memory_in_one_worker_is_a_loss(self, disturb: Fit, tmp_path: Path) -> None:
        """The system refuses an allocation; another worker may get it."""
        _, events = disturb(task=FaultyTask(folder=str(tmp_path), fault="memory"))

        assert any("ran out of memory" in fields["cause"] for fields in of_kind(events, "worker_lost"))

    def test_a_mistake_of_the_task_ends_the_run_with_its_own_error(
        self, disturb: Fit, fault_store: Store, tmp_path: Path
    ) -> None:
        """On top, not the cascade of the others; the run's record has failed."""
        with pytest.raises(WorkerError, match="ZeroDivisionError: wrong from the start") as caught:
            disturb(task=FaultyTask(folder=str(tmp_path), fault="raise"))

        assert 'raise ZeroDivisionError("wrong from the start")' in caught.value.traceback_text
        assert fault_store.runs.list()[0].status == "failed"


def of_kind(events: list[tuple[str, Mapping[str, Any]]], kind: str) -> list[Mapping[str, Any]]:
    """What is told by the events of a kind."""
    return [fields for each, fields in events if each == kind]


def check_nothing_is_done_twice(prints: list[tuple[int, int, int]]) -> None:
    """Nobody goes back: what one worker has finished, no other begins again later."""
    steps = [step for _, _, step in prints]
    by_process = defaultdict(list)
    for pid, _, step in prints:
        by_process[pid].append(step)
    assert steps == sorted(steps)
    assert set(steps) == set(range(1, NUM_STEPS + 1))
    assert all(len(set(own)) == len(own) for own in by_process.values())
