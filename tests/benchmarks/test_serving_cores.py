"""The paper about more cores: which process is full first."""

import pytest
from serving_cores import NUM_CORES, ceilings, connection_line, costs, first_full, paper

FOUND = {
    "rate_per_s": 1_000.0,
    "cores": {
        "front": 0.05,
        "front kernel": 0.02,
        "replica": 0.2,
        "supervisor": 0.0,
        "interrupts": 0.0,
        "wrk": 0.02,
        "wrk kernel": 0.01,
    },
}


def test_costs_are_for_one_request() -> None:
    spent = costs(FOUND, 2e-4)

    assert (spent.front, spent.replica, spent.load) == pytest.approx((5e-5, 2e-4, 2e-5))


def test_one_front_is_full_before_many_replicas() -> None:
    assert first_full(costs(FOUND, 2e-4), 1, 15) == ("fronts", pytest.approx(20_000))


def test_few_replicas_are_full_before_many_fronts() -> None:
    assert first_full(costs(FOUND, 2e-4), 8, 8) == ("replicas", pytest.approx(40_000))


def test_no_split_gets_more_than_all_cores_give() -> None:
    spent = costs(FOUND, 2e-4)

    best = max(first_full(spent, n, NUM_CORES - n)[1] for n in range(1, NUM_CORES))

    assert best <= ceilings(spent, 1, 1)["cores"] == pytest.approx(64_000)


def test_paper_marks_the_best_split() -> None:
    lines = paper("c128 json", costs(FOUND, 2e-4), 3_000.0, 5e6, 24.0)

    marked = [line.split() for line in lines if "<-" in line]
    assert [each[:2] for each in marked] == [["3", "13"]]


def test_connections_of_their_own_cost_the_difference() -> None:
    closed = {"rate_per_s": 500.0, "cores": {**FOUND["cores"], "front": 0.05}}

    assert "front +50.0" in connection_line(FOUND, closed)
