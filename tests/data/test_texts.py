import numpy as np
import pyarrow as pa
import pytest

from shoal.data.schema import Column
from shoal.data.texts import texts_of

STRING = Column(name="x", dtype="string")
NUMBERS = Column(name="x", dtype="int16", is_list=True)


@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_any_slice_gives_its_rows(start: int) -> None:
    array = pa.array(["a", None, "ä", ""])

    texts = texts_of(array.slice(start), STRING)

    assert texts.to_list() == [value.as_py().encode() if value.is_valid else b"" for value in array.slice(start)]
    assert (texts.valid is None) == (array.slice(start).null_count == 0)


@pytest.mark.parametrize("start", [0, 1])
def test_lists_are_the_bytes_of_their_numbers(start: int) -> None:
    array = pa.array([[1, 2], None, [], [3]], pa.list_(pa.int16())).slice(start)

    texts = texts_of(array, NUMBERS)

    assert texts.to_list() == [np.array(value or [], np.int16).tobytes() for value in array.to_pylist()]
    assert texts.values(NUMBERS).tolist() == [number for value in array.to_pylist() for number in value or []]


def test_what_hides_behind_a_null_is_left_out() -> None:
    offsets, data = pa.py_buffer(np.array([0, 1, 3], np.int32)), pa.py_buffer(b"abc")
    hiding = pa.Array.from_buffers(pa.string(), 2, [pa.py_buffer(b"\1"), offsets, data])

    texts = texts_of(hiding, STRING)

    assert texts.to_list() == [b"a", b""]
    assert int(texts.offsets[-1]) == 1


def test_there_and_back() -> None:
    for array, column in ((pa.array(["a", None, ""]), STRING), (pa.array([[1], None], pa.list_(pa.int16())), NUMBERS)):
        assert texts_of(array, column).to_arrow(column).equals(array)
