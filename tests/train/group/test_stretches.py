from hypothesis import given
from hypothesis import strategies as st

from shoal.train.group.stretches import stretch


@given(st.integers(0, 10_000), st.integers(1, 9))
def test_stretches_hold_every_byte_once_start_aligned_and_are_even(num_bytes, size):
    stretches = [stretch(num_bytes, rank, size) for rank in range(size)]

    assert [byte for start, stop in stretches for byte in range(start, stop)] == list(range(num_bytes))
    assert all(start % 64 == 0 for start, _ in stretches)
    lengths = [-(-(stop - start) // 64) for start, stop in stretches if stop > start]
    assert max(lengths, default=0) - min(lengths, default=0) <= 1
