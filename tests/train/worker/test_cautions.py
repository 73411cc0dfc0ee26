import warnings

import pytest

from shoal.train.worker.cautions import MAX_CAUTIONS, telling_warnings


class Office:
    def __init__(self, rank=0):
        self.rank = rank
        self.told = []

    def report(self, message):
        self.told.append(message["text"])


@pytest.fixture(autouse=True)
def shown():
    """What is printed, as in a worker process and not collected by the tests' own machinery."""
    printed = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_place, **_more: printed.append(str(message))
        yield printed


def test_a_warning_is_printed_and_told(shown):
    office = Office()

    with telling_warnings(office):
        warnings.warn("sizes differ", UserWarning, stacklevel=1)

    assert office.told == ["UserWarning: sizes differ"]
    assert shown == ["sizes differ"]


def test_each_is_told_once_and_the_first_few_alone():
    office = Office()

    with telling_warnings(office):
        for letter in "abcdefghij":
            for size in (64, 32):
                warnings.warn(f"{letter} of size {size}", UserWarning, stacklevel=1)

    assert office.told == [f"UserWarning: {letter} of size 64" for letter in "abcdefghij"[:MAX_CAUTIONS]]


def test_other_workers_leave_it_to_the_first():
    office = Office(rank=1)

    with telling_warnings(office):
        warnings.warn("the same", UserWarning, stacklevel=1)

    assert office.told == []


def test_a_line_that_is_gone_ends_nothing(shown):
    class Gone(Office):
        def report(self, message):
            raise BrokenPipeError

    with telling_warnings(Gone()):
        warnings.warn("sizes differ", UserWarning, stacklevel=1)

    assert shown == ["sizes differ"]


def test_afterwards_nobody_is_told():
    office = Office()

    with telling_warnings(office):
        pass
    warnings.warn("late", UserWarning, stacklevel=1)

    assert office.told == []
