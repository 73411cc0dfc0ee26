import os
import threading
from pathlib import Path

import pytest

from shoal.runtime.stderr import TAIL_BYTES, StderrTail


@pytest.fixture
def pipe():
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb", buffering=0) as sink:
        yield read_end, sink


def test_little_is_kept_whole(pipe):
    tail = StderrTail(pipe[0], None)

    pipe[1].write("naïve".encode())
    pipe[1].close()

    assert tail.text(10) == "naïve"


def test_of_much_the_end_is_kept(pipe):
    tail = StderrTail(pipe[0], None)

    for letter in b"abc":
        pipe[1].write(bytes([letter]) * TAIL_BYTES)
    pipe[1].write(b"end")
    pipe[1].close()

    assert tail.text(10) == "c" * (TAIL_BYTES - 3) + "end"


def test_bytes_that_are_no_text_are_shown_as_such(pipe):
    tail = StderrTail(pipe[0], None)

    pipe[1].write(b"\xff!")
    pipe[1].close()

    assert tail.text(10) == "\N{REPLACEMENT CHARACTER}!"


def test_everything_goes_to_the_log_after_what_was_there(pipe, tmp_path):
    log = tmp_path / "worker-0.log"
    log.write_text("before\n")
    tail = StderrTail(pipe[0], log)

    pipe[1].write(b"x" * 1_000_000)
    pipe[1].close()
    tail.text(10)

    assert log.read_bytes() == b"before\n" + b"x" * 1_000_000


def test_a_log_that_cannot_be_written_ends_nothing_else(pipe, tmp_path):
    tail = StderrTail(pipe[0], tmp_path / "no" / "such" / "folder.log")

    pipe[1].write(b"x" * 1_000_000 + b"end")
    pipe[1].close()

    assert tail.text(10).endswith("end")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_ends_the_log_and_nothing_else(pipe, tmp_path):
    (tmp_path / "full.log").symlink_to("/dev/full")
    tail = StderrTail(pipe[0], tmp_path / "full.log")

    pipe[1].write(b"x" * 1_000_000 + b"end")
    pipe[1].close()

    assert tail.text(10).endswith("end")


def test_the_text_so_far_is_there_while_the_pipe_is_held_open(pipe):
    threads = threading.active_count()
    tail = StderrTail(pipe[0], None)
    pipe[1].write(b"so far")

    while not tail.text(0.01):
        pass

    assert tail.text() == "so far"
    pipe[1].close()
    tail.text(10)
    assert threading.active_count() == threads
