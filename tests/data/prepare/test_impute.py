import numpy as np
import pytest

from shoal.base import InputError, SchemaError
from shoal.data.prepare import Impute

MASK = np.array([True, True, False, True, False])
NUMBERS = np.array([1, 2, 0, 6, 0])


@pytest.mark.parametrize(
    ("operator", "expected", "dtype"),
    [
        (Impute("mean"), 3, np.float32),
        (Impute("median"), 2, np.float32),
        (Impute("most_frequent"), 1, np.int64),
        (Impute("constant", -4), -4, np.int64),
        (Impute("constant", 0.5), 0.5, np.float32),
    ],
)
def test_missing_numbers_are_filled(fit_one, assert_same_bits, operator, expected, dtype):
    fitted = fit_one([operator], NUMBERS, MASK)

    found = assert_same_bits(fitted, {"x": NUMBERS, "x_mask": MASK})["x"]

    assert found.dtype == dtype
    assert found.tolist() == [1, 2, expected, 6, expected]


def test_missing_texts_are_filled(fit_one, assert_same_bits):
    texts, mask = np.array(["b", None, "a", "b"], object), np.array([True, False, True, True])

    for operator, expected in ((Impute("most_frequent"), "b"), (Impute("constant", "?"), "?")):
        fitted = fit_one([operator], texts, mask)
        assert assert_same_bits(fitted, {"x": texts, "x_mask": mask})["x"].tolist() == ["b", expected, "a", "b"]


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "uint64", "float16", "float64"])
@pytest.mark.parametrize("operator", [Impute("most_frequent"), Impute("median"), Impute("constant", 1)])
def test_every_type_of_number_is_filled(fit_one, assert_same_bits, dtype, operator):
    batch = {"x": np.array([1, 0, 1, 0], dtype), "x_mask": np.array([True, True, True, False])}

    fitted = fit_one([operator], *batch.values())

    assert assert_same_bits(fitted, batch)["x"].tolist() == [1, 0, 1, 1]


def test_nan_is_missing(fit_one, assert_same_bits):
    values = np.array([1, np.nan, 3], np.float64)

    fitted = fit_one([Impute("mean", indicator=True)], values)

    found = assert_same_bits(fitted, {"x": values})
    assert found["x"].tolist() == [1, 2, 3]
    assert found["x_missing"].tolist() == [0, 1, 0]


def test_the_indicator_is_there_without_a_missing_row(fit_one, assert_same_bits):
    fitted = fit_one([Impute("mean", indicator=True)], np.arange(4), np.ones(4, bool))

    assert assert_same_bits(fitted, {"x": np.arange(2), "x_mask": np.ones(2, bool)})["x_missing"].tolist() == [0, 0]


def test_the_rows_given_are_not_changed(fit_one):
    values = np.array([1, np.nan, 3], np.float32)
    fitted = fit_one([Impute("constant", 0.0)], values)

    fitted.apply({"x": values})

    assert np.isnan(values[1])


def test_a_constant_without_a_value_is_refused():
    with pytest.raises(SchemaError, match="a value belongs to 'constant'"):
        Impute("constant")
    with pytest.raises(SchemaError, match="and only to it"):
        Impute("mean", value=3)


@pytest.mark.parametrize(("operator", "values"), [(Impute("mean"), ["a"]), (Impute("constant", "?"), [1])])
def test_the_wrong_type_is_refused(fit_one, operator, values):
    kind = object if isinstance(values[0], str) else None

    with pytest.raises(SchemaError, match="cannot apply Impute"):
        fit_one([operator], np.array(values, kind))


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent"])
def test_nothing_is_learned_of_nothing(fit_one, strategy):
    with pytest.raises(SchemaError, match=f"cannot learn the {strategy} of column 'x'"):
        fit_one([Impute(strategy)], np.zeros(3), np.zeros(3, bool))


def test_without_it_a_missing_value_is_an_error(fit_one):
    from shoal.data.prepare import Standardise

    fitted = fit_one([Standardise()], np.arange(4.0))

    with pytest.raises(InputError, match=r"column 'x' has no value in 1 of 2 rows.*next: put an Impute"):
        fitted.apply({"x": np.array([1.0, np.nan])})
    with pytest.raises(InputError, match="column 'x' has no value in 2 of 2 rows"):
        fitted.apply({"x": np.zeros(2), "x_mask": np.zeros(2, bool)})
