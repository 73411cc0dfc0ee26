import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shoal.data import compiled
from shoal.data.schema import Column
from shoal.data.statistics import categories
from shoal.data.statistics.categories import LIMIT, Categories
from shoal.data.texts import texts_of

TEXT = Column(name="", dtype="string")


def state(kept: Categories) -> tuple[dict[str, int], int, int]:
    return kept.sorted(), kept.other, kept.num_distinct


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


@given(
    parts=st.lists(
        hnp.arrays(st.sampled_from(["int8", "int64", "uint64", "uint16", "int32"]), st.integers(0, 60)), max_size=4
    ),
    spread=st.sampled_from([1, 3_000, 1 << 40]),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_whole_numbers_are_counted_as_one_by_one(parts: list[np.ndarray], spread: int, data: st.DataObject) -> None:
    whole, slowly, singly = Categories(), Categories(), Categories()
    many = [np.arange(data.draw(st.integers(0, 9_000))) * spread - 5] if data.draw(st.booleans()) else []
    for values in [*parts, *many]:
        valid = data.draw(st.sampled_from([None, np.arange(len(values)) % 3 != 0]))
        whole.add_wholes(values, valid)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(compiled, "statistics", None)
            slowly.add_wholes(values, valid)
        singly.add((str(value), 1) for value in (values if valid is None else values[valid]).tolist())

    assert state(whole) == state(slowly) == state(singly)


@given(parts=st.lists(st.lists(st.none() | st.text(max_size=3), max_size=40), max_size=4), many=st.integers(0, 6_000))
@settings(deadline=None, max_examples=60)
def test_texts_are_counted_as_one_by_one(parts: list[list[str | None]], many: int) -> None:
    whole, slowly, singly = Categories(), Categories(), Categories()
    for values in [*parts, [f"name {index}" for index in range(many)]]:
        # From the middle of an array: its offsets do not begin at 0.
        texts = texts_of(pa.array(["before", *values], pa.string()).slice(1), TEXT)
        whole.add_texts(texts)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(compiled, "statistics", None)
            slowly.add_texts(texts)
        singly.add((value, 1) for value in values if value is not None)

    assert state(whole) == state(slowly) == state(singly)
