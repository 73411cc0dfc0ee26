import numpy as np
import pytest

from shoal.base import InputError, SchemaError
from shoal.data import Column
from shoal.data.prepare import Cast, Encode, Impute, Standardise
from shoal.data.prepare.chain import Chain

AGE = Column(name="age", dtype="int64", nullable=True)
FILL = Impute("constant", 3, indicator=True)


def chain_of(*operators, **fields):
    return Chain(Column(**{"name": "age", "dtype": "int64", **fields}), operators)


def test_operators_are_applied_in_order():
    chain = Chain(AGE, (FILL, Standardise(1, 2)))

    found = dict(chain.apply({"age": np.array([5, 0]), "age_mask": np.array([True, False])}))

    assert found["age"].tolist() == [2, 1]
    assert found["age_missing"].tolist() == [0, 1]
    assert [column.name for column in chain.outputs()] == ["age", "age_missing"]


def test_gaps_that_nothing_fills_are_refused():
    with pytest.raises(SchemaError, match=r"column 'age' has rows without a value.*put an Impute"):
        Chain(AGE, (Cast(),)).columns()


def test_only_a_column_with_gaps_takes_a_mask():
    assert Chain(AGE, (FILL,)).takes_mask
    assert not chain_of(FILL).takes_mask
    assert not Chain(AGE, (Cast(),)).takes_mask


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ({"years": np.arange(3)}, "column 'age' is missing: found years"),
        ({"age": np.arange(3.0)}, "column 'age' is float64.*expected age: int64"),
        ({"age": np.zeros((3, 2), int)}, r"column 'age' is int64\[2\]"),
    ],
)
def test_a_batch_of_another_form_is_refused_by_name(batch, message):
    with pytest.raises(InputError, match=message):
        dict(chain_of(Cast()).apply(batch))


def test_a_text_that_is_none_is_missing():
    texts = {"age": np.array(["a", None], object)}

    with pytest.raises(InputError, match="no value in 1 of 2 rows"):
        dict(chain_of(Encode(categories=("a",)), dtype="string").apply(texts))
    filled = chain_of(Impute("constant", "a"), Encode(categories=("a",)), dtype="string")
    assert dict(filled.apply(texts))["age"].tolist() == [1, 1]


def test_texts_of_one_width_are_texts():
    assert dict(chain_of(Encode(categories=("a",)), dtype="string").apply({"age": np.array(["a", "b"])})) == {
        "age": pytest.approx([1, 0])
    }


def test_nan_in_a_tensor_is_no_value():
    chain = chain_of(Standardise(0, 1), dtype="float32", shape=(2,))

    with pytest.raises(InputError, match="no value in 1 of 2 rows"):
        dict(chain.apply({"age": np.array([[1, 2], [np.nan, 3]], np.float32)}))
