import math

import pytest

from shoal.serve.batching.liveness import Deadlines, Signs, decide
from shoal.serve.links.channel import Key

ONE, TWO = Key("m", "1"), Key("m", "2")
DEADLINES = Deadlines(load_s=60.0, answer_s=10.0, quiet_s=5.0)


def signs(number=1, **changes):
    known = {"is_running": False, "loaded": {ONE}, "loading": None, "loading_since_s": math.inf, "heard_s": 100.0}
    return Signs(number=number, **(known | changes))


def loading(number=1, since_s=0.0, **changes):
    return signs(number, **({"loading": TWO, "loading_since_s": since_s} | changes))


def test_a_replica_that_spoke_just_now_is_left_alone():
    verdict = decide([signs()], 104.0, DEADLINES)

    assert (verdict.pings, verdict.hung, verdict.endless) == ([], [], [])


def test_a_quiet_replica_is_asked_for_a_sign_of_life():
    assert decide([signs()], 106.0, DEADLINES).pings == [1]


@pytest.mark.parametrize(
    ("changes", "hung"), [({}, [1]), ({"is_running": True}, []), ({"heard_s": 106.5}, []), ({"pinged_s": 110.0}, [])]
)
def test_a_replica_that_does_not_answer_a_ping_hangs(changes, hung):
    assert decide([signs(**({"pinged_s": 106.0} | changes))], 117.0, DEADLINES).hung == hung


@pytest.mark.parametrize(("now_s", "hung"), [(159.0, []), (161.0, [1])])
def test_a_silent_replica_that_loads_has_until_the_loads_deadline(now_s, hung):
    assert decide([loading(since_s=100.0, pinged_s=106.0)], now_s, DEADLINES).hung == hung


def test_a_late_load_is_first_asked_about():
    verdict = decide([loading(since_s=40.0)], 100.5, DEADLINES)

    assert (verdict.pings, verdict.endless) == ([1], [])


def test_a_load_that_is_late_in_a_process_that_answers_is_endless():
    assert decide([loading(since_s=39.0)], 100.5, DEADLINES).endless == [(1, TWO)]


def test_a_stuck_replica_without_traffic_is_replaced_at_once():
    assert decide([loading(since_s=39.0, loaded=set())], 100.5, DEADLINES).replaced == [1]


def test_stuck_replicas_that_serve_are_replaced_one_at_a_time():
    both = [loading(number, since_s=39.0) for number in (1, 2)]

    assert decide(both, 100.5, DEADLINES).replaced == [1]


def test_the_only_replica_that_serves_goes_on_for_a_while():
    alone = [loading(since_s=39.0), signs(2, loaded=set())]

    assert decide(alone, 100.5, DEADLINES).replaced == []
    assert decide(alone, 160.0, DEADLINES).replaced == [1]
