import multiprocessing
import os
import pickle
from dataclasses import dataclass

import pytest

from shoal.base import UnsupportedError

pytest.importorskip("torch")
pytestmark = pytest.mark.slow  # importing torch takes seconds

from shoal.data.loading.torch_iterations import _PROCESS, Iterations, Start  # noqa: E402  # torch may be missing


@dataclass
class Worker:
    id: int
    num_workers: int
    seed: int


def begin(iterations: Iterations, seed: int, num_workers: int) -> list[int]:
    """Return the epochs that the workers of one iteration read."""
    return [iterations.begin(Worker(index, num_workers, seed + index)).epoch for index in range(num_workers)]


def test_all_workers_of_an_iteration_read_one_epoch_whatever_their_number() -> None:
    iterations = Iterations()

    found = [begin(iterations, seed, count) for seed, count in ((11, 1), (12, 3), (13, 2), (14, 3))]

    assert found == [[0], [1, 1, 1], [2, 2], [3, 3, 3]]
    assert iterations.next == Start(4, 0, 0)


def test_a_seed_that_is_the_same_in_each_iteration_does_no_harm() -> None:
    iterations = Iterations()

    assert [begin(iterations, 7, count) for count in (1, 2, 2, 1, 2)] == [[0], [1, 1], [2, 2], [3], [4, 4]]


def test_iterations_that_begin_at_once_are_told_apart() -> None:
    iterations = Iterations()

    first = [iterations.begin(Worker(0, 2, 50)), iterations.begin(Worker(0, 2, 90))]
    second = [iterations.begin(Worker(1, 2, 51)), iterations.begin(Worker(1, 2, 91))]

    assert first == second == [Start(0, 0, 0), Start(1, 0, 0)]


def test_a_start_inside_an_epoch_is_that_of_the_next_iteration_alone() -> None:
    iterations = Iterations()
    iterations.set_next(Start(3, 40, 8))

    assert iterations.is_last_mine
    assert iterations.begin(Worker(0, 1, 5)) == Start(3, 40, 8)
    assert not iterations.is_last_mine
    assert iterations.begin() == Start(4, 0, 8)
    assert iterations.is_last_mine


def test_an_iteration_is_over_when_its_workers_came_to_its_end_and_are_gone() -> None:
    iterations, worker = Iterations(), Worker(0, 1, 5)
    child = multiprocessing.get_context("spawn").Process(target=int)
    iterations.begin(worker)
    begun = iterations.is_last_over
    iterations.end(worker)

    # This process reads, and is no worker of its own.
    assert (begun, iterations.is_last_over) == (False, True)
    child.start()
    iterations._numbers()[_PROCESS] = child.pid
    alive = iterations.is_last_over
    child.join()
    assert (alive, iterations.is_last_over) == (False, True)


def test_another_process_counts_on_its_own() -> None:
    iterations = Iterations()
    iterations.begin()
    copied = pickle.loads(pickle.dumps(iterations))

    copied.begin()

    assert (iterations.next.epoch, copied.next.epoch) == (1, 2)


@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_fork_that_reads_itself_does_not_count_for_its_parent() -> None:
    iterations = Iterations()
    child = os.fork()
    if not child:
        iterations.begin()
        os._exit(iterations.next.epoch)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert iterations.next.epoch == 0


def test_too_many_workers_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="2000 workers"):
        Iterations().begin(Worker(0, 2_000, 1))
