import pytest

from shoal.serve.host.attendance import Attendance


@pytest.fixture
def attendance():
    """One front and one replica that are there, since second 0."""
    attendance = Attendance(hello_s=60.0, pulse_s=10.0)
    attendance.start_front(0, 0.0)
    attendance.start_replica(7, 0.0)
    return attendance


def test_a_replica_that_says_hello_is_present(attendance):
    attendance.note_present(0, [7], 1.0)
    attendance.hear(0, 99.0)

    assert attendance.absent_replicas(100.0) == set()


@pytest.mark.parametrize(("now_s", "absent"), [(59.0, set()), (61.0, {7})])
def test_a_replica_that_never_says_hello_is_absent_after_the_deadline(attendance, now_s, absent):
    attendance.hear(0, now_s)

    assert attendance.absent_replicas(now_s) == absent


def test_a_replica_must_say_hello_to_each_front_anew(attendance):
    attendance.note_present(0, [7], 1.0)
    attendance.start_front(1, 100.0)
    for rank in (0, 1):
        attendance.hear(rank, 161.0)

    assert attendance.absent_replicas(161.0) == {7}


def test_a_front_that_is_started_again_gives_replicas_their_time(attendance):
    attendance.end_front(0)
    attendance.start_front(0, 50.0)
    attendance.hear(0, 100.0)

    assert attendance.absent_replicas(100.0) == set()
    attendance.hear(0, 111.0)
    assert attendance.absent_replicas(111.0) == {7}


def test_a_replica_that_ended_is_not_missed(attendance):
    attendance.end_replica(7)
    attendance.hear(0, 100.0)

    assert attendance.absent_replicas(100.0) == set()


def test_a_silent_front_is_told_and_says_nothing_about_replicas(attendance):
    attendance.hear(0, 50.0)

    assert attendance.silent_fronts(59.0) == set()
    assert attendance.silent_fronts(61.0) == {0}
    assert attendance.absent_replicas(61.0) == set()


def test_a_front_has_longer_for_its_first_word(attendance):
    assert attendance.silent_fronts(59.0) == set()
    assert attendance.silent_fronts(61.0) == {0}


def test_time_in_which_nobody_listened_does_not_count(attendance):
    attendance.forgive(1000.0)

    assert attendance.silent_fronts(1005.0) == set()
    assert attendance.silent_fronts(1061.0) == {0}
    assert attendance.absent_replicas(1005.0) == set()
