import random

from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.data import categories
from shoal.data.categories import LIMIT, Categories


@given(parts=st.lists(st.lists(st.integers(0, 3_000), max_size=1_500), max_size=5), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_merging_in_any_order_and_grouping_gives_the_same(parts: list[list[int]], seed: int) -> None:
    singles = [Categories({}) for _ in parts]
    for single, values in zip(singles, parts, strict=True):
        single.add((str(value), 1) for value in values)
    whole = Categories()
    whole.add((str(value), 1) for values in parts for value in values)

    random.Random(seed).shuffle(singles)
    merged = Categories()
    for single in singles:
        merged = single.merge(merged)

    assert (merged.sorted(), merged.other) == (whole.sorted(), whole.other)


def test_keeps_every_count_up_to_the_limit() -> None:
    kept = Categories({str(index): index + 1 for index in range(LIMIT)})

    assert kept.other == 0
    assert kept.num_distinct == LIMIT
    assert next(iter(kept.sorted().items())) == (str(LIMIT - 1), LIMIT)


def test_beyond_the_limit_nothing_is_lost_but_names() -> None:
    kept = Categories({str(index): 3 for index in range(5 * LIMIT)})

    assert len(kept.counts) == LIMIT
    assert sum(kept.counts.values()) + kept.other == 15 * LIMIT


def test_estimates_how_many_distinct_values_there_were() -> None:
    kept = Categories({f"value {index}": 1 for index in range(50_000)})

    assert abs(kept.num_distinct / 50_000 - 1) < 0.1


def test_ties_of_hashes_are_broken_by_name(monkeypatch: object) -> None:
    monkeypatch.setattr(categories, "xxh3_64_intdigest", lambda data: 7)  # type: ignore[attr-defined]  # pytest's own

    names = [str(index) for index in range(LIMIT + 50)]
    forward, backward = Categories(dict.fromkeys(names, 1)), Categories(dict.fromkeys(reversed(names), 1))

    assert forward.sorted() == backward.sorted()
