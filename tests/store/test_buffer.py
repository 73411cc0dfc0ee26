import threading

import pytest

from shoal.base import ShoalError, StorageFullError
from shoal.store.buffer import WriteBuffer


class Disk:
    """Keeps what is written; full while `is_full`."""

    def __init__(self):
        self.written = []
        self.is_full = False
        self.tried = threading.Event()

    def write(self, items):
        self.tried.set()
        if self.is_full:
            raise StorageFullError("cannot write", next_step="free space")
        self.written += items


@pytest.fixture
def disk():
    return Disk()


def test_items_arrive_in_order_by_themselves(disk):
    buffer = WriteBuffer(disk.write, interval_s=0.001)

    for item in range(1000):
        buffer.add(item)
    buffer.close()

    assert disk.written == list(range(1000))


def test_flush_waits_for_no_interval(disk):
    buffer = WriteBuffer(disk.write, interval_s=60)

    buffer.add(1)
    buffer.flush()

    assert disk.written == [1]
    buffer.close()


def test_full_buffer_makes_the_caller_write(disk):
    buffer = WriteBuffer(disk.write, interval_s=60, max_items=10)

    for item in range(25):
        buffer.add(item)

    assert disk.written == list(range(20))
    buffer.close()
    assert disk.written == list(range(25))


def test_trouble_is_raised_by_flush_and_items_are_kept(disk):
    buffer = WriteBuffer(disk.write, interval_s=0.001)
    disk.is_full = True
    buffer.add(1)
    assert disk.tried.wait(10)

    with pytest.raises(StorageFullError):
        buffer.flush()
    disk.is_full = False
    buffer.add(2)
    buffer.close()

    assert disk.written == [1, 2]


def test_an_error_of_any_kind_reaches_only_flush():
    written, tries = [], []

    def write(items):
        tries.append(1)
        if len(tries) <= 3:
            raise OSError(5, "Input/output error")
        written.extend(items)

    buffer = WriteBuffer(write, interval_s=60, max_items=2)
    for item in range(3):
        buffer.add(item)
    with pytest.raises(OSError, match="Input/output error"):
        buffer.flush()
    with pytest.raises(OSError, match="Input/output error"):
        buffer.flush()
    with pytest.raises(ShoalError, match="1 points are lost"):
        buffer.close()

    assert written == [0, 1]


def test_the_writer_outlives_an_error_of_any_kind():
    failed, written = threading.Event(), threading.Event()

    def write(items):
        if not failed.is_set():
            failed.set()
            raise OSError(5, "Input/output error")
        written.set()

    buffer = WriteBuffer(write, interval_s=0.001)
    buffer.add(1)

    assert written.wait(10)
    buffer.close()


def test_memory_is_bounded_and_loss_is_told(disk):
    buffer = WriteBuffer(disk.write, interval_s=60, max_items=10)
    disk.is_full = True
    for item in range(13):
        buffer.add(item)
    disk.is_full = False

    with pytest.raises(ShoalError, match="3 points are lost"):
        buffer.flush()
    buffer.close()

    assert disk.written == list(range(10))


def test_closing_without_an_item_starts_nothing(disk):
    buffer = WriteBuffer(disk.write)

    buffer.close()

    assert not disk.tried.is_set()
