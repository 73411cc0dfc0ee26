from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from shoal.data.sampling.quantiles import values_at

VALUES = st.one_of(
    st_numpy.arrays(np.int64, st.integers(1, 200)),
    st_numpy.arrays(np.uint64, st.integers(1, 200)),
    st_numpy.arrays(np.int8, st.integers(1, 200)),
    st_numpy.arrays(np.float64, st.integers(1, 200), elements=st.floats(allow_nan=False)),
)


@given(values=VALUES, shares=st.lists(st.floats(0, 0.999), min_size=1, max_size=3))
@settings(deadline=None, max_examples=60)
def test_finds_the_values_that_sorting_would(values: np.ndarray, shares: list[float]) -> None:
    places = [int(share * len(values)) for share in shares]

    def pieces() -> Iterator[np.ndarray]:
        yield from np.array_split(values, 3)

    assert values_at(pieces, places) == np.sort(values)[places].tolist()


@pytest.mark.parametrize("unit", ["us", "s"])
def test_instants_come_back_as_instants(unit: str) -> None:
    values = np.array(["2026-03-01T10:00", "1969-07-20T20:17", "2000-01-01"], f"datetime64[{unit}]")

    assert values_at(lambda: iter([values]), [0, 2]) == [values[1], values[0]]
