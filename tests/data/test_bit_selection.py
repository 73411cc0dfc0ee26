import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.data.bit_selection import BLOCK_BITS, select_bits_pure
from shoal.data.native import select_bits


@given(
    num_bits=st.integers(0, 3 * BLOCK_BITS + 5),
    share=st.sampled_from([0.0, 0.001, 0.1, 0.9, 1.0]),
    seed=st.integers(0, 9),
    num_asked=st.integers(1, 5_000),
)
@settings(deadline=None, max_examples=40)
def test_the_twin_finds_the_same_bits_as_the_compiled_loop(
    num_bits: int, share: float, seed: int, num_asked: int
) -> None:
    rng = np.random.default_rng(seed)
    flags = rng.random(num_bits) < share
    padded = np.concatenate([flags, np.zeros(-len(flags) % 64, np.bool_)])
    words = np.packbits(padded, bitorder="little").view(np.uint64)
    counts = np.add.reduceat(flags, np.arange(0, len(flags), BLOCK_BITS), dtype=np.int64) if num_bits else []
    ranks = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    expected = np.flatnonzero(flags)
    asked = rng.integers(-1, len(expected) + 1, num_asked)

    found = select_bits_pure(words, ranks, asked)

    assert found.tolist() == [expected[k] if 0 <= k < len(expected) else -1 for k in asked]
    assert np.array_equal(select_bits(words, ranks, asked), found)
