import pytest

from shoal.base import InputError
from shoal.model import AtLeast, AtMost, Beats, NotWorse, gate


@pytest.mark.parametrize(
    ("condition", "passed"),
    [
        (AtLeast("accuracy", 0.9), True),
        (AtLeast("accuracy", 0.91), False),
        (AtMost("accuracy", 0.9), True),
        (AtMost("accuracy", 0.89), False),
        (Beats("accuracy", 0.85, margin=0.03), True),
        (Beats("accuracy", 0.88, margin=0.03), False),
        (Beats("accuracy", 0.9), False),
        (NotWorse("accuracy", 0.91, tolerance=0.02), True),
        (NotWorse("accuracy", 0.93, tolerance=0.02), False),
        (NotWorse("accuracy", 0.89, tolerance=0.0, lower_is_better=True), False),
        (NotWorse("accuracy", None), True),
    ],
)
def test_judges_one_metric(packaged, condition, passed):
    (result,) = gate(packaged, [condition]).results

    assert result.passed is passed
    assert result.metric == "accuracy"
    assert result.value == 0.9


def test_one_refusal_fails_the_report(packaged):
    report = gate(packaged, [AtLeast("accuracy", 0.5), AtLeast("accuracy", 0.95)])

    assert not report.passed
    assert [result.message for result in report.failures] == ["accuracy is 0.9, expected >= 0.95"]


@pytest.mark.parametrize("condition", [AtLeast("f1", 0.0), AtMost("f1", 1.0), Beats("f1", 0.0), NotWorse("f1", None)])
def test_a_missing_metric_never_passes(packaged, condition):
    report = gate(packaged, [condition])

    assert not report.passed
    assert report.results[0].value is None
    assert "f1 is not known, only accuracy" in report.results[0].message


@pytest.mark.parametrize("condition", [AtLeast("accuracy", 0.0), AtMost("accuracy", 1.0), NotWorse("accuracy", None)])
def test_nan_never_passes(packaged, condition):
    assert not gate(packaged, [condition], metrics={"accuracy": float("nan")}).passed


def test_given_metrics_win_over_those_of_the_package(packaged):
    assert not gate(packaged, [AtLeast("accuracy", 0.9)], metrics={"accuracy": 0.1}).passed


def test_latency_is_measured_when_a_gate_asks(packaged):
    assert gate(packaged, [AtMost("latency_p50_ms", 1e6)]).passed


def test_latency_that_was_given_is_not_measured_again(packaged):
    (result,) = gate(packaged, [AtMost("latency_p99_ms", 5)], metrics={"latency_p99_ms": 7}).results

    assert result.value == 7


def test_an_unknown_latency_never_passes(packaged):
    assert not gate(packaged, [AtMost("latency_p42_ms", 1e6)]).passed


def test_no_gates_are_no_judgement(packaged):
    with pytest.raises(InputError, match="no gates"):
        gate(packaged, [])


def test_the_report_is_bound_to_the_package(packaged):
    assert gate(packaged, [AtLeast("accuracy", 0)]).package_digest == packaged.digest
