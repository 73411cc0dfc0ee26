import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shoal.serve.batching.admission import AdmissionLimits
from shoal.serve.desk.shared_desk import SharedDesk
from shoal.serve.links.messages import Problem
from shoal.serve.records.totals import Totals
from shoal.serve.wire.auth import KeyCheck


@pytest.fixture
def desks(build_house, tmp_path):
    """Two fronts of one server, without their processes: what each counts, and its desk."""
    found = []
    for rank in (0, 1):
        house, totals = build_house(), Totals(tmp_path, rank, 2)
        house.desk = SharedDesk(
            house.models,
            house.dispatcher,
            house.journal,
            house.metrics,
            key=KeyCheck(None),
            limits=AdmissionLimits(),
            totals=totals,
            can_wake=rank == 1,
        )
        found.append((house, totals))
    yield [house for house, _ in found]
    for _, totals in found:
        totals.close()


def ask(house, path):
    exchange = house.ask(b"", path=path, method="GET")
    return exchange.answered.partition(b"\r\n\r\n")[2]


def test_any_front_tells_the_counts_of_all(desks):
    for rows, house in enumerate(desks, start=1):
        house.metrics.answers[200] = rows
        house.desk.publish()

    for house in desks:
        families = {family.name: family for family in text_string_to_metric_families(ask(house, "/metrics").decode())}
        assert [sample.value for sample in families["shoal_requests"].samples] == [3.0]


def test_any_front_tells_of_all_fronts(desks):
    for house in desks:
        house.link(7)
        house.desk.publish()

    found = json.loads(ask(desks[1], "/status"))

    assert [front["rank"] for front in found["fronts"]] == [0, 1]
    assert [replica["pid"] for replica in found["replicas"]] == [7]
    assert found["ready"]


def test_a_server_that_sleeps_is_ready_when_it_would_wake(desks):
    assert [house.desk.is_ready for house in desks] == [False, True]

    desks[1].desk.problems["m@1"] = Problem("m", "1", "broken", "mend it")

    assert not desks[1].desk.is_ready


def test_a_model_that_was_never_loaded_cannot_be_asked_in_a_sleeping_server(desks):
    desks[1].models.versions.clear()

    assert not desks[1].desk.is_ready


@pytest.mark.parametrize("path", ["/v2/models/stats", "/v2/models/m/stats", "/v2/models/m/versions/1/stats"])
def test_any_front_tells_the_statistics_of_all(desks, path):
    for rows, house in enumerate(desks, start=1):
        counts = house.metrics.of(house.served.key)
        counts.rows = rows
        counts.batch_rows.observe(rows)
        counts.request_seconds.observe(0.5)
        house.desk.publish()

    for house in desks:
        (found,) = json.loads(ask(house, path))["model_stats"]
        assert (found["inference_count"], found["execution_count"]) == (3, 2)
        assert found["inference_stats"]["success"] == {"count": 2, "ns": 1_000_000_000}
