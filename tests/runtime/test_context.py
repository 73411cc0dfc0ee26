import os
import select
import signal
import socket
import threading

import pytest

from shoal.base import InputError
from shoal.runtime.context import Context
from shoal.runtime.frames import Channel, decode_message, encode_message, read_frame, write_frame


class Supervisor:
    """The other end of a context that lives in this process."""

    def __init__(self):
        self.socket, self._theirs = socket.socketpair()
        self._read_end, self._write_end = os.pipe()
        self.lost = threading.Event()
        self.context = Context(
            role="worker",
            rank=1,
            world_size=2,
            channel=Channel(self._theirs.fileno()),
            signals=self._read_end,
            orphaned=self.lost.set,
        )

    def say(self, message):
        write_frame(self.socket.fileno(), *encode_message(message))

    def hear(self):
        return decode_message(*read_frame(self.socket.fileno()))

    def signal(self, number):
        os.write(self._write_end, bytes([number]))

    def end(self):
        self.socket.close()
        assert self.lost.wait(10)
        self.context._listener.join()
        self._theirs.close()
        for descriptor in (self._read_end, self._write_end, *(self.context._wake or ())):
            os.close(descriptor)


@pytest.fixture
def supervisor():
    supervisor = Supervisor()
    yield supervisor
    supervisor.end()


def readable(context, timeout_s=10):
    return bool(select.select([context.fileno()], [], [], timeout_s)[0])


def test_reports_reach_the_supervisor(supervisor):
    supervisor.context.report({"loss": 0.5})

    assert supervisor.hear() == {"loss": 0.5}


def test_messages_are_received_in_order(supervisor):
    for index in range(100):
        supervisor.say(index)

    assert [supervisor.context.receive() for _ in range(100)] == [*range(100)]


def test_receive_gives_up_after_its_timeout(supervisor):
    assert supervisor.context.receive(timeout_s=0.01) is None
    assert supervisor.context.receive(timeout_s=0) is None
    assert supervisor.context.receive_nowait() is None


def test_receive_ends_when_the_member_should_stop(supervisor):
    supervisor.signal(signal.SIGTERM)

    assert supervisor.context.receive() is None
    assert supervisor.context.stopping.is_set()


def test_messages_that_came_before_the_wish_to_stop_are_still_received(supervisor):
    supervisor.say("first")
    assert readable(supervisor.context)
    supervisor.signal(signal.SIGTERM)
    assert supervisor.context.stopping.wait(10)

    assert supervisor.context.receive() == "first"
    assert supervisor.context.receive() is None


def test_other_signals_do_not_stop_the_member(supervisor):
    supervisor.signal(signal.SIGUSR2)
    supervisor.say("after")

    assert supervisor.context.receive() == "after"
    assert not supervisor.context.stopping.is_set()


def test_the_descriptor_is_readable_until_nothing_is_left(supervisor):
    context = supervisor.context
    idle = readable(context, timeout_s=0)
    supervisor.say(1)
    supervisor.say(2)

    woken = readable(context)
    received = [context.receive(), context.receive()]

    assert not idle
    assert woken
    assert received == [1, 2]
    assert readable(context, timeout_s=0)
    assert context.receive_nowait() is None
    assert not readable(context, timeout_s=0)


def test_the_descriptor_wakes_for_the_wish_to_stop(supervisor):
    context = supervisor.context
    context.fileno()

    supervisor.signal(signal.SIGTERM)

    assert readable(context)
    assert context.receive_nowait() is None
    assert context.stopping.is_set()
    assert not readable(context, timeout_s=0)


def test_a_descriptor_that_is_asked_for_late_knows_what_came_before(supervisor):
    supervisor.say("early")
    supervisor.signal(signal.SIGTERM)
    assert supervisor.context.stopping.wait(10)

    assert readable(supervisor.context)


def test_the_end_of_the_supervisor_is_noticed(supervisor):
    supervisor.socket.close()

    assert supervisor.lost.wait(10)


def test_a_report_that_cannot_travel_sends_nothing(supervisor):
    with pytest.raises(InputError):
        supervisor.context.report(object())
    supervisor.context.report("next")

    assert supervisor.hear() == "next"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_both_signals_of_a_launcher_stop_the_member(supervisor, number):
    supervisor.signal(number)

    assert supervisor.context.stopping.wait(60)
