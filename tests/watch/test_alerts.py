import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import ConfigError
from shoal.watch import Action, AlertPolicy, AlertState, ColumnDrift, DriftReport, decide


def report(strength: float) -> DriftReport:
    drift = ColumnDrift(column="x", measure="ks", distance=strength / 10, threshold=0.1)
    return DriftReport(rows_reference=1, rows_live=1, columns=(drift,))


def replay(strengths: list[float], policy: AlertPolicy | None = None) -> list[tuple[Action, ...]]:
    state, story = AlertState(), []
    for strength in strengths:
        state, actions = decide(state, report(strength), policy)
        story.append(actions)
    return story


def test_one_drifted_window_is_not_an_alert():
    assert replay([0.5, 1.5, 0.5, 1.5, 0.5]) == [()] * 5


def test_two_in_a_row_raise_it_once():
    assert replay([1.5, 1.5, 1.5, 5.0]) == [(), ("raise",), (), ()]


def test_one_sudden_window_raises_it_at_once():
    assert replay([2.1]) == [("raise",)]


def test_clears_after_as_many_clean_windows():
    assert replay([3.0, 0.5, 1.5, 0.5, 0.5, 0.5]) == [("raise",), (), (), (), ("clear",), ()]


def test_can_be_raised_again():
    assert replay([3.0, 0.1, 0.1, 3.0])[-1] == ("raise",)


def test_patience_is_a_setting():
    assert replay([1.5] * 3, AlertPolicy(patience=3)) == [(), (), ("raise",)]


@pytest.mark.parametrize("bad", [{"patience": 0}, {"sudden": 0.5}])
def test_senseless_policy_is_refused(bad: dict[str, float]):
    with pytest.raises(ConfigError, match=">= 1"):
        AlertPolicy(**bad)


@given(st.lists(st.floats(0, 4)))
def test_raise_and_clear_take_turns(strengths: list[float]):
    told = [action for actions in replay(strengths) for action in actions]

    assert told == ["raise", "clear"] * (len(told) // 2) + ["raise"] * (len(told) % 2)
