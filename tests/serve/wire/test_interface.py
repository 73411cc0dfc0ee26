import pytest

from shoal.serve.wire.interface import Interface, TensorField
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
