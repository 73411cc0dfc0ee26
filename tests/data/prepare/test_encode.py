import numpy as np
import pytest

from shoal.base import SchemaError
from shoal.data.prepare import Encode

TEXTS = np.array(["b", "a", "b", "ü", "c", "c", "b"], object)


def test_the_most_frequent_text_is_first_and_the_unknown_is_zero(fit_one, assert_same_bits):
    fitted = fit_one([Encode()], TEXTS)

    found = assert_same_bits(fitted, {"x": np.array(["b", "c", "a", "ü", "B", ""], object)})["x"]

    assert found.tolist() == [1, 2, 3, 4, 0, 0]


def test_whole_numbers_are_categories_too(fit_one, assert_same_bits):
    fitted = fit_one([Encode()], np.array([5, -3, 5, 2**40]))

    assert assert_same_bits(fitted, {"x": np.array([5, -3, 2**40, 7])})["x"].tolist() == [1, 2, 3, 0]


@pytest.mark.parametrize("dtype", ["int8", "uint16", "uint64", "bool"])
def test_every_whole_type_is_looked_up(fit_one, assert_same_bits, dtype):
    values = np.array([1, 0, 1], dtype)

    assert assert_same_bits(fit_one([Encode()], values), {"x": values})["x"].tolist() == [1, 2, 1]


def test_one_hot_has_a_place_for_the_unknown(fit_one, assert_same_bits):
    fitted = fit_one([Encode(to="one_hot", max_categories=2)], TEXTS)

    found = assert_same_bits(fitted, {"x": np.array(["c", "?", "b"], object)})["x"]

    assert found.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]


def test_rare_categories_are_left_out(fit_one, assert_same_bits):
    fitted = fit_one([Encode(min_count=2)], TEXTS)

    assert assert_same_bits(fitted, {"x": TEXTS})["x"].tolist() == [1, 0, 1, 0, 2, 2, 1]


def test_an_empty_vocabulary_knows_nothing(fit_one, assert_same_bits):
    for values in (TEXTS, np.array([3, 4])):
        assert not assert_same_bits(fit_one([Encode(min_count=9)], values), {"x": values})["x"].any()


@pytest.mark.parametrize("values", [np.array([1.5]), np.zeros((2, 2), np.int64)])
def test_what_is_no_category_is_refused(fit_one, values):
    with pytest.raises(SchemaError, match="cannot encode column x"):
        fit_one([Encode()], values)


def test_categories_of_another_type_are_refused(fit_one):
    with pytest.raises(SchemaError, match=r"by categories of \['str'\]"):
        fit_one([Encode(categories=("a",))], np.array([1]))


@pytest.mark.parametrize("fields", [{"max_categories": 0}, {"min_count": 0}, {"to": "hash"}])
def test_wrong_settings_are_refused(fields):
    with pytest.raises(SchemaError, match="expected to='index' or 'one_hot'"):
        Encode(**fields)


def test_a_category_stands_once():
    with pytest.raises(SchemaError, match="hold a value twice"):
        Encode(categories=("a", "a"))
