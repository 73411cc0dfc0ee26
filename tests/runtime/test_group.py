import pytest

from shoal.base import InputError
from shoal.runtime import Code, Exited, Member, Report, Started
from shoal.runtime.group import Group
from shoal.runtime.running import Launch, stop_all
from shoal.testing import members


def launch(rank):
    return Launch(
        member=Member("worker", rank), code=Code.of(members.echo), world_size=1, environment={}, log_folder=None
    )


@pytest.fixture
def group():
    group = Group(after_exit=lambda child: None)
    yield group
    stop_all(group.children(), grace_s=0.0)


def test_a_message_right_after_the_start_is_not_taken_for_the_orders(group):
    group.start([launch(0)])

    group.send(Member("worker", 0), "first")

    assert next(event.message for event in group.inbox.take() if isinstance(event, Report)) == "first"


def test_the_newest_child_of_a_member_is_the_one_that_counts(group):
    group.start([launch(0)])
    (old,) = group.children()
    old.kill()
    old.wait()

    group.start([launch(0)])
    group.send(Member("worker", 0), "to the new one")

    events = group.inbox.take()
    assert [type(next(events)) for _ in range(3)] == [Started, Exited, Started]
    assert next(events) == Report(Member("worker", 0), "to the new one")
    assert group.children() != [old]


def test_a_forgotten_member_is_not_there(group):
    group.start([launch(0)])
    stop_all(group.children(), grace_s=0.0)

    group.forget(Member("worker", 0))

    assert group.children() == []
    with pytest.raises(InputError, match="none is left"):
        group.send(Member("worker", 0), "hello")


def test_who_waits_for_exits_is_told_when_the_event_is_there():
    seen = []
    group = Group(after_exit=lambda child: seen.append((child.member, group.inbox.is_over)))
    group.start([launch(0), launch(1)])

    stop_all(group.children(), grace_s=0.0)

    assert sorted(member.rank for member, _ in seen) == [0, 1]
    assert sum(isinstance(event, Exited) for event in group.inbox.take(timeout_s=0)) == 2
