import os
import signal
import socket
import threading

from shoal.runtime.frames import RAW
from shoal.runtime.remote import line as line_module
from shoal.runtime.remote.line import Line


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        first = socket.create_connection(listening.getsockname())
        return first, listening.accept()[0]


def test_frames_arrive_as_they_were_written(join):
    ours, theirs = join()

    theirs.write(RAW, b"there")
    ours.write(RAW, b"")

    assert ours.read() == (RAW, b"there")
    assert theirs.read() == (RAW, b"")


def test_a_closed_end_is_seen_and_writing_to_it_is_no_error(join):
    ours, theirs = join()

    theirs.close()

    assert ours.read() is None
    for _ in range(3):
        ours.write(RAW, b"lost")
    theirs.write(RAW, b"lost")


def test_a_line_that_only_beats_stays_up(join, monkeypatch):
    monkeypatch.setattr(line_module, "BEAT_S", 0.01)
    first, second = tcp_pair()
    ours, theirs = Line(first, silence_s=0.3), Line(second, silence_s=60)

    threading.Timer(1.0, theirs.write, args=(RAW, b"at last")).start()

    assert ours.read() == (RAW, b"at last")
    ours.close()
    theirs.close()


def test_silence_counts_as_death():
    first, second = tcp_pair()
    with second:
        line = Line(first, silence_s=0.1)

        assert line.read() is None
        line.close()


def test_an_end_that_takes_nothing_counts_as_dead_unless_one_is_patient():
    first, second = tcp_pair()
    with second:
        line = Line(first, silence_s=0.1)
        line.write(RAW, bytes(10_000_000))

        assert line.read() is None
        line.close()


def test_a_process_that_is_killed_closes_its_line(reception, start_python):
    caller = start_python(
        f"""
        import time
        from shoal.runtime.remote.reception import call
        line = call({reception.address!r}, {reception.port}, {reception.token!r}, 1)
        time.sleep(600)
        """
    )
    line = reception.wait(1)

    os.kill(caller.pid, signal.SIGKILL)

    assert line.read() is None
    line.close()
