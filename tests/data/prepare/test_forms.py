import pytest

from shoal.base import InputError, UnsupportedError, decode, encode
from shoal.data import prepare
from shoal.data.prepare.forms import OPERATORS, from_form, to_form


@pytest.mark.parametrize(
    "operator",
    [
        prepare.Bucketise((0.1, 2.0)),
        prepare.Cast("int64"),
        prepare.Clip(quantiles=(0.01, 0.99)),
        prepare.Encode(categories=("a", "ü")),
        prepare.Encode(to="one_hot", categories=(-1, 2**60)),
        prepare.HashBucket(10, texts=("a",)),
        prepare.Impute("constant", 0.1, indicator=True),
        prepare.Impute("constant", "none"),
        prepare.Impute("constant", 3),
        prepare.Log1p(),
        prepare.MinMax(0.0, 1e-38),
        prepare.ScaleImage(mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0)),
        prepare.Standardise(mean=0.1, std=3.0),
    ],
)
def test_an_operator_comes_back_as_it_was(operator):
    found = from_form(decode(encode(to_form(operator))))

    assert found == operator
    assert type(found) is type(operator)


def test_every_operator_of_the_face_has_a_form():
    names = {kind.__name__ for kind in OPERATORS.values()}

    assert names == set(prepare.__all__) - {"Concatenate", "FittedPreparation", "Preparation"}


def test_an_operator_of_a_later_shoal_is_named():
    with pytest.raises(UnsupportedError, match=r"no operator 'quantum'.*newer shoal"):
        from_form({"operator": "quantum"})


def test_a_field_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="mean"):
        from_form({"operator": "standardise", "mean": "much", "std": 1.0})
