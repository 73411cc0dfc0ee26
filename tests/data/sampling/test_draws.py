import numpy as np

from shoal.data.sampling.draws import as_fractions, draws_at, draws_of_hashes, key_of, mixed


def test_a_draw_depends_on_key_and_place_alone() -> None:
    whole = draws_at(key_of("a", 1), np.arange(100))

    assert np.array_equal(draws_at(key_of("a", 1), np.arange(40, 60)), whole[40:60])
    assert not np.isin(draws_at(key_of("a", 2), np.arange(100)), whole).any()


def test_draws_are_the_same_on_every_machine() -> None:
    assert draws_at(key_of("a", 1), np.arange(2)).tolist() == [16710671787454436240, 10393318169581699092]


def test_draws_are_even() -> None:
    fractions = as_fractions(draws_at(key_of("even"), np.arange(100_000)))
    counts = np.histogram(fractions, bins=100, range=(0, 1))[0]

    # Chi-square with 99 degrees of freedom: above 149 once in a thousand keys, and this key is fixed.
    assert ((counts - 1_000) ** 2 / 1_000).sum() < 149
    assert fractions.min() >= 0
    assert fractions.max() < 1


def test_rows_of_one_hash_are_drawn_apart() -> None:
    hashes = np.full(1_000, 7, np.uint64)

    draws = draws_of_hashes(1, hashes, np.arange(1_000))

    assert len(np.unique(draws)) == 1_000
    assert np.array_equal(draws_of_hashes(1, hashes[:5], np.arange(5)), draws[:5])


def test_mixing_loses_nothing() -> None:
    assert len(np.unique(mixed(np.arange(100_000, dtype=np.uint64)))) == 100_000
