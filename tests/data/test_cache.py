import numpy as np
import pytest

from shoal.base import InputError
from shoal.data.cache import ColumnCache
from shoal.data.columns import Decoded


def column(num_bytes: int, *, is_view: bool = False) -> Decoded:
    return Decoded(np.zeros(num_bytes, np.uint8), None, is_view=is_view)


def test_loads_once() -> None:
    cache, loads = ColumnCache(100), []

    for _ in range(3):
        cache.get("a", lambda: (loads.append(1), column(10))[1])

    assert len(loads) == 1


def test_evicts_the_longest_unused_when_full() -> None:
    cache = ColumnCache(25)
    for key in ("a", "b", "a", "c"):
        cache.get(key, lambda: column(10))

    loads = []
    for key in ("a", "c", "b"):
        cache.get(key, lambda key=key: (loads.append(key), column(10))[1])

    assert loads == ["b"]
    assert cache.size_bytes == 20


def test_what_is_larger_than_the_limit_passes_through() -> None:
    cache = ColumnCache(5)

    assert cache.get("a", lambda: column(10)).values.nbytes == 10
    assert cache.size_bytes == 0


def test_views_of_files_cost_nothing() -> None:
    cache = ColumnCache(0)

    first = cache.get("a", lambda: column(10, is_view=True))

    assert cache.get("a", lambda: column(10, is_view=True)) is first


def test_text_counts_with_its_characters() -> None:
    cache = ColumnCache(1_000)

    cache.get("a", lambda: Decoded(np.array(["x" * 500], dtype=object), np.ones(1, np.bool_)))

    assert cache.size_bytes > 500


def test_refuses_a_negative_limit() -> None:
    with pytest.raises(InputError, match="limit_bytes=-1"):
        ColumnCache(-1)
