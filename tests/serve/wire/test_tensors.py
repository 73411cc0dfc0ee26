import math
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import UnsupportedError
from shoal.serve.wire.refusal import RefusedError
from shoal.serve.wire.tensors import (
    DATATYPES,
    datatype_of,
    from_bytes,
    from_numbers,
    input_datatype_of,
    read_json_data,
    to_bytes,
)

INTEGERS = [datatype for datatype in DATATYPES.values() if datatype.family is int]
FLOATS = [datatype for datatype in DATATYPES.values() if datatype.family is float]


@pytest.mark.parametrize("datatype", INTEGERS, ids=lambda datatype: datatype.name)
@settings(max_examples=30)
@given(data=st.data())
def test_integers_come_through_or_are_refused_with_their_place(datatype, data):
    limits = np.iinfo(datatype.dtype)
    values = data.draw(st.lists(st.integers(int(limits.min) - 2, int(limits.max) + 2), max_size=8))
    wrong = [place for place, value in enumerate(values) if not limits.min <= value <= limits.max]

    if wrong:
        with pytest.raises(RefusedError, match=rf"inputs\.x\.data\[{wrong[0]}\]: found {values[wrong[0]]}, "):
            from_numbers(values, datatype, "inputs.x.data")
    else:
        assert from_numbers(values, datatype, "inputs.x.data").tolist() == values


@pytest.mark.parametrize("datatype", FLOATS, ids=lambda datatype: datatype.name)
@settings(max_examples=30)
@given(values=st.lists(st.floats(-6e4, 6e4) | st.integers(-60000, 60000), max_size=8))
def test_floats_are_rounded_as_numpy_does(datatype, values):
    found = from_numbers(values, datatype, "x")

    np.testing.assert_array_equal(found, np.array(values, datatype.dtype))


@pytest.mark.parametrize(("name", "value"), [("FP16", 1e6), ("FP32", 1e39), ("FP32", -1e300)])
def test_a_float_that_would_become_infinite_is_refused(name, value):
    with pytest.raises(RefusedError, match=r"x\[1\]: found .*, expected FP"):
        from_numbers([0.0, value], DATATYPES[name], "x")


def test_an_integer_beyond_every_type_is_refused():
    with pytest.raises(RefusedError, match="UINT8"):
        from_numbers([2**200], DATATYPES["UINT8"], "x")


@pytest.mark.parametrize("datatype", [DATATYPES["BOOL"], *INTEGERS, *FLOATS], ids=lambda datatype: datatype.name)
def test_raw_bytes_go_there_and_back(datatype):
    array = np.array([0, 1, 1, 0], datatype.dtype)

    found = from_bytes(memoryview(to_bytes(array)), datatype, "x")

    assert found.dtype == datatype.dtype
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_raw_floats_that_are_not_finite_are_refused_with_their_place(value):
    raw = struct.pack("<3f", 1.0, value, 2.0)

    with pytest.raises(RefusedError, match=r"x\[1\]: found .*finite") as caught:
        from_bytes(memoryview(raw), DATATYPES["FP32"], "x")

    assert caught.value.status == 400


def test_raw_booleans_other_than_0_and_1_are_refused():
    with pytest.raises(RefusedError, match="found the byte 2"):
        from_bytes(memoryview(b"\x00\x01\x02"), DATATYPES["BOOL"], "x")


@pytest.mark.parametrize("text", ["[[1,2],[3,4]]", "[1,2,3,4]", " [ [1, 2] , [3, 4] ] "])
def test_nested_and_flat_data_mean_the_same(text):
    found = read_json_data(msgspec.Raw(text.encode()), [2, 2], DATATYPES["INT32"], "x")

    assert found.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[1,2],[3]]", "a list of 1 at level 1, place 1"),
        ("[[1,2]]", "2 values, expected 4"),
        ("[1,2,3]", "3 values, expected 4"),
        ("[[[1,2]],[[3,4]]]", "Expected `int`, got `array`"),
        ("[1,2,[3],4]", "Expected `int`, got `array`"),
        ("[1,2,3,null]", "got `null`"),
        ("[1,2,3,4.5]", "got `float`"),
        ("[1,2,3,true]", "got `bool`"),
        ('["1",2,3,4]', "got `str`"),
        ("null", "found null"),
        ('"AAAA"', 'found "AAAA"'),
        ("{}", "found {}"),
        ("[" * 100_000, "expected a list of INT32"),
    ],
)
def test_data_that_does_not_fit_is_refused_in_words(text, complaint):
    with pytest.raises(RefusedError) as caught:
        read_json_data(msgspec.Raw(text.encode()), [2, 2], DATATYPES["INT32"], "inputs.x.data")

    assert complaint in caught.value.message
    assert caught.value.field.startswith("inputs.x.data")
    assert caught.value.status == 400


def test_text_is_not_served():
    with pytest.raises(UnsupportedError, match="cannot serve tensors of type"):
        datatype_of(np.dtype("U5"))


def test_texts_are_read_with_their_own_width():
    found = read_json_data(msgspec.Raw(b'[["a", "\xc3\xa9tudes"], ["", "b"]]'), [2, 2], DATATYPES["BYTES"], "x")

    assert found.tolist() == [["a", "études"], ["", "b"]]
    assert found.dtype.kind == "U"


def test_a_text_that_would_arrive_shorter_is_refused():
    with pytest.raises(RefusedError, match=r"x\[1\]: found 'b\\x00', expected BYTES: texts without"):
        from_numbers(["a", "b\0"], DATATYPES["BYTES"], "x")


@pytest.mark.parametrize("dtype", ["string", np.dtype(object), np.dtype("U7")])
def test_texts_are_inputs_alone(dtype):
    assert input_datatype_of(dtype).name == "BYTES"
    with pytest.raises(UnsupportedError, match="cannot serve tensors of type"):
        datatype_of(dtype)
