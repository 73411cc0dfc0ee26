import threading

import psutil
import pytest

from shoal.base import WorkerError
from shoal.runtime import Code, Exited, LocalRuntime, Member, Report, Resources
from shoal.runtime import starting as starting_module
from shoal.runtime.inbox import MAX_UNREAD_REPORTS
from shoal.testing import members

ONE = Resources()


@pytest.mark.parametrize("runtime", [LocalRuntime], indirect=True)
def test_no_member_is_left_when_one_cannot_be_started(runtime, monkeypatch):
    real, started = starting_module.spawn, []

    def spawn_two(request):
        if len(started) == 2:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(real(request))
        return started[-1]

    monkeypatch.setattr(starting_module, "spawn", spawn_two)
    num_fds = psutil.Process().num_fds()

    with pytest.raises(WorkerError, match=r"cannot start worker 2.*unavailable.*ulimit"):
        runtime.gang({"worker": (Code.of(members.echo), 4, ONE)})

    assert [process.returncode for process in started] == [-9, -9]
    assert psutil.Process().num_fds() == num_fds


def test_leaving_the_block_by_an_error_stops_the_gang(runtime):
    with pytest.raises(LookupError), runtime.gang({"worker": (Code.of(members.wait_for_stop), 2, ONE)}) as gang:
        raise LookupError

    assert gang.pids == {}
    assert [event.failure for event in gang.events() if isinstance(event, Exited)] == [None, None]


def test_many_threads_may_use_one_gang(runtime):
    with runtime.gang({"worker": (Code.of(members.echo), 2, ONE)}) as gang:
        senders = [
            threading.Thread(target=lambda rank=rank: [gang.send(Member("worker", rank), n) for n in range(200)])
            for rank in (0, 1, 0, 1)
        ]
        for sender in senders:
            sender.start()
        counts = {0: 0, 1: 0}
        for event in gang.events():
            counts[event.member.rank] += isinstance(event, Report)
            if sum(counts.values()) == 800:
                break
        for sender in senders:
            sender.join()

    assert counts == {0: 400, 1: 400}


def test_unread_reports_are_bounded(runtime):
    code = Code.of(members.flood, {"num_messages": 10_000, "num_bytes": 800})
    most = 0

    with runtime.gang({"worker": (code, 1, ONE)}) as gang:
        for _ in gang.events():
            most = max(most, gang._group.inbox._num_unread_reports)

    # Once a member is dead, what its socket still holds comes in as well.
    assert most <= MAX_UNREAD_REPORTS + 512
