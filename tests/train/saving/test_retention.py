import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.base import ConfigError
from shoal.train.saving.retention import Found, Retention

FOUND = st.lists(
    st.builds(Found, st.integers(0, 20).map(lambda step: f"{step:010d}"), st.floats(0, 1000), st.booleans()),
    unique_by=lambda found: found.name,
)


def found(*steps, age_s=0.0):
    return [Found(f"{step:010d}", 1000.0 - age_s, True) for step in steps]


def removed(retention, *present, newest, now_s=1000.0):
    return [int(name) for name in retention.removals(present, newest=f"{newest:010d}", now_s=now_s)]


def test_the_newest_are_kept():
    assert removed(Retention(keep=2), *found(1, 2, 3, 4), newest=4) == [1, 2]


def test_old_ones_go_however_few_they_are():
    present = [*found(1, age_s=100), *found(2, age_s=5), *found(3)]

    assert removed(Retention(keep=5, keep_s=10), *present, newest=3) == [1]


def test_the_newest_stays_however_old_it_is():
    assert removed(Retention(keep=1, keep_s=0.1), *found(1, 2, age_s=900), newest=2) == [1]


def test_a_future_that_was_given_up_goes():
    assert removed(Retention(keep=2), *found(1, 2, 8, 9), newest=3) == [1, 8, 9]


def test_one_that_lacks_a_file_does_not_count_and_goes():
    assert removed(Retention(keep=2), *found(1, 3), Found(f"{2:010d}", 1000.0, False), newest=3) == [2]


@given(FOUND, st.integers(1, 5), st.one_of(st.none(), st.floats(1, 1000)), st.integers(0, 20))
def test_whatever_is_there_the_newest_and_no_more_than_asked_for_stay(present, keep, keep_s, newest):
    name = f"{newest:010d}"
    present = [*(each for each in present if each.name != name), Found(name, 0.0, True)]

    names = Retention(keep=keep, keep_s=keep_s).removals(present, newest=name, now_s=1000.0)

    kept = {each.name: each for each in present if each.name not in names}
    assert name in kept
    assert len(kept) <= keep
    assert max(kept) == name
    for each in kept.values():
        assert each.name == name or (each.is_complete and (keep_s is None or 1000.0 - each.written_s <= keep_s))
    if keep_s is None:
        complete = sorted(each.name for each in present if each.is_complete and each.name < name)
        assert sorted(kept) == [*complete[max(0, len(complete) - keep + 1) :], name]


@pytest.mark.parametrize("settings", [{"keep": 0}, {"keep_s": 0}, {"keep_s": -1.0}, {"keep_s": float("nan")}])
def test_settings_that_keep_nothing_are_refused(settings):
    with pytest.raises(ConfigError, match=r"keep_checkpoints.*must be"):
        Retention(**settings)
