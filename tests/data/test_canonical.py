import numpy as np
import pyarrow as pa
import pytest

from shoal.data.canonical import canonical_array, canonical_floats

OTHER_NAN = np.array([0x7FF8000000000001, 0xFFF8000000000000], np.uint64).view(np.float64)
VALUES = np.concatenate([np.array([0.0, -0.0, np.nan, -1.5, np.inf]), OTHER_NAN])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_counts_as_equal_has_equal_bits(dtype: type) -> None:
    found = canonical_floats(VALUES.astype(dtype))

    assert found.dtype == dtype
    assert found[0].tobytes() == found[1].tobytes()
    assert found[2].tobytes() == found[5].tobytes() == found[6].tobytes()
    assert found[3:5].tolist() == [-1.5, np.inf]


def test_what_is_no_float_stays() -> None:
    whole = np.array([0, -1])

    assert canonical_floats(whole) is whole
    assert canonical_array(pa.array(["a", None])).to_pylist() == ["a", None]


def test_arrow_arrays_keep_their_nulls_and_their_type() -> None:
    array = pa.array([-0.0, None, 1.0, OTHER_NAN[0]], pa.float32()).slice(1)

    found = canonical_array(array)

    assert found.type == array.type
    assert str(found.to_pylist()) == "[None, 1.0, nan]"
    assert found.is_valid().to_pylist() == [False, True, True]


@pytest.mark.parametrize(
    "array",
    [
        pa.FixedShapeTensorArray.from_numpy_ndarray(np.array([[1.0, 2.0], [-0.0, 1.0], [0.0, 1.0]])),
        pa.array([[3.0], [-0.0, 1.0], [0.0, 1.0]], pa.list_(pa.float64())),
    ],
)
def test_tensors_and_lists_are_seen_into(array: pa.Array) -> None:
    found = canonical_array(array.slice(1))

    assert found.type == array.type
    assert str(found.to_pylist()[0]) == str(found.to_pylist()[1]) == "[0.0, 1.0]"
