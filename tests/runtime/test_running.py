from shoal.runtime import Code, Member
from shoal.runtime.group import Group
from shoal.runtime.running import Launch, stop_all
from shoal.testing import members


def test_all_are_asked_before_any_is_waited_for():
    ended = []
    group = Group(after_exit=ended.append)
    code = Code.of(members.wait_for_stop)
    group.start(
        [
            Launch(member=Member("worker", rank), code=code, world_size=3, environment={}, log_folder=None)
            for rank in range(3)
        ]
    )

    stop_all(group.children(), grace_s=60)

    assert all(child.is_dead and child.is_ending for child in group.children())
    assert len(ended) == 3
