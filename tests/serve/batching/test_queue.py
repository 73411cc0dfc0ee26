import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.serve.batching.queue import AGEING_S, BatchQueue
from shoal.serve.links.channel import Key

ONE, TWO = Key("fashion", "1"), Key("fashion", "2")
BOTH = {ONE, TWO}


@dataclass(eq=False)
class Request:
    arrived_s: float
    num_rows: int = 1
    form: object = None
    runs_alone: bool = False
    level: int = 3
    deadline_s: float = math.inf


@pytest.fixture
def queue():
    return BatchQueue()


def put(queue, key, *requests):
    for request in requests:
        queue.put(key, request)
    return list(requests)


def at_most(rows):
    return lambda _: rows


def take(queue, loaded, rows, now_s=0.0):
    """The key and the requests of the next batch."""
    taken = queue.take(loaded, at_most(rows), now_s)
    return None if taken is None else (taken.key, taken.requests)


def test_an_idle_replica_takes_all_that_waits_up_to_the_cap(queue):
    requests = put(queue, ONE, *(Request(number) for number in range(5)))

    assert take(queue, BOTH, 3) == (ONE, requests[:3])
    assert take(queue, BOTH, 3) == (ONE, requests[3:])
    assert take(queue, BOTH, 3) is None


def test_a_request_larger_than_the_cap_goes_alone(queue):
    large, small = put(queue, ONE, Request(0, num_rows=50), Request(1))

    assert take(queue, BOTH, 8) == (ONE, [large])
    assert take(queue, BOTH, 8) == (ONE, [small])


def test_requests_of_two_versions_do_not_share_a_batch_and_the_oldest_goes_first(queue):
    later = put(queue, ONE, Request(2), Request(3))
    first = put(queue, TWO, Request(1))

    assert take(queue, BOTH, 8) == (TWO, first)
    assert take(queue, BOTH, 8) == (ONE, later)


def test_a_replica_gets_only_what_it_has_loaded(queue):
    put(queue, ONE, Request(0))
    second = put(queue, TWO, Request(1))

    assert take(queue, {TWO}, 8) == (TWO, second)
    assert take(queue, {TWO}, 8) is None
    assert ONE in queue


def test_requests_of_other_form_wait_for_their_own_batch(queue):
    requests = put(queue, ONE, Request(0, form=(3,)), Request(1, form=(4,)), Request(2, form=(3,)))

    assert take(queue, BOTH, 8) == (ONE, requests[:1])


def test_a_suspect_runs_alone(queue):
    requests = put(queue, ONE, Request(0), Request(1, runs_alone=True), Request(2))

    assert [take(queue, BOTH, 8)[1] for _ in range(3)] == [[each] for each in requests]


def test_what_is_put_back_goes_first_in_its_old_order(queue):
    requests = put(queue, ONE, *(Request(number) for number in range(4)))
    _, taken = take(queue, BOTH, 2)

    queue.put_back(ONE, taken)

    assert take(queue, BOTH, 8) == (ONE, requests)


def test_what_waited_too_long_is_given_up(queue):
    old, young = put(queue, ONE, Request(1), Request(5))

    assert queue.expire(3) == [old]
    assert take(queue, BOTH, 8) == (ONE, [young])


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ([], "nothing waiting"),
        ([Request(1, num_rows=8)], "full"),
        ([Request(1, form=(4,))], "other form"),
        ([Request(1, runs_alone=True)], "runs alone"),
    ],
)
def test_a_batch_says_why_it_is_no_larger(queue, after, reason):
    put(queue, ONE, Request(0), *after)

    assert queue.take(BOTH, at_most(8), 0.0).ended_by == reason


def test_higher_levels_go_first_and_lower_ones_fill_the_room_that_is_left(queue):
    low, middle, high = put(queue, ONE, Request(0.0, level=5), Request(0.1, level=3), Request(0.2, level=1))

    assert take(queue, BOTH, 2) == (ONE, [high, middle])
    assert take(queue, BOTH, 2) == (ONE, [low])


def test_the_level_decides_over_versions_too(queue):
    put(queue, ONE, Request(0.0))
    urgent = put(queue, TWO, Request(0.5, level=1))

    assert take(queue, BOTH, 8) == (TWO, urgent)


def test_a_request_goes_before_all_of_the_next_level_that_come_a_second_after_it(queue):
    waiting, before, after = put(
        queue, ONE, Request(0.0, level=2), Request(AGEING_S - 0.1, level=1), Request(AGEING_S + 0.1, level=1)
    )

    assert [take(queue, BOTH, 1)[1] for _ in range(3)] == [[before], [waiting], [after]]


