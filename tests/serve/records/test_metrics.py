from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from shoal.serve.links.channel import Key
from shoal.serve.records.metrics import CacheState, Gauges, Histogram, Metrics, VersionCounts, explain, render

ONE = Key("fashion", "1")
GAUGES = Gauges(queued_rows=3, open_requests=5, replicas=2, is_ready=True, shares={ONE: 0.8, Key("fashion", "2"): 0.2})


def samples(metrics, gauges=GAUGES):
    text = render(metrics, gauges).decode()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_prometheus_server_can_read_what_was_counted():
    metrics = Metrics()
    metrics.answers[200] = 7
    metrics.of(ONE).rows = 12
    metrics.of(ONE).batch_rows.observe(4)

    found = samples(metrics)

    assert found["shoal_requests_total", "200"] == 7
    assert found["shoal_rows_total", "fashion", "1"] == 12
    assert found["shoal_batch_rows_count", "fashion", "1"] == 1
    assert found["shoal_batch_rows_sum", "fashion", "1"] == 4


def test_gauges_tell_what_is_true_now():
    found = samples(Metrics())

    assert found["shoal_queued_rows",] == 3
    assert found["shoal_ready",] == 1
    assert found["shoal_share", "fashion", "2"] == 0.2


def test_a_value_on_a_bound_counts_below_it():
    histogram = Histogram((1.0, 2.0))

    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)

    assert histogram.buckets() == [("1.0", 2), ("2.0", 3), ("+Inf", 4)]


def test_labels_with_quotes_do_not_break_the_text():
    metrics = Metrics()
    metrics.of(Key('a"b\n', "1")).rows = 1

    assert samples(metrics)["shoal_rows_total", 'a"b\n', "1"] == 1


def test_the_cache_is_counted_where_there_is_one():
    metrics = Metrics()
    metrics.of(ONE).cache_hits, metrics.of(ONE).cache_misses = 3, 1
    state = CacheState(entries=2, bytes=900, most_bytes=4096, evicted=5)

    found = samples(metrics, replace(GAUGES, cache=state))

    assert found["shoal_cache_hits_total", "fashion", "1"] == 3
    assert found["shoal_cache_misses_total", "fashion", "1"] == 1
    assert (found["shoal_cache_entries",], found["shoal_cache_bytes",], found["shoal_cache_evicted_total",]) == (
        2,
        900,
        5,
    )
    assert not any("cache_bytes" in name for name, *_ in samples(metrics))


def test_why_batches_are_no_larger_is_counted_by_reason():
    metrics = Metrics()
    metrics.of(ONE).ended_by.update({"nothing waiting": 3, "latency target": 1})

    assert samples(metrics)["shoal_batches_total", "latency target", "fashion", "1"] == 1


def test_means_and_quantiles_are_those_of_what_was_counted():
    histogram = Histogram((1.0, 2.0, 4.0))
    assert (histogram.count, histogram.mean, histogram.quantile(0.99)) == (0, 0, 0)

    for value in (0.5, 0.5, 1.5, 3.5):
        histogram.observe(value)

    assert (histogram.count, histogram.mean) == (4, 1.5)
    assert [histogram.quantile(part) for part in (0.5, 0.75, 1.0)] == [1.0, 2.0, 4.0]
    histogram.observe(9)
    assert histogram.quantile(1.0) == float("inf")


def test_the_explanation_is_per_request_and_in_milliseconds():
    counts = VersionCounts()
    for seconds in (0.002, 0.004):
        counts.request_seconds.observe(seconds)
        counts.queue_seconds.observe(seconds / 2)
    counts.batch_rows.observe(2)
    counts.batch_seconds.observe(0.001)
    counts.reading_seconds, counts.writing_seconds = 0.0006, 0.0002

    found = explain(counts)

    assert found["time_ms"] == {
        "reading": 0.3,
        "queue": 1.5,
        "queue_p99_at_most": 2.5,
        "model": 1.0,
        "writing": 0.1,
        "whole": 3.0,
    }
    assert found["batches"]["mean_rows"] == 2
    assert found["cache"]["hit_rate"] is None


def test_a_wait_beyond_every_bound_has_no_number():
    counts = VersionCounts()
    counts.queue_seconds.observe(1e6)

    assert explain(counts)["time_ms"]["queue_p99_at_most"] is None
