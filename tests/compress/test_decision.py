import pytest

from shoal.compress.decision import Measured, decide


def measured(name="a", accuracy=0.9, after_ms=0.5):
    return Measured(name=name, accuracy_before=0.9, accuracy=accuracy, before_ms=1.0, after_ms=after_ms)


def test_keeps_what_is_faster_and_as_accurate():
    found = decide([measured()], max_loss=0.005, min_speedup=1.0)

    assert found.kept
    assert "2.00 times" in found.reason


def test_the_fastest_of_the_accurate_ones_is_kept():
    variants = [
        measured("exact", 0.9, 0.8),
        measured("fast", 0.896, 0.6),
        measured("careless", 0.8, 0.1),
    ]

    found = decide(variants, max_loss=0.005, min_speedup=1.0)

    assert found.kept
    assert found.best.name == "fast"


def test_float_stays_where_accuracy_falls_and_the_reason_says_so():
    found = decide([measured(accuracy=0.85), measured("b", accuracy=0.88)], max_loss=0.005, min_speedup=1.0)

    assert not found.kept
    assert found.best.name == "b"
    assert "loses 2.00 points" in found.reason


@pytest.mark.parametrize("after_ms", [1.0, 1.2])
def test_float_stays_where_int8_is_not_faster_and_the_reason_says_so(after_ms):
    found = decide([measured(after_ms=after_ms)], max_loss=0.005, min_speedup=1.0)

    assert not found.kept
    assert "does not pay on this machine" in found.reason


def test_the_asked_for_speedup_counts():
    assert not decide([measured(after_ms=0.6)], max_loss=0.005, min_speedup=2.0).kept


@pytest.mark.parametrize(("accuracy", "kept"), [(0.895, True), (0.8949, False), (0.95, True)])
def test_a_loss_up_to_the_limit_is_accepted(accuracy, kept):
    assert decide([measured(accuracy=accuracy)], max_loss=0.005, min_speedup=1.0).kept is kept
