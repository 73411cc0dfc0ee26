from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import InputError
from shoal.data.bit_selection import BLOCK_BITS
from shoal.data.sampling.bits import MaskWriter, RowMask, derived_mask

FLAGS = st.tuples(st.integers(0, 3 * BLOCK_BITS + 5), st.sampled_from([0.0, 0.001, 0.1, 0.9, 1.0]), st.integers(0, 9))


def flags_of(shape: tuple[int, float, int]) -> np.ndarray:
    num_rows, share, seed = shape
    return np.random.default_rng(seed).random(num_rows) < share


def mask_of(flags: np.ndarray, cuts: list[int] | None = None) -> RowMask:
    arrays: dict[str, list[np.ndarray]] = {}

    class Collected:
        def add(self, name: str, piece: np.ndarray) -> None:
            arrays.setdefault(name, []).append(piece)

    writer = MaskWriter(Collected())  # type: ignore[arg-type]
    for part in np.split(flags, sorted(cuts or [])):
        writer.add(part)
    writer.finish()
    joined = {name: np.concatenate(pieces) for name, pieces in arrays.items()}
    return RowMask(joined["words"], joined["ranks"], int(joined["rows"][0]))


@given(shape=FLAGS, cuts=st.lists(st.integers(0, 3 * BLOCK_BITS), max_size=4))
@settings(deadline=None, max_examples=40)
def test_select_and_rank_undo_each_other(shape: tuple[int, float, int], cuts: list[int]) -> None:
    flags = flags_of(shape)
    mask = mask_of(flags, cuts)
    expected = np.flatnonzero(flags)

    rows = mask.select(np.arange(mask.count))

    assert np.array_equal(rows, expected)
    assert np.array_equal(mask.rank(rows), np.arange(mask.count))
    assert np.array_equal(mask.rank(np.arange(len(flags) + 1)), np.concatenate([[0], np.cumsum(flags)]))


@given(shape=FLAGS, start=st.integers(0, 9_000), length=st.integers(0, 9_000))
@settings(deadline=None, max_examples=25)
def test_flags_of_any_stretch_are_those_of_the_rows(shape: tuple[int, float, int], start: int, length: int) -> None:
    flags = flags_of(shape)
    start = min(start, len(flags))
    stop = min(start + length, len(flags))

    assert np.array_equal(mask_of(flags).flags(start, stop), flags[start:stop])


@pytest.mark.parametrize("position", [-1, 3])
def test_a_position_outside_is_refused(position: int) -> None:
    mask = mask_of(np.array([True, False, True, True]))

    with pytest.raises(InputError, match=f"cannot take rows {position} to {position} of 3"):
        mask.select(np.array([position]))


def test_a_mask_is_built_once_and_takes_a_bit_a_row(tmp_path: Path) -> None:
    built = []

    def build(mask: MaskWriter) -> None:
        built.append(mask)
        for _ in range(10):
            mask.add(np.arange(10_000) % 3 == 0)

    first = derived_mask(tmp_path, "b3:ab", build)
    second = derived_mask(tmp_path, "b3:ab", build)

    assert len(built) == 1
    assert first.count == second.count == 33_340
    assert (tmp_path / "subsets" / "ab.bits").stat().st_size < 100_000 / 8 + 2_000
