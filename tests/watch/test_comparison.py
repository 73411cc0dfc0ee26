from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from shoal.base import ConfigError, InputError, SchemaError
from shoal.data import Profile
from shoal.watch import ColumnDrift, DriftReport, compare

Columns = dict[str, Any]
Sampler = Callable[[np.random.Generator, int], Columns]


def profile(columns: Columns) -> Profile:
    made = Profile()
    made.update(columns)
    return made


def normal(mean: float = 0.0, deviation: float = 1.0) -> Sampler:
    return lambda random, count: {"x": random.normal(mean, deviation, count)}


def words(*shares: float) -> Sampler:
    names = np.array([f"word {index}" for index in range(len(shares))])
    return lambda random, count: {"word": random.choice(names, count, p=shares)}


def codes(*shares: float) -> Sampler:
    return lambda random, count: {"code": random.choice(len(shares), count, p=shares)}


def flat_images(low: int = 0, high: int = 256) -> Sampler:
    """Images of one brightness each: 100 pixels that all say the same."""
    return lambda random, count: {
        "image": np.broadcast_to(random.integers(low, high, (count, 1, 1)), (count, 10, 10)).astype(np.uint8)
    }


def many_ids(random: np.random.Generator, count: int) -> Columns:
    return {"id": np.array([f"user {number}" for number in random.zipf(1.3, count) % 5000])}


def gappy(share: float) -> Sampler:
    def sample(random: np.random.Generator, count: int) -> Columns:
        values = random.normal(0, 1, count)
        values[random.random(count) < share] = np.nan
        return {"x": values}

    return sample


def report_of(clean: Sampler, live: Sampler, *, rows: int = 200, seed: int = 0) -> DriftReport:
    random = np.random.default_rng(seed)
    return compare(profile(clean(random, 10_000)), profile(live(random, rows)))


WORLDS = {
    "normal": normal(),
    "heavy tails": lambda random, count: {"x": random.standard_cauchy(count)},
    "words": words(0.5, 0.3, 0.2),
    "codes": codes(*[0.1] * 10),
    "flat images": flat_images(),
    "gaps": gappy(0.3),
    "constant": lambda _, count: {"x": np.ones(count)},
}


@pytest.mark.parametrize("name", WORLDS)
def test_false_alarms_keep_to_the_promised_rate(name: str):
    random = np.random.default_rng(0)
    reference = profile(WORLDS[name](random, 5000))
    windows, rate = 120, 0.2

    alarms = sum(
        compare(reference, profile(WORLDS[name](random, 200)), false_alarm=rate).drifted for _ in range(windows)
    )

    # Two standard deviations of a binomial above the promised rate.
    assert alarms / windows <= rate + 2 * np.sqrt(rate * (1 - rate) / windows)


def test_many_categories_raise_no_false_alarm():
    assert not any(report_of(many_ids, many_ids, seed=seed).drifted for seed in range(20))


def test_two_small_samples_are_not_told_apart_by_chance():
    random = np.random.default_rng(0)

    reports = [compare(profile(normal()(random, 30)), profile(normal()(random, 30))) for _ in range(100)]

    assert not any(report.drifted for report in reports)


@pytest.mark.parametrize(
    ("clean", "live"),
    [
        (normal(), normal(mean=1.0)),
        (normal(), normal(deviation=4.0)),
        (words(0.5, 0.5), words(0.1, 0.4, 0.5)),
        (codes(0.4, 0.2, 0.4), codes(0.0, 1.0, 0.0)),
        (flat_images(), flat_images(100, 256)),
        (gappy(0.0), gappy(0.5)),
        (gappy(0.5), gappy(0.0)),
    ],
)
def test_real_shift_is_found_in_200_rows(clean: Sampler, live: Sampler):
    assert report_of(clean, live).drifted


def test_same_rows_have_no_distance():
    columns = {"x": np.arange(100), "word": np.array(["a", "b"] * 50)}

    report = compare(profile(columns), profile(columns))

    assert [drift.distance for drift in report.columns] == [0, 0]
    assert not report.drifted


