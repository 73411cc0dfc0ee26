import pytest

from shoal.serve.batching.speed import Pace, Speed
from shoal.serve.links.channel import Key

ONE, OTHER = Key("m", "1"), Key("m", "2")


@pytest.fixture
def pace():
    return Pace()


def test_nothing_is_known_before_two_batches_follow_each_other(pace):
    pace.observe(4, 1.0, is_behind=True)

    assert pace.row_s == 0


def test_it_is_the_time_between_batches_for_each_row(pace):
    for number in range(5):
        pace.observe(4, 1.0 + number * 0.02, is_behind=True)

    assert pace.row_s == pytest.approx(0.005)


def test_time_in_which_nothing_waited_does_not_count(pace):
    pace.observe(4, 1.0, is_behind=True)
    pace.observe(4, 1.02, is_behind=False)
    pace.observe(4, 9.0, is_behind=True)
    pace.observe(4, 9.02, is_behind=True)

    assert pace.row_s == pytest.approx(0.005)


def test_one_long_pause_does_not_decide(pace):
    for number in range(5):
        pace.observe(4, 1.0 + number * 0.02, is_behind=True)

    pace.observe(4, 60.0, is_behind=True)

    assert pace.row_s < 0.006


def test_it_follows_a_lasting_change(pace):
    now_s = 1.0
    for step_s, batches in ((0.02, 10), (0.08, 200)):
        for _ in range(batches):
            now_s += step_s
            pace.observe(4, now_s, is_behind=True)

    assert pace.row_s == pytest.approx(0.02, rel=0.01)


def test_what_waits_is_counted_by_the_cost_of_its_versions():
    speed = Speed()
    speed.note_cost(ONE, 0.001)
    speed.note_cost(OTHER, 0.01)

    assert speed.queued_s([(ONE, 10), (OTHER, 2)], 2) == pytest.approx(0.03)
    assert speed.most_row_s == 0.01


def test_a_queue_that_goes_slowly_counts_by_its_pace():
    speed = Speed()
    speed.note_cost(ONE, 0.001)
    for number in range(5):
        speed.note_done(4, 1.0 + number * 0.02, is_behind=True)

    # 5 ms a row, with both replicas at it.
    assert speed.queued_s([(ONE, 10)], 2) == pytest.approx(0.1)
    assert speed.most_row_s == pytest.approx(0.005)


def test_versions_that_are_gone_do_not_count():
    speed = Speed()
    speed.note_cost(ONE, 0.001)
    speed.note_cost(OTHER, 0.01)

    speed.forget({ONE})

    assert speed.queued_s([(OTHER, 10)], 1) == 0
    assert speed.most_row_s == 0.001