def test_what_is_put_back_goes_to_the_head_of_its_level(queue):
    low, high = put(queue, ONE, Request(0.0, level=5), Request(0.1, level=1))
    _, taken = take(queue, BOTH, 8)
    later_low, later_high = put(queue, ONE, Request(0.2, level=5), Request(0.3, level=1))

    queue.put_back(ONE, taken)

    assert take(queue, BOTH, 8)[1] == [high, later_high, low, later_low]


def test_what_is_late_is_dropped_before_it_is_run(queue):
    late, good, also_late = put(
        queue, ONE, Request(0, deadline_s=5), Request(1, deadline_s=7), Request(2, deadline_s=6)
    )

    taken = queue.take(BOTH, at_most(8), 6.0)

    assert (taken.requests, taken.late) == ([good], [late, also_late])
    assert queue.num_requests == queue.num_rows == 0


def test_a_look_finds_what_is_late_wherever_it_stands(queue):
    assert queue.next_deadline_s() == math.inf
    _, late, _ = put(queue, ONE, Request(0), Request(1, deadline_s=5), Request(2, deadline_s=9))
    (other,) = put(queue, TWO, Request(3, deadline_s=4))
    assert queue.next_deadline_s() == 4

    assert queue.drop_late(6.0) == [late, other]
    assert (queue.num_requests, queue.next_deadline_s()) == (2, 9)


def test_admission_sees_the_rows_that_would_go_first(queue):
    put(queue, ONE, Request(9.9, level=1, num_rows=1), Request(9.9, level=3, num_rows=10))
    put(queue, TWO, Request(7.0, level=5, num_rows=100), Request(9.9, level=5, num_rows=1000))

    ahead = {level: sum(rows for _, rows in queue.rows_ahead(level, 10.0)) for level in range(1, 6)}

    # The 100 rows came two levels' worth of seconds ago: level 3 and below let them go first.
    assert ahead == {1: 1, 2: 1, 3: 111, 4: 111, 5: 1111}


LEVELS = st.integers(1, 5)


@given(st.lists(st.tuples(st.floats(0, 9), LEVELS, st.sampled_from([ONE, TWO])), min_size=1, max_size=40))
def test_one_by_one_everything_goes_by_level_and_age_and_in_order_within_a_level(arrivals):
    queue: BatchQueue = BatchQueue()
    requests = []
    for arrived_s, level, key in sorted(arrivals, key=lambda each: each[0]):
        requests.append((key, *put(queue, key, Request(arrived_s, level=level))))

    order = []
    while (taken := take(queue, BOTH, 1)) is not None:
        order += taken[1]

    assert len(order) == len(requests)
    turns = [each.arrived_s + each.level * AGEING_S for each in order]
    assert turns == sorted(turns)
    for key in BOTH:
        for level in range(1, 6):
            came = [each for of, each in requests if of == key and each.level == level]
            assert [each for each in order if each in came] == came


@given(LEVELS, st.integers(1, 4), st.lists(LEVELS, min_size=60, max_size=60))
def test_nothing_starves_however_much_comes_above_it(level, num_before, stream):
    """Ten requests a second come, and ten leave: the queue never gets shorter, and what waits still gets its turn."""
    queue: BatchQueue = BatchQueue()
    put(queue, ONE, *(Request(-0.1, level=1) for _ in range(num_before)))
    (waiting,) = put(queue, ONE, Request(0.0, level=level))

    for step, above in enumerate(stream):
        now_s = step / 10
        put(queue, ONE, Request(now_s, level=min(above, level)))
        if waiting in take(queue, BOTH, 1)[1]:
            break
    else:
        pytest.fail("it never got its turn")

    # One second for each level above, and what was there before it.
    assert now_s <= (level - 1) * AGEING_S + num_before / 10 + 0.2


@given(st.lists(st.tuples(st.sampled_from(["put", "take", "back", "expire"]), st.integers(1, 5)), max_size=40))
def test_the_counts_are_always_those_of_what_waits(steps):
    queue: BatchQueue = BatchQueue()
    waiting, taken = [], None

    for moment, (step, number) in enumerate(steps):
        if step == "put":
            waiting += put(queue, ONE, Request(moment, num_rows=number, level=number))
        elif step == "take":
            taken = take(queue, BOTH, number)
            waiting = [each for each in waiting if taken is None or each not in taken[1]]
        elif step == "back" and taken is not None:
            queue.put_back(*taken)
            waiting, taken = taken[1] + waiting, None
        elif step == "expire":
            late = queue.expire(moment - number)
            waiting = [each for each in waiting if each not in late]

        assert queue.num_requests == len(waiting)
        assert queue.num_rows == sum(each.num_rows for each in waiting) == sum(rows for _, rows in queue.rows_by_key())