def test_distance_is_that_of_the_distribution_functions():
    random = np.random.default_rng(0)
    # Powers of two lie on bin edges, so that binning loses nothing.
    left, right = (2.0 ** random.integers(0, high, 500) for high in (8, 10))

    report = compare(profile({"x": left}), profile({"x": right}))

    largest = max(abs((left <= value).mean() - (right <= value).mean()) for value in {*left, *right})
    assert report.column("x").distance == pytest.approx(largest)


def test_shuffled_codes_are_seen_where_their_order_says_nothing():
    drift = report_of(codes(0.25, 0.25, 0.25, 0.25), codes(0.5, 0.0, 0.5, 0.0)).column("code")

    assert drift.measure == "tv"
    assert drift.distance == pytest.approx(0.5, abs=0.05)


def test_category_never_seen_before_counts_as_moved():
    drift = report_of(words(1.0), lambda _, count: {"word": np.array(["new"] * count)}).worst

    assert drift.distance == 1


def test_more_columns_need_more_evidence():
    random = np.random.default_rng(0)
    few = profile({"a": random.normal(size=200)})
    many = profile({name: random.normal(size=200) for name in "abcdefgh"})

    assert compare(many, many).column("a").threshold > compare(few, few).column("a").threshold


def test_real_but_tiny_shift_is_left_alone():
    random = np.random.default_rng(0)

    report = compare(profile({"x": random.normal(0, 1, 400_000)}), profile({"x": random.normal(0.03, 1, 400_000)}))

    assert 0.005 < report.worst.distance < report.worst.threshold == 0.02


def test_too_few_rows_can_never_alarm():
    report = report_of(normal(), normal(mean=100), rows=3)

    assert report.worst.distance == 1
    assert report.worst.threshold > 1
    assert not report.drifted


def test_report_names_what_it_left_out():
    report = compare(profile({"x": np.ones(9), "label": np.ones(9)}), profile({"x": np.ones(9), "extra": np.ones(9)}))

    assert report.not_compared == ("extra", "label")
    assert (report.rows_reference, report.rows_live) == (9, 9)


def test_columns_are_sorted_by_strength():
    random = np.random.default_rng(0)
    clean = profile({name: random.normal(size=5000) for name in "abc"})
    live = profile({name: random.normal(shift, size=200) for name, shift in zip("abc", (0, 2, 1), strict=True)})

    report = compare(clean, live)

    assert [drift.column for drift in report.columns] == ["b", "c", "a"]
    assert [drift.drifted for drift in report.columns] == [True, True, False]
    assert report.worst.column == "b"


def test_only_named_columns_are_compared():
    both = profile({"x": np.ones(9), "y": np.ones(9)})

    assert [drift.column for drift in compare(both, both, columns=["y"]).columns] == ["y"]
    with pytest.raises(InputError, match=r"'z'.*\['x', 'y'\]"):
        compare(both, both, columns=["z"])


def test_nothing_in_common_is_an_error():
    for empty in (Profile(), profile({"y": np.ones(3)})):
        with pytest.raises(InputError, match="cannot compare"):
            compare(profile({"x": np.ones(3)}), empty)


def test_other_kind_of_column_is_an_error():
    with pytest.raises(SchemaError, match="'x'"):
        compare(profile({"x": np.ones(3)}), profile({"x": np.array(["1"])}))


@pytest.mark.parametrize("bad", [0, 1, -1, 2])
def test_impossible_rate_is_refused(bad: float):
    with pytest.raises(ConfigError, match="false_alarm"):
        compare(profile({"x": np.ones(3)}), profile({"x": np.ones(3)}), false_alarm=bad)


def test_asking_for_an_uncompared_column_names_the_others():
    both = profile({"x": np.ones(3)})

    with pytest.raises(InputError, match=r"\['x'\]"):
        compare(both, both).column("y")


NUMBERS = npst.arrays(np.float64, st.integers(1, 50), elements=st.floats(width=32))


@settings(max_examples=40, deadline=None)
@given(NUMBERS, NUMBERS)
def test_any_numbers_give_a_distance_between_0_and_1(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]):
    worst: ColumnDrift = compare(profile({"x": left}), profile({"x": right})).worst

    assert 0 <= worst.distance <= 1
    assert worst.threshold > 0
