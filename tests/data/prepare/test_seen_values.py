import numpy as np
import pytest

from shoal.base import InputError
from shoal.data.prepare import seen_values
from shoal.data.prepare.seen_values import SeenValues


def seen_of(*values, dtype=object):
    seen = SeenValues()
    seen.update(np.array(values, dtype))
    return seen


def test_the_most_frequent_come_first_and_equals_by_value():
    assert seen_of("b", "a", "b", "c").ranked() == [("b", 2), ("a", 1), ("c", 1)]


def test_parts_merge_to_the_whole_in_any_order():
    parts = [seen_of("b", "a"), seen_of("b"), seen_of("c", "a", "b")]

    assert parts[2].merge(parts[0].merge(parts[1])).ranked() == seen_of("b", "a", "b", "c", "a", "b").ranked()
    assert parts[0].ranked() == [("a", 1), ("b", 1)]


def test_whole_numbers_are_counted_as_such():
    seen = seen_of(3, 3, -1, dtype=np.int8)

    seen.add_point(-1, 5)

    assert seen.ranked() == [(-1, 6), (3, 2)]


def test_booleans_are_whole_numbers():
    assert [type(value) for value, _ in seen_of(True, False, dtype=bool).ranked()] == [int, int]


def test_too_many_values_are_refused_in_any_order(monkeypatch):
    monkeypatch.setattr(seen_values, "MAX_DISTINCT", 3)
    left, right = seen_of("a", "b"), seen_of("c", "d")

    with pytest.raises(InputError, match="more than 3 distinct values"):
        left.merge(right)
    with pytest.raises(InputError, match="too many for a vocabulary"):
        left.update(np.array(["c", "d"], object))
