import signal
import threading

import pytest

from shoal.base import WorkerError
from shoal.runtime import Exited, Report, Started
from shoal.runtime.group import Group
from shoal.runtime.remote.child import RemoteChild, wait_until_there
from shoal.runtime.remote.keeper import Keeper
from shoal.runtime.remote.reception import call
from shoal.testing import members


class ThreadHost:
    """A keeper in a thread of this process, which comes when `come` is called."""

    def __init__(self, reception):
        self.reception = reception
        self.line = None
        self.asked = threading.Event()

    def come(self):
        reception = self.reception
        keeper = Keeper(call(reception.address, reception.port, reception.token, 1), host="there")
        threading.Thread(target=keeper.serve, daemon=True).start()
        return keeper

    def connect(self):
        self.line = self.reception.wait(1)
        return self.line

    def explain(self):
        return "it fell off the table"

    def asked_to_stop(self):
        self.asked.set()

    def release(self):
        self.reception.give_up(1)
        if self.line is not None:
            self.line.hang_up()


@pytest.fixture
def host(reception):
    return ThreadHost(reception)


@pytest.fixture
def group(host):
    return Group(after_exit=lambda child: None, start_process=lambda launch: RemoteChild(launch, host))


def take(group, kind):
    return next(event for event in group.inbox.take(60) if isinstance(event, kind))


def test_what_was_sent_early_arrives_when_the_keeper_has_come(group, host, make_launch):
    launch = make_launch(members.echo)
    group.start([launch])
    group.send(launch.member, "early")
    (child,) = group.children()
    pid_before = child.pid

    host.come()

    assert take(group, Started).host == "there"
    assert take(group, Report).message == "early"
    assert pid_before == 0 < child.pid
    child.kill()
    assert take(group, Exited).signal == signal.SIGKILL


def test_a_member_whose_keeper_never_comes_is_told_with_the_reason(group, host, make_launch):
    group.start([make_launch(members.echo)])
    host.release()

    with pytest.raises(WorkerError, match=r"worker 3 could not be started.*fell off the table"):
        wait_until_there(group.children())
    assert take(group, Exited).pid == 0


def test_a_lost_keeper_counts_as_a_kill(group, host, make_launch):
    group.start([make_launch(members.ignore_stop)])
    host.come()
    take(group, Report)

    host.line.hang_up()
    end = take(group, Exited)

    assert end.signal == signal.SIGKILL
    assert "lost" in end.failure.message


def test_a_member_that_was_to_come_and_is_stopped_does_not_come(group, make_launch):
    group.start([make_launch(members.echo)])
    (child,) = group.children()

    child.terminate()

    assert child.wait(60)
    assert take(group, Exited).failure is None
    child.send("lost")


def test_unread_reports_do_not_hold_up_an_end_that_was_asked_for(group, host, make_launch):
    group.start([make_launch(members.flood, {"num_messages": 5000, "num_bytes": 8000})])
    host.come()
    take(group, Report)
    (child,) = group.children()

    child.terminate()
    child.kill()

    assert child.wait(60)


def test_the_wish_of_the_keepers_surroundings_is_passed_on(group, host, make_launch):
    group.start([make_launch(members.echo)])
    keeper = host.come()
    take(group, Started)

    keeper.ask_to_stop()

    assert host.asked.wait(60)
    group.children()[0].kill()
    group.children()[0].wait(60)
