from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.serve.queue import BatchQueue, Key

ONE, TWO = Key("fashion", "1"), Key("fashion", "2")
BOTH = {ONE, TWO}


@dataclass(eq=False)
class Request:
    arrived_s: float
    num_rows: int = 1
    form: object = None
    runs_alone: bool = False


@pytest.fixture
def queue():
    return BatchQueue()


def put(queue, key, *requests):
    for request in requests:
        queue.put(key, request)
    return list(requests)


def at_most(rows):
    return lambda _: rows


def test_an_idle_replica_takes_all_that_waits_up_to_the_cap(queue):
    requests = put(queue, ONE, *(Request(number) for number in range(5)))

    assert queue.take(BOTH, at_most(3)) == (ONE, requests[:3])
    assert queue.take(BOTH, at_most(3)) == (ONE, requests[3:])
    assert queue.take(BOTH, at_most(3)) is None


def test_a_request_larger_than_the_cap_goes_alone(queue):
    large, small = put(queue, ONE, Request(0, num_rows=50), Request(1))

    assert queue.take(BOTH, at_most(8)) == (ONE, [large])
    assert queue.take(BOTH, at_most(8)) == (ONE, [small])


def test_requests_of_two_versions_do_not_share_a_batch_and_the_oldest_goes_first(queue):
    later = put(queue, ONE, Request(2), Request(3))
    first = put(queue, TWO, Request(1))

    assert queue.take(BOTH, at_most(8)) == (TWO, first)
    assert queue.take(BOTH, at_most(8)) == (ONE, later)


def test_a_replica_gets_only_what_it_has_loaded(queue):
    put(queue, ONE, Request(0))
    second = put(queue, TWO, Request(1))

    assert queue.take({TWO}, at_most(8)) == (TWO, second)
    assert queue.take({TWO}, at_most(8)) is None
    assert ONE in queue


def test_requests_of_other_form_wait_for_their_own_batch(queue):
    requests = put(queue, ONE, Request(0, form=(3,)), Request(1, form=(4,)), Request(2, form=(3,)))

    assert queue.take(BOTH, at_most(8)) == (ONE, requests[:1])


def test_a_suspect_runs_alone(queue):
    requests = put(queue, ONE, Request(0), Request(1, runs_alone=True), Request(2))

    assert [queue.take(BOTH, at_most(8))[1] for _ in range(3)] == [[each] for each in requests]


def test_what_is_put_back_goes_first_in_its_old_order(queue):
    requests = put(queue, ONE, *(Request(number) for number in range(4)))
    _, taken = queue.take(BOTH, at_most(2))

    queue.put_back(ONE, taken)

    assert queue.take(BOTH, at_most(8)) == (ONE, requests)


def test_what_waited_too_long_is_given_up(queue):
    old, young = put(queue, ONE, Request(1), Request(5))

    assert queue.expire(3) == [old]
    assert queue.take(BOTH, at_most(8)) == (ONE, [young])


@given(st.lists(st.tuples(st.sampled_from(["put", "take", "back", "expire"]), st.integers(1, 5)), max_size=40))
def test_the_counts_are_always_those_of_what_waits(steps):
    queue: BatchQueue = BatchQueue()
    waiting, taken = [], None

    for moment, (step, number) in enumerate(steps):
        if step == "put":
            waiting += put(queue, ONE, Request(moment, num_rows=number))
        elif step == "take":
            taken = queue.take(BOTH, at_most(number))
            waiting = [each for each in waiting if taken is None or each not in taken[1]]
        elif step == "back" and taken is not None:
            queue.put_back(*taken)
            waiting, taken = taken[1] + waiting, None
        elif step == "expire":
            late = queue.expire(moment - number)
            waiting = [each for each in waiting if each not in late]

        assert queue.num_requests == len(waiting)
        assert queue.num_rows == sum(each.num_rows for each in waiting) == sum(rows for _, rows in queue.rows_by_key())
