from prometheus_client.parser import text_string_to_metric_families

from shoal.serve.metrics import Gauges, Histogram, Metrics, render
from shoal.serve.queue import Key

ONE = Key("fashion", "1")
GAUGES = Gauges(queued_rows=3, open_requests=5, replicas=2, is_ready=True, shares={ONE: 0.8, Key("fashion", "2"): 0.2})


def samples(metrics):
    text = render(metrics, GAUGES).decode()
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
