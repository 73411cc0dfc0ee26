import pytest

from shoal.serve.links.channel import Key
from shoal.serve.links.messages import ModelPlan
from shoal.serve.versions.rollout import View, decide

ONE, TWO = Key("m", "1"), Key("m", "2")
FIRST = ModelPlan({"1": "/1"}, {"1": 1.0})
SECOND = ModelPlan({"2": "/2"}, {"2": 1.0})
CANARY = ModelPlan({"1": "/1", "2": "/2"}, {"1": 0.8, "2": 0.2})


def view(planned, shares, loaded, *, asked=None, busy=()):
    plan = {} if planned is None else {"m": planned}
    current = {} if shares is None else {"m": shares}
    return View(
        plan=plan, shares=current, loaded=loaded, asked=asked or {replica: set() for replica in loaded}, busy=set(busy)
    )


def test_a_new_replica_is_asked_to_load_what_is_planned():
    steps = decide(view(FIRST, None, {7: set()}))

    assert steps.loads == [(7, ONE)]
    assert steps.switches == {}


def test_nobody_is_asked_twice():
    assert decide(view(FIRST, None, {7: set()}, asked={7: {ONE}})).loads == []


def test_the_first_replica_that_is_ready_opens_the_service():
    assert decide(view(FIRST, None, {7: {ONE}, 8: set()})).switches == {"m": {"1": 1.0}}


def test_a_swap_waits_until_every_serving_replica_has_the_new_version():
    early = decide(view(SECOND, {"1": 1.0}, {7: {ONE, TWO}, 8: {ONE}}))
    late = decide(view(SECOND, {"1": 1.0}, {7: {ONE, TWO}, 8: {ONE, TWO}}))

    assert early.switches == {}
    assert early.loads == [(8, TWO)]
    assert early.unloads == []
    assert late.switches == {"m": {"2": 1.0}}
    assert late.unloads == [(7, ONE), (8, ONE)]


def test_a_replica_that_has_just_restarted_holds_up_no_swap():
    steps = decide(view(SECOND, {"1": 1.0}, {7: {ONE, TWO}, 8: set()}))

    assert steps.switches == {"m": {"2": 1.0}}
    assert steps.loads == [(8, TWO)]


def test_an_old_version_stays_loaded_while_requests_wait_for_it():
    steps = decide(view(SECOND, {"2": 1.0}, {7: {ONE, TWO}}, busy=[ONE]))

    assert steps.unloads == []


def test_a_canary_is_loaded_beside_and_then_gets_its_share():
    before = decide(view(CANARY, {"1": 1.0}, {7: {ONE}}))
    after = decide(view(CANARY, {"1": 1.0}, {7: {ONE, TWO}}))

    assert (before.switches, before.loads) == ({}, [(7, TWO)])
    assert (after.switches, after.unloads) == ({"m": {"1": 0.8, "2": 0.2}}, [])


def test_a_rollback_before_the_swap_happened_lets_the_new_version_go():
    steps = decide(view(FIRST, {"1": 1.0}, {7: {ONE, TWO}}))

    assert (steps.switches, steps.unloads) == ({}, [(7, TWO)])


def test_a_model_that_is_no_longer_planned_is_let_go():
    steps = decide(view(None, {"1": 1.0}, {7: {ONE}}))

    assert (steps.switches, steps.unloads) == ({"m": {}}, [(7, ONE)])


@pytest.mark.parametrize("planned", [FIRST, SECOND, CANARY])
def test_taking_the_steps_leads_to_the_plan_and_then_to_rest(planned):
    shares, loaded = {"1": 1.0}, {7: {ONE}, 8: set()}

    for _ in range(6):
        steps = decide(view(planned, shares, loaded))
        shares = steps.switches.get("m", shares)
        for replica, key in steps.loads:
            loaded[replica].add(key)
        for replica, key in steps.unloads:
            loaded[replica].remove(key)

    assert shares == planned.shares
    assert all(have == {Key("m", version) for version in planned.versions} for have in loaded.values())
    assert (steps.switches, steps.loads, steps.unloads) == ({}, [], [])


def test_a_version_that_requests_wait_for_is_loaded_again_by_a_restarted_replica():
    steps = decide(view(SECOND, {"2": 1.0}, {7: {TWO}}, busy=[ONE]))

    assert steps.loads == [(7, ONE)]


def test_another_main_version_with_the_same_shares_is_a_switch():
    planned = ModelPlan({"1": "/1", "2": "/2"}, {"2": 0.5, "1": 0.5})

    steps = decide(view(planned, {"1": 0.5, "2": 0.5}, {7: {ONE, TWO}}))

    assert list(steps.switches["m"]) == ["2", "1"]
