from collections.abc import Iterator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.data.sampling.thresholds import find_thresholds


@given(
    seed=st.integers(0, 99),
    num_rows=st.integers(0, 400),
    num_classes=st.integers(1, 5),
    num_values=st.sampled_from([1, 3, 1 << 63]),
    share=st.floats(0, 1),
)
@settings(deadline=None)
def test_takes_exactly_so_many_with_the_smallest_draws(
    seed: int, num_rows: int, num_classes: int, num_values: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, num_values, num_rows).astype(np.uint64)
    codes = rng.integers(0, num_classes, num_rows)
    candidates = rng.random(num_rows) < 0.7
    wanted = [int(share * (candidates & (codes == code)).sum()) for code in range(num_classes)]

    def drawn() -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for part in np.array_split(np.arange(num_rows), 3):
            yield draws[part], codes[part], candidates[part]

    limits = find_thresholds(drawn, wanted)
    taken = np.concatenate([limits.take(*part) for part in drawn()])

    assert not (taken & ~candidates).any()
    for code in range(num_classes):
        mine = candidates & (codes == code)
        expected = np.sort(draws[mine])[: wanted[code]]
        assert np.array_equal(np.sort(draws[taken & mine]), expected)


def test_of_equal_draws_the_earlier_rows_are_taken() -> None:
    part = (np.zeros(5, np.uint64), np.zeros(5, np.int64), np.ones(5, np.bool_))

    limits = find_thresholds(lambda: iter([part]), [2])

    assert limits.take(*part).tolist() == [True, True, False, False, False]
