import msgspec

from shoal.base import WorkerError
from shoal.runtime import Exited, Member
from shoal.runtime.remote.words import End, Orders
from shoal.testing import members


def travel(value):
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=type(value))


def test_a_launch_survives_the_journey(make_launch):
    launch = make_launch(members.introduce, {"a": [1, None, b"\0"], "deep": {"b": 2.5}}, {"X": "1"})

    arrived = travel(Orders.of(launch)).launch()

    assert arrived == launch


def test_code_that_travels_by_value_arrives(make_launch):
    offset = 3

    def entry(context):
        return context + offset

    assert travel(Orders.of(make_launch(entry))).launch().code.resolve()(1) == 4


def test_an_end_survives_the_journey_with_its_error():
    member = Member("worker", 3)
    failure = WorkerError("broken", next_step="mend it", role="worker", rank=3, host="h", pid=9, traceback_text="here")
    event = Exited(member, 9, 1, None, failure)

    arrived = travel(End.of(event)).event(member)

    assert (arrived.pid, arrived.exit_code, arrived.signal) == (9, 1, None)
    assert str(arrived.failure) == str(failure)
    assert arrived.failure.__notes__ == ["here"]
    assert travel(End.of(Exited(member, 9, 0, None, None))).event(member).failure is None


def test_a_refusal_is_an_end_without_a_process():
    end = travel(End.refusal(WorkerError("no room", next_step="make some"))).event(Member("worker", 3))

    assert (end.pid, end.exit_code) == (0, 1)
    assert end.failure.message == "no room"
