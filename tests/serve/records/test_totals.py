import dataclasses
import os
import pickle
from types import SimpleNamespace

import pytest

from shoal.serve.links.channel import Key
from shoal.serve.records.metrics import CacheState, Gauges, Metrics
from shoal.serve.records.totals import Snapshot, Totals, add_gauges, add_metrics, add_status

KEY, OTHER = Key("m", "1"), Key("m", "2")


def counted(rows, key=KEY):
    metrics = Metrics()
    metrics.answers[200] = rows
    counts = metrics.of(key)
    counts.rows = rows
    counts.ended_by["full"] = rows
    for _ in range(rows):
        counts.batch_rows.observe(2)
    return metrics


def gauges(**changes):
    known = {"queued_rows": 1, "open_requests": 2, "replicas": 3, "is_ready": True, "shares": {KEY: 1.0}}
    return Gauges(**(known | changes))


@pytest.fixture
def fronts(tmp_path):
    fronts = [Totals(tmp_path, rank, 2) for rank in (0, 1)]
    yield fronts
    for front in fronts:
        front.close()


def test_counters_of_all_fronts_add_up():
    total = add_metrics([counted(3), counted(4), counted(5, OTHER)])

    assert total.answers == {200: 12}
    assert {key: counts.rows for key, counts in total.by_version.items()} == {KEY: 7, OTHER: 5}
    assert total.of(KEY).batch_rows.counts[1] == 7
    assert total.of(KEY).batch_rows.sum == 14
    assert total.of(KEY).ended_by == {"full": 7}


def test_adding_leaves_the_parts_alone():
    parts = [counted(3), counted(4)]

    add_metrics(parts)

    assert [part.of(KEY).batch_rows.sum for part in parts] == [6, 8]


def test_every_number_that_is_counted_is_added():
    one = Metrics(**{field.name: 1 for field in dataclasses.fields(Metrics) if field.type in (int, "int")})

    total = add_metrics([one, one])

    names = [field.name for field in dataclasses.fields(Metrics) if field.type in (int, "int")]
    assert {name: getattr(total, name) for name in names} == dict.fromkeys(names, 2) | {"replica_deaths": 1}


def test_what_fronts_share_is_not_counted_twice():
    cache = CacheState(entries=1, bytes=10, most_bytes=100, evicted=0)
    total = add_gauges([gauges(cache=cache), gauges(replicas=2, is_ready=False, cache=cache)])

    assert (total.queued_rows, total.open_requests, total.replicas, total.is_ready) == (2, 4, 3, False)
    assert (total.cache.entries, total.cache.most_bytes) == (2, 200)


def test_a_front_sees_what_the_other_has_published(fronts):
    fronts[0].publish(counted(3), gauges(), {"ready": True})

    (seen,) = fronts[1].others()

    assert (seen.rank, seen.pid, seen.metrics.of(KEY).rows, seen.is_fresh) == (0, os.getpid(), 3, True)
    assert fronts[0].others() == []


def test_shorter_numbers_after_longer_ones_are_read_whole(fronts):
    fronts[0].publish(counted(3), gauges(), {"text": "x" * 1000})
    fronts[0].publish(counted(4), gauges(), {})

    assert fronts[1].others()[0].metrics.of(KEY).rows == 4


def test_a_front_that_is_started_again_goes_on_counting(fronts, tmp_path):
    fronts[0].publish(counted(3), gauges(), {})

    assert Totals(tmp_path, 0, 2).restore().of(KEY).rows == 3
    assert Totals(tmp_path, 1, 2).restore().by_version == {}


@pytest.mark.parametrize("damage", [b"", b"\1\0", b"\xff" * 40])
@pytest.mark.parametrize("half", [0, 1])
def test_a_front_killed_in_the_middle_of_a_write_loses_only_that_one(fronts, tmp_path, damage, half):
    for rows in (3, 4):
        fronts[0].publish(counted(rows), gauges(), {})
    (tmp_path / f"front-0-{half}.counts").write_bytes(damage)

    expected = 4 if half == 0 else 3
    assert fronts[1].others()[0].metrics.of(KEY).rows == expected
    assert Totals(tmp_path, 0, 2).restore().of(KEY).rows == expected


def test_what_a_dead_front_held_is_no_longer_true(fronts):
    old = Snapshot(0, 1, -100.0, counted(1), gauges(), {})

    assert not old.is_fresh
    assert pickle.loads(pickle.dumps(old)) is not None


def test_status_joins_replicas_queues_and_fronts():
    def status(rows, running, *, ready=True):
        return {
            "ready": ready,
            "queue": {"rows": rows, "predicted_wait_ms": float(rows)},
            "replicas": [{"rank": 0, "pid": 7, "loaded": ["m@1"], "running_rows": running}],
            "problems": [SimpleNamespace(model="m", version="2")],
            "logs": [{"folder": str(rows)}],
            "connections": rows,
            "models": {"m": {"versions": {"1": {"replicas": 1, "requests": 0}}}},
        }

    both = [Snapshot(rank, 10 + rank, 0.0, counted(3), gauges(), status(rank + 1, rank)) for rank in (0, 1)]
    for each in both:
        each.metrics.of(KEY).request_seconds.observe(0.5)

    found = add_status(both[0].status, both)

    assert found["queue"] == {"rows": 3, "predicted_wait_ms": 2.0}
    assert found["replicas"] == [{"rank": 0, "pid": 7, "loaded": ["m@1"], "running_rows": 1}]
    assert (len(found["problems"]), len(found["logs"])) == (1, 2)
    assert [(front["pid"], front["connections"]) for front in found["fronts"]] == [(10, 1), (11, 2)]
    version = found["models"]["m"]["versions"]["1"]
    assert (version["replicas"], version["requests"], version["time_ms"]["whole"]) == (1, 2, 500.0)
    assert both[0].status["replicas"][0]["running_rows"] == 0
