from pathlib import Path

from shoal.base import SharedBlock
from shoal.train.group.meeting import Meeting, MeetingPlace, join_group
from shoal.train.group.solo import Solo


def test_a_lone_member_needs_nobody():
    group = join_group(Meeting(kind="solo", name="", rank=0, size=1, generation=0), lambda: False)

    assert isinstance(group, Solo)


def test_cleaning_removes_what_one_generation_left_and_nothing_else():
    place = MeetingPlace()
    left = [SharedBlock.create(64, name=f"{place.shared_name(generation)}left") for generation in (1, 1 + 10)]

    place.clean(1)

    assert [Path(block.name).exists() for block in left] == [False, True]
    left[1].unlink()


def test_every_generation_meets_by_another_name():
    place = MeetingPlace()

    names = {place.shared_name(0), place.shared_name(1), place.network_name(0), place.network_name(1)}

    assert len(names) == 4
    place.close()
