"""A front in a loop that is there already, with an entry that does what each test wants in place of a whole front."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from shoal.base import UnsupportedError, WorkerError
from shoal.runtime import Exited, Report, Started
from shoal.serve.mount.guest import GuestFront, Line


@pytest.fixture
def line():
    told = []
    line = Line(told.append)
    line.told = told
    yield line
    line.close()


def test_messages_come_in_order_and_wake_the_loop(line):
    async def run():
        woken = asyncio.Event()
        asyncio.get_running_loop().add_reader(line.fileno(), woken.set)
        threading.Thread(target=lambda: [line.send(number) for number in (1, 2)]).start()
        found = []
        while len(found) < 2:
            await woken.wait()
            woken.clear()
            while (message := line.receive_nowait()) is not None:
                found.append(message)
        asyncio.get_running_loop().remove_reader(line.fileno())
        return found

    assert asyncio.run(run()) == [1, 2]


def test_a_front_that_waits_for_its_first_message_hears_that_it_should_stop(line):
    threading.Timer(0.01, line.stop).start()

    assert line.receive() is None
    assert line.stopping.is_set()


def test_a_message_to_a_front_that_has_ended_is_lost(line):
    line.close()

    line.send("late")
    line.stop()


class Host:
    """A loop with a guest whose serving is a coroutine of the test's."""

    def __init__(self, serving):
        self.lingered = False
        self.loop = asyncio.new_event_loop()
        self.guest = GuestFront(self.loop, linger=self._linger)
        self._serving = serving

    async def _linger(self):
        self.lingered = True

    def entry(self, line, *, loop):
        loop("the front", self._serving(line))

    def start(self):
        self.guest.start(SimpleNamespace(resolve=lambda: self.entry, config={}))

    def run(self, work):
        """Run the loop until the work, in another thread, is done; cancel what is left, and close it."""

        async def until_done():
            return await asyncio.to_thread(work)

        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            return runner.run(until_done())


async def serve_until_stopped(line):
    while not line.stopping.is_set():
        await asyncio.sleep(0)


def test_it_is_served_in_the_loop_until_it_is_stopped():
    threads = []

    async def serving(line):
        threads.append(threading.current_thread())
        line.report(b"here")
        await serve_until_stopped(line)

    host = Host(serving)

    def work():
        host.start()
        events = host.guest.events()
        found = [next(events), next(events)]
        front = host.guest.front
        host.guest.stop()
        return [*found, *events], front

    events, front = host.run(work)

    assert [type(event) for event in events] == [Started, Report, Exited]
    assert events[1].message == b"here"
    assert events[2].failure is None
    assert front == "the front"
    assert threads == [threading.main_thread()]
    assert host.lingered
    assert host.guest.is_over


def test_nobody_can_kill_the_hosts_process_for_its_front():
    host = Host(serve_until_stopped)

    def work():
        host.start()
        (*_, started) = [next(host.guest.events())]
        pids = host.guest.pids()
        host.guest.stop()
        return started, pids

    started, pids = host.run(work)

    assert started.pid == 0
    assert pids == {}


def test_what_it_raises_is_told_to_the_supervisor():
    async def serving(_):
        raise ValueError("broken")

    host = Host(serving)

    def work():
        host.start()
        return list(host.guest.events())

    exited = host.run(work)[-1]

    assert isinstance(exited.failure, WorkerError)
    assert "ValueError: broken" in exited.failure.message


def test_a_loop_that_ends_ends_it_and_waits_for_what_is_left():
    begun = threading.Event()

    async def serving(_):
        begun.set()
        await asyncio.Event().wait()

    host = Host(serving)

    def work():
        host.start()
        begun.wait()

    host.run(work)
    exited = list(host.guest.events())[-1]

    assert isinstance(exited.failure, WorkerError)
    assert host.lingered


def test_it_may_be_told_to_leave():
    begun = threading.Event()

    async def serving(_):
        begun.set()
        await asyncio.Event().wait()

    host = Host(serving)

    def work():
        host.start()
        begun.wait()
        host.guest.leave()
        host.loop.call_soon_threadsafe(host.guest.leave)
        return list(host.guest.events())

    assert host.run(work)[-1].failure is not None


def test_a_stop_does_not_wait_for_a_loop_that_was_closed_under_it():
    host = Host(serve_until_stopped)
    # It never runs, as that of a host that was torn down.
    host.start()
    while host.guest.front is None:
        """The entry comes to it in its thread."""
    host.loop.close()

    host.guest.stop(grace_s=60)

    assert [type(event) for event in host.guest.events()] == [Started, Exited]


def test_a_loop_that_was_closed_before_there_was_a_front_is_told():
    host = Host(serve_until_stopped)
    host.loop.close()

    host.start()

    assert list(host.guest.events())[-1].failure is not None


def test_there_is_one_front_in_a_loop():
    host = Host(serve_until_stopped)

    def work():
        with host.guest as guest:
            host.start()
            with pytest.raises(UnsupportedError, match="1 fronts"):
                guest.add()
            assert list(guest.events(timeout_s=0.01)) != []
            guest.remove()

    host.run(work)
