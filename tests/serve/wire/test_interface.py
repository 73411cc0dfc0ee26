import pytest

from shoal.serve.wire.interface import InputPlaces, Interface, TensorField
from shoal.serve.wire.refusal import RefusedError

FIELD = TensorField("image", "UINT8", (None, 2, None))
FACE = Interface((FIELD,), (), batched=True)


@pytest.mark.parametrize("shape", [[1, 2, 1], [7, 2, 9]])
def test_open_sizes_take_one_or_more(shape):
    FACE.check_shape(FIELD, shape)


@pytest.mark.parametrize(
    "shape", [[], [1, 2], [1, 2, 3, 4], [0, 2, 1], [1, 2, 0], [-1, 2, 1], [1, 3, 1], [10**30, 3, 1]]
)
def test_other_shapes_are_refused_with_both_shapes(shape):
    with pytest.raises(RefusedError) as caught:
        FACE.check_shape(FIELD, shape)

    assert caught.value.field == "inputs.image.shape"
    assert caught.value.found == str(shape)
    assert "[-1, 2, -1]" in caught.value.expected


@pytest.mark.parametrize(
    ("name", "datatype", "shape", "taken", "field"),
    [
        ("other", "UINT8", [1, 2, 2], (), "inputs.other"),
        ("image", "UINT8", [1, 2, 2], (0,), "inputs.image"),
        ("image", "FP32", [1, 2, 2], (), "inputs.image.datatype"),
        ("image", "UINT8", [1, 4], (), "inputs.image.shape"),
    ],
    ids=["no such input", "twice", "of another type", "of another shape"],
)
def test_a_tensor_that_is_not_just_an_input_is_refused_by_name(interface, name, datatype, shape, taken, field):
    with pytest.raises(RefusedError) as caught:
        InputPlaces(interface).find(name, datatype, shape, taken)

    assert (caught.value.status, caught.value.field) == (400, field)


def test_a_tensor_finds_its_place(interface):
    assert InputPlaces(interface).find("image", "UINT8", [3, 2, 2], ()) == (0, interface.inputs[0])
