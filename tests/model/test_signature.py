import numpy as np
import pytest

from shoal.base import InputError, PackageError
from shoal.model import Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("image", "uint8", (None, 4, 4)), TensorSpec("age", "float32", (None,))),
    (TensorSpec("scores", "float32", (None, 3)),),
)


def good(rows=2):
    return {"image": np.zeros((rows, 4, 4), np.uint8), "age": np.zeros(rows, np.float32)}


def test_counts_the_rows_of_inputs_that_fit():
    assert SIGNATURE.check(good(5)) == 5


@pytest.mark.parametrize(
    ("name", "value", "found", "expected"),
    [
        ("image", np.zeros((2, 4, 4), np.float32), "float32", "uint8"),
        ("image", np.zeros((2, 4, 5), np.uint8), "[2, 4, 5]", "[any, 4, 4]"),
        ("image", np.zeros((2, 16), np.uint8), "[2, 16]", "[any, 4, 4]"),
        ("image", np.zeros((0, 4, 4), np.uint8), "[0, 4, 4]", "[any, 4, 4]"),
        ("age", np.zeros(2, np.int64), "int64", "float32"),
        ("age", np.float32(1), "[]", "[any]"),
        ("age", np.zeros(3, np.float32), "3 rows", "same number"),
    ],
)
def test_names_the_field_with_what_was_found_and_expected(name, value, found, expected):
    with pytest.raises(InputError) as caught:
        SIGNATURE.check({**good(), name: np.asarray(value)})

    assert f"{name!r}" in caught.value.message
    assert found in caught.value.message
    assert expected in caught.value.message


def test_names_a_missing_input():
    with pytest.raises(InputError, match="'age' is missing"):
        SIGNATURE.check({"image": good()["image"]})


def test_names_an_unknown_input():
    with pytest.raises(InputError, match="'colour' is unknown"):
        SIGNATURE.check({**good(), "colour": np.zeros(2)})


def test_refuses_a_name_that_is_input_and_output():
    with pytest.raises(PackageError, match="image named more than once"):
        Signature((TensorSpec("image", "uint8", (None,)),), (TensorSpec("image", "uint8", (None,)),))


def test_refuses_a_dtype_that_the_loop_cannot_carry():
    with pytest.raises(PackageError, match="bfloat16"):
        TensorSpec("x", "bfloat16", (None,))


def test_a_row_has_no_batch_dimension():
    assert SIGNATURE.inputs[0].row_shape == (4, 4)


def test_masks_belong_to_columns():
    age, mask = TensorSpec("age", "int64", (None,)), TensorSpec("age_mask", "bool", (None,))
    lone = TensorSpec("face_mask", "bool", (None,))
    signature = Signature((age, mask, lone), ())

    assert signature.masked == ("age",)
    assert signature.columns == ("age", "face_mask")


def test_a_mask_that_rows_lack_is_full():
    signature = Signature((TensorSpec("age", "int64", (None,)), TensorSpec("age_mask", "bool", (None,))), ())

    assert signature.inputs_from({"age": np.arange(3), "label": np.arange(3)})["age_mask"].tolist() == [True] * 3


def test_a_gap_that_the_model_does_not_provide_for_is_refused():
    signature = Signature((TensorSpec("age", "int64", (None,)),), ())

    with pytest.raises(InputError, match=r"'age' has no value in row 1.*Impute"):
        signature.inputs_from({"age": np.arange(3), "age_mask": np.array([True, False, True])})


@pytest.mark.parametrize("dtype", [object, "U5"])
def test_texts_are_objects_or_of_one_width(dtype):
    assert TensorSpec("city", "string", (None,)).check(np.array(["a", "b"], dtype)) == 2
