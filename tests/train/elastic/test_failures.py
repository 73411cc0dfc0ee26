from types import SimpleNamespace

import pytest
import torch

from shoal.base import RemoteError, ShoalError, StorageFullError, WorkerError
from shoal.runtime import Exited, Member
from shoal.runtime.raised import describe
from shoal.train.elastic.failures import describe_end, divergence, is_mistake, not_saved, too_many_losses
from shoal.train.reports import Diverged, Unsaved

KEPT = SimpleNamespace(address="/kept/4", position=SimpleNamespace(step=4))


def ended(message=None, *, exit_code=None, signal=None):
    failure = None if message is None else WorkerError(message, next_step="look", traceback_text="below")
    return Exited(Member("worker", 2), 77, exit_code, signal, failure)


MISTAKE = ended("worker 2 (pid 77) failed: ZeroDivisionError: wrong", exit_code=1)
SHORTAGE = ended("worker 2 (pid 77) failed: MemoryError", exit_code=1)
ALLOCATION = ended("worker 2 (pid 77) failed: RuntimeError: DefaultCPUAllocator: can't allocate memory", exit_code=1)
NUMPY = ended(
    "worker 2 (pid 77) failed: numpy._core._exceptions._ArrayMemoryError: Unable to allocate 1.00 EiB", exit_code=1
)
ENFORCED = ended(
    "worker 2 (pid 77) failed: RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't "
    "allocate memory: you tried to allocate 1152921504606846976 bytes. Error code 12 (Cannot allocate memory)",
    exit_code=1,
)
CUDA = ended("worker 2 (pid 77) failed: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", exit_code=1)
MMAP = ended("worker 2 (pid 77) failed: OSError: [Errno 12] Cannot allocate memory", exit_code=1)
WORDS = [
    ended(f"worker 2 (pid 77) failed: {text}", exit_code=1)
    for text in (
        "ValueError: the buffer is out of memory slots",
        "RuntimeError: my cache ran out of memory",
        "shop.OrderError: MemoryError is what I call this",
        'KeyError: "can\'t allocate memory"',
        "RuntimeError: step failed: CUDA out of memory was seen before",
        "MemoryErrors: a class of the user's",
    )
]
KILLED = ended("worker 2 (pid 77) was killed by SIGKILL", signal=9)
CRASHED_LATER = ended("worker 2 (pid 77) failed: ZeroDivisionError: wrong", signal=6)
LOST = ended("worker 2 was lost, and counts as killed by SIGKILL: node 7 (pid 9) failed: no beat", signal=9)
LEFT = ended(exit_code=0)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (MISTAKE, True),
        (CRASHED_LATER, True),
        (SHORTAGE, False),
        (ALLOCATION, False),
        (NUMPY, False),
        (ENFORCED, False),
        (CUDA, False),
        (MMAP, False),
        *((event, True) for event in WORDS),
        (KILLED, False),
        (LOST, False),
        (LEFT, False),
    ],
)
def test_only_what_another_worker_would_do_again_is_a_mistake(event, expected):
    assert is_mistake(event) == expected


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (SHORTAGE, "worker 2 ran out of memory (MemoryError)"),
        (KILLED, "worker 2 died by signal 9"),
        (LOST, "worker 2 died by signal 9"),
        (LEFT, "worker 2 ended with exit code 0"),
    ],
)
def test_an_end_is_told_in_a_clause(event, expected):
    assert describe_end(event) == expected


def test_the_last_error_names_the_first_cause_and_what_is_kept():
    error = too_many_losses(
        "r-0001", number=2, cause="worker 2 died", losses=3, retries=2, checkpoint=KEPT, ends=[LEFT, KILLED]
    )

    assert "worker 2 died, and workers were lost 3 times in a row" in error.message
    assert "step 4 is kept in /kept/4" in error.message
    assert "resume('r-0001')" in error.next_step
    assert (error.rank, error.pid) == (2, 77)


def test_a_divergence_names_step_rows_and_checkpoint():
    found = Diverged(epoch=1, step=7, loss=float("nan"), rows=[3], why="row 3: x holds nan")

    error = divergence(found, "r-0001", KEPT)

    assert error.step == 7
    assert "the loss of step 7, in epoch 2, is nan, row 3: x holds nan" in error.message
    assert "the weights after step 4 are in /kept/4" in error.message
    assert "no checkpoint" in divergence(found, "r-0001", None).message


@pytest.mark.parametrize("kind", [StorageFullError, RemoteError, ShoalError])
def test_a_last_checkpoint_that_cannot_be_written_is_the_error_it_was(kind):
    error = not_saved(Unsaved(error=kind.__name__, text="no room for step 8", next_step="make room"))

    assert type(error) is kind
    assert (error.message, error.next_step) == ("no room for step 8", "make room")


def test_an_allocation_that_really_fails_is_a_shortage():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    summary, _ = describe(caught.value, skip_file=__file__)

    assert not is_mistake(ended(f"worker 2 (pid 77) failed: {summary}", exit_code=1))


@pytest.mark.parametrize(
    "unknown", [RemoteError("cannot reach s3://bucket", next_step="look"), OSError("cannot reach s3://bucket")]
)
def test_a_store_that_cannot_be_asked_does_not_hide_the_cause(unknown):
    found = Diverged(epoch=0, step=7, loss=float("inf"))

    lost = too_many_losses(
        "r-0001", number=2, cause="worker 2 died", losses=3, retries=2, checkpoint=unknown, ends=[KILLED]
    )
    diverged = divergence(found, "r-0001", unknown)

    for error, cause in ((lost, "worker 2 died"), (diverged, "the loss of step 7")):
        assert cause in error.message
        assert "could not be asked (cannot reach s3://bucket)" in error.message
