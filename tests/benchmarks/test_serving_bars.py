"""From what was found in each round to the bars."""

import pytest
from serving_bars import NEVER_MS, at_point, compared, contenders, of_limit, worst
from serving_kinds import KINDS, SHOAL

FAST, NEAR, FAR = list(KINDS)[1:4]


def _rounds(*rates: float, p99_ms: float = 10.0) -> dict[int, dict]:
    return {at: {"rate_per_s": rate, "p99_ms": p99_ms} for at, rate in enumerate(rates)}


def test_the_best_peer_counts_and_only_within_a_round() -> None:
    taken = {SHOAL.name: _rounds(200, 100, 300), FAST: _rounds(100, 50, 100), FAR: _rounds(60)}

    (found,) = compared("json_c32", taken, 1.6)

    assert (found["value"], found["unit"], found["holds"]) == (2.0, f"times {FAST}", True)
    assert found["peers"][f"{FAR} rate_per_s"] == 60  # it was measured once, and is told of


def test_p99_is_beside_that_of_the_same_peer() -> None:
    taken = {SHOAL.name: _rounds(200, p99_ms=12.0), FAST: _rounds(100, p99_ms=10.0)}

    _, found = compared("json_c32", taken, 1.6, compare_p99=True)

    assert (found["value"], found["holds"]) == (1.2, False)


def test_failed_requests_are_told() -> None:
    taken = {SHOAL.name: _rounds(200), FAST: {0: {"rate_per_s": 100.0, "p99_ms": 1.0, "failed": 7}}}

    (found,) = compared("json_c32", taken, 1.6)

    assert found["peers"][f"{FAST} failed"] == 7


def test_who_is_far_behind_everywhere_leaves_the_contest() -> None:
    first = {SHOAL.name: _rounds(300), FAST: _rounds(100), NEAR: _rounds(50), FAR: _rounds(50)}
    second = {SHOAL.name: _rounds(300), FAST: _rounds(100), NEAR: _rounds(90)}

    kept = contenders(list(KINDS.values()), [first, second])

    assert [kind.name for kind in kept] == [SHOAL.name, FAST, NEAR]


def test_a_point_has_those_that_were_asked() -> None:
    taken = {SHOAL.name: {0: {"c1 json": {"rate_per_s": 1.0}}}, FAST: {0: {}}}

    assert at_point(taken, "c1 json") == {SHOAL.name: {0: {"rate_per_s": 1.0}}}


def test_limit_is_what_the_model_does_on_the_cores_that_wrk_leaves() -> None:
    ours = {0: {"rate_per_s": 6_800.0, "cores": {"wrk": 0.4}, "rows": 16.2}}
    row_ms = {0: {1: 0.5, 16: 0.25, 32: 0.2}}

    found = of_limit("json_c128", ours, row_ms, 2)

    assert found["peers"]["limit rate_per_s"] == pytest.approx(8_000)
    assert found["value"] == pytest.approx(0.85)
    assert found["peers"]["share in the batches used"] == pytest.approx(6_800 / 6_400, abs=1e-4)


def test_what_never_came_is_worse_than_anything() -> None:
    assert worst([{"p99_ms": 3.0}, {"p99_ms": None}], "p99_ms") == NEVER_MS
