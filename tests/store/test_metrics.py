from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from shoal.base import InputError
from shoal.store import MetricPoint

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
POINTS = strategies.builds(
    MetricPoint,
    name=strategies.sampled_from(["loss", "accuracy", "naïve 'name'; --"]),
    value=strategies.floats(allow_nan=False),
    step=strategies.integers(-(2**63), 2**63 - 1) | strategies.integers(0, 5),
    time=strategies.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=strategies.just(UTC)),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(strategies.lists(strategies.lists(POINTS, max_size=12), max_size=4))
def test_curves_hold_the_last_point_of_every_step_in_order(store, batches):
    run = store.runs.start(kind="train", name="n", config={})
    expected = {}
    for batch in batches:
        store.metrics.record(run.id, batch)
        expected |= {(point.name, point.step): point for point in batch}

    curves = {name: store.metrics.curve(run.id, name) for name in store.metrics.names(run.id)}

    in_order = [expected[key] for key in sorted(expected)]
    assert curves == {name: [point for point in in_order if point.name == name] for name in {p.name for p in in_order}}
    assert store.metrics.latest(run.id) == {name: curve[-1].value for name, curve in curves.items()}


def test_long_record_is_one_transaction(store):
    """More rows than go into one statement; the last of them is bad."""
    run = store.runs.start(kind="train", name="n", config={})
    good = [MetricPoint("loss", 0.0, step, NOON) for step in range(20_001)]

    with pytest.raises(InputError, match="no zone"):
        store.metrics.record(run.id, [*good, MetricPoint("loss", 0.0, 20_001, NOON.replace(tzinfo=None))])
    after_failure = store.metrics.names(run.id)
    store.metrics.record(run.id, iter(good))

    assert after_failure == []
    assert len(store.metrics.curve(run.id, "loss")) == 20_001


def test_runs_do_not_share_curves(store):
    first, second = (store.runs.start(kind="train", name="n", config={}) for _ in range(2))

    store.metrics.record(first.id, [MetricPoint("loss", 1.0, 0, NOON)])
    store.metrics.record(second.id, [MetricPoint("loss", 2.0, 0, NOON)])

    assert [store.metrics.latest(run.id) for run in (first, second)] == [{"loss": 1.0}, {"loss": 2.0}]
