"""How the bytes of a result are dealt out among those who reduce them."""

# The widest vector register, a cache line, and a multiple of every number's width.
ALIGNED_BYTES = 64


def stretch(num_bytes: int, rank: int, size: int) -> tuple[int, int]:
    """Where a member's bytes start and stop: starts are aligned, and shares differ by one such unit at most.

    >>> [stretch(200, rank, 3) for rank in range(3)]
    [(0, 64), (64, 128), (128, 200)]
    """
    num_units = -(-num_bytes // ALIGNED_BYTES)
    first, after = (num_units * edge // size * ALIGNED_BYTES for edge in (rank, rank + 1))
    return first, min(after, num_bytes)
