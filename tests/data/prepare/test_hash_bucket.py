import numpy as np
import pytest

from shoal.base import SchemaError
from shoal.data.prepare import HashBucket

EDGES = np.array([0, 1, -1, 2**16, -(2**16), 2**31, 2**32, -(2**32) - 1, 2**63 - 1, -(2**63)])


def test_whole_numbers_hash_alike_in_a_graph(fit_one, assert_same_bits):
    rng = np.random.default_rng(0)
    values = np.concatenate([EDGES, rng.integers(-(2**63), 2**63 - 1, 5_000), np.arange(-500, 500)])

    found = assert_same_bits(fit_one([HashBucket(64, seed=3)], values), {"x": values})["x"]

    assert found.min() == 0
    assert found.max() == 63
    assert np.bincount(found).max() < 200  # of some 94 each


def test_the_buckets_never_change(fit_one):
    found = fit_one([HashBucket(1_000)], EDGES).apply({"x": EDGES})["x"]

    # A model that was trained with these buckets must find its rows there for good.
    assert found.tolist() == [121, 442, 736, 182, 53, 67, 263, 241, 701, 803]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint32", "uint64", "bool"])
def test_every_whole_type_is_hashed(fit_one, assert_same_bits, dtype):
    values = np.array([0, 1, 1], dtype)

    assert_same_bits(fit_one([HashBucket(10)], values), {"x": values})


def test_texts_of_training_hash_and_others_are_zero(fit_one, assert_same_bits):
    texts = np.array([f"item {index}" for index in range(300)], object)
    fitted = fit_one([HashBucket(8)], texts)

    found = assert_same_bits(fitted, {"x": np.append(texts, ["never seen", ""])})["x"]

    assert set(found[:300].tolist()) == set(range(1, 8))
    assert found[300:].tolist() == [0, 0]


def test_another_seed_gives_other_buckets(fit_one):
    values = np.arange(100)
    first, second = (fit_one([HashBucket(50, seed=seed)], values).apply({"x": values})["x"] for seed in (0, 1))

    assert (first != second).sum() > 80


@pytest.mark.parametrize("num_buckets", [1, 2**31])
def test_a_wrong_number_of_buckets_is_refused(num_buckets):
    with pytest.raises(SchemaError, match="must be from 2"):
        HashBucket(num_buckets)


def test_fractions_are_refused(fit_one):
    with pytest.raises(SchemaError, match="expected one text or whole number a row"):
        fit_one([HashBucket(5)], np.array([0.5]))
