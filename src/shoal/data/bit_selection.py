"""Where the k-th set bit of a bitmap is, by NumPy alone: the twin of the compiled loop."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]

# So many bits share one count in a bitmap's ranks.
BLOCK_BITS = 4_096
_BLOCK_WORDS = BLOCK_BITS // 64
# Queries answered at once: their words, 512 bytes each, stay in a core's cache.
_PIECE = 2_048


def select_bits_pure(words: NDArray[np.uint64], ranks: Rows, positions: Rows) -> Rows:
    """Return the same as the compiled `select_bits`, by NumPy alone and without a copy of whole blocks."""
    if len(words) % _BLOCK_WORDS:
        words = np.concatenate([words, np.zeros(-len(words) % _BLOCK_WORDS, np.uint64)])
    found = np.full(len(positions), -1, np.int64)
    there = np.flatnonzero((positions >= 0) & (positions < ranks[-1]))
    for start in range(0, len(there), _PIECE):
        inside = there[start : start + _PIECE]
        piece = positions[inside]
        blocks = np.searchsorted(ranks, piece, side="right") - 1
        known, places = np.unique(blocks, return_inverse=True)
        solve = _select_dense if len(known) * 32 <= len(piece) else _select_sparse
        found[inside] = solve(words, ranks, piece, known, places)
    return found


def _select_dense(
    words: NDArray[np.uint64], ranks: Rows, positions: Rows, known: Rows, places: NDArray[np.intp]
) -> Rows:
    """Unpack the few blocks that many positions lie in."""
    bits = np.unpackbits(words.reshape(-1, _BLOCK_WORDS)[known].view(np.uint8), axis=1, bitorder="little")
    block, inside = np.nonzero(bits)
    firsts = np.searchsorted(block, np.arange(len(known)))
    local: Rows = inside[firsts[places] + positions - ranks[known[places]]]
    rows: Rows = known[places] * BLOCK_BITS + local
    return rows


def _select_sparse(
    words: NDArray[np.uint64], ranks: Rows, positions: Rows, known: Rows, places: NDArray[np.intp]
) -> Rows:
    """Count through the words of each position's block, then through the bytes of its word."""
    blocks = known[places]
    own = words.reshape(-1, _BLOCK_WORDS)[blocks]
    word, rest = _step_in(np.bitwise_count(own), positions - ranks[blocks])
    chosen = np.take_along_axis(own, word[:, None], axis=1).view(np.uint8)
    byte, rest = _step_in(np.bitwise_count(chosen), rest)
    bit = _in_byte()[np.take_along_axis(chosen, byte[:, None], axis=1)[:, 0], rest]
    rows: Rows = blocks * BLOCK_BITS + word * 64 + byte * 8 + bit
    return rows


def _step_in(counts: NDArray[np.uint8], rest: Rows) -> tuple[Rows, Rows]:
    """Return in which of the consecutive counts [num_queries, n] each query ends, and what is left of it there."""
    sums = counts.cumsum(axis=1, dtype=np.int64)
    index = (sums <= rest[:, None]).sum(axis=1)
    before = np.take_along_axis(sums, index[:, None], axis=1)[:, 0]
    before = before - np.take_along_axis(counts, index[:, None], axis=1)[:, 0]
    return index, rest - before


@cache
def _in_byte() -> NDArray[np.int64]:
    """Return int64 [256, 8]: where the k-th set bit of each byte is; made by those who have no compiled loop."""
    places = [
        [next((bit for bit in range(8) if bin(byte & ((2 << bit) - 1)).count("1") == k + 1), 0) for k in range(8)]
        for byte in range(256)
    ]
    return np.array(places, np.int64)
