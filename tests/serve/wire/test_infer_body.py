import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.serve.wire import infer_body
from shoal.serve.wire.infer_body import reader_for
from shoal.serve.wire.interface import Interface, TensorField
from shoal.serve.wire.protocol import Protocol
from shoal.serve.wire.refusal import RefusedError

TYPES = ["FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]


def interface_of(*inputs, batched=True):
    return Interface(inputs, (TensorField("out", "FP32", (None, 2)),), batched=batched)


def in_python(interface):
    protocol = Protocol(interface)
    protocol._read_ordinary = None
    return protocol


def body(*tensors, **members):
    return json.dumps({"inputs": list(tensors), **members}).encode()


IMAGE = interface_of(TensorField("image", "FP32", (None, 2, 2)))
PAIR = interface_of(TensorField("a", "FP64", (None,)), TensorField("b", "INT32", (None, 3)))


def entry(**changes):
    return {"name": "image", "shape": [1, 2, 2], "datatype": "FP32", "data": [1, 2.5, -3e2, 0.1]} | changes


def test_an_ordinary_request_becomes_arrays():
    found = reader_for(IMAGE)(body(entry(), id="mine"))

    assert found is not None
    (array,) = found.arrays
    assert (found.id, found.num_rows, array.dtype) == ("mine", 1, np.float32)
    np.testing.assert_array_equal(array, np.array([[[1, 2.5], [-300, 0.1]]], np.float32))


@pytest.mark.parametrize(
    "text",
    [
        b'{"id":"x","inputs":[{"data":[[[1,2],[3,4]]],"datatype":"FP32","name":"image","shape":[1,2,2]}]}',
        b' {\n"inputs" : [ { "name":"image" , "shape" : [ 1 , 2,2 ],"datatype":"FP32","data":[ 1 , 2 ,3, 4 ] } ] } \n',
    ],
    ids=["the list first, nested", "blanks"],
)
def test_order_and_blanks_do_not_matter(text):
    found = reader_for(IMAGE)(text)

    assert found is not None
    assert found.arrays[0].ravel().tolist() == [1, 2, 3, 4]


def test_several_inputs_come_in_the_order_of_the_model():
    found = reader_for(PAIR)(
        body(
            {"name": "b", "shape": [2, 3], "datatype": "INT32", "data": [1, 2, 3, 4, 5, 6]},
            {"name": "a", "shape": [2], "datatype": "FP64", "data": [0.1, 1e-7]},
        )
    )

    assert found is not None
    assert [array.tolist() for array in found.arrays] == [[0.1, 1e-7], [[1, 2, 3], [4, 5, 6]]]
    assert (found.id, found.num_rows) == (None, 2)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        body(),
        body(entry(), outputs=[]),
        body(entry(), parameters={}),
        body(entry(parameters={})),
        body(entry(), entry()),
        body(entry(), id='qu"ote'),
        body(entry(), id="ü"),
        body(entry(), id=None),
        body(entry(name="other")),
        body(entry(datatype="FP64")),
        body(entry(shape=[1, 4])),
        body(entry(shape=[0, 2, 2], data=[])),
        body(entry(shape=[2, 2, 2])),
        body(entry(shape=[10**18, 2, 2])),
        body(entry(shape=[1, 2, 2, 1])),
        body(entry(data=[1, 2, 3])),
        body(entry(data=[1, 2, 3, 4, 5])),
        body(entry(data=[1, 2, 3, None])),
        body(entry(data=[1, 2, 3, True])),
        body(entry(data=[1, 2, 3, "4"])),
        body(entry(data=[1, 2, 3, 1e39])),
        body(entry(data=[1, 2, 3, 1e-45])),
        body(entry(data=[1, 2, 3, float("nan")])),
        body(entry(data=[[[1, 2, 3, 4]]])),
        body(entry(data=[[[1], [2, 3, 4]]])),
        body(entry()) + b"x",
        body(entry())[:-1],
        body(entry()).replace(b"2.5", b"02.5"),
        body(entry()).replace(b"2.5", b"2."),
        body(entry()).replace(b"2.5", b".5"),
        body(entry()).replace(b"2.5", b"+2.5"),
        body(entry()).replace(b"2.5", b"2.5,"),
        body(entry()).replace(b'"data"', b'"data": [1], "data"'),
        b'{"inputs":[{"name":"image","shape":[1,2,2],"datatype":"FP32"}]}',
    ],
)
def test_whatever_is_out_of_the_ordinary_is_left_to_python(text):
    assert reader_for(IMAGE)(text) is None


@pytest.mark.parametrize("number", ["1.0", "1e0", "-1", "256", "01", "9999999999999999999"])
def test_whole_numbers_must_be_written_as_such_and_fit(number):
    text = b'{"inputs":[{"name":"x","shape":[1],"datatype":"UINT8","data":[%s]}]}' % number.encode()

    assert reader_for(interface_of(TensorField("x", "UINT8", (None,))))(text) is None


@pytest.mark.parametrize(
    "inputs",
    [
        [TensorField("x", "BOOL", (None,))],
        [TensorField("x", "BYTES", (None,))],
        [TensorField("x", "FP16", (None,))],
        [TensorField("x", "FP32", (None, None))],
        [TensorField("x", "FP32", ())],
        [TensorField(f"x{i}", "FP32", (None,)) for i in range(40)],
    ],
    ids=["truths", "texts", "halves", "sizes that vary", "no size", "many"],
)
def test_what_the_loops_have_no_room_for_has_no_reader(inputs):
    assert reader_for(interface_of(*inputs)) is None


def test_without_a_compiler_python_reads_all(monkeypatch):
    monkeypatch.setattr(infer_body, "_compiled", None)

    assert reader_for(IMAGE) is None
    assert Protocol(IMAGE).decode(body(entry())).num_rows == 1


def test_a_model_of_one_fixed_size_has_one_row():
    interface = interface_of(TensorField("x", "INT64", (3,)), batched=False)

    found = reader_for(interface)(body({"name": "x", "shape": [3], "datatype": "INT64", "data": [1, 2, 3]}))

    assert found is not None
    assert found.num_rows == 1
    assert found.arrays[0].tolist() == [1, 2, 3]


numbers = st.one_of(
    st.integers(-(2**64), 2**64).map(str),
    st.integers(-300, 300).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"-?[0-9]{1,25}(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)


@given(datatype=st.sampled_from(TYPES), values=st.lists(numbers, min_size=1, max_size=4))
def test_it_reads_what_python_reads_or_nothing(datatype, values):
    interface = interface_of(TensorField("x", datatype, (None,)))
    text = b'{"inputs":[{"name":"x","shape":[%d],"datatype":"%s","data":[%s]}]}' % (
        len(values),
        datatype.encode(),
        ",".join(values).encode(),
    )

    found = reader_for(interface)(text)

    if found is None:
        return
    # A number that is beyond the type, or none, is refused there: nothing refused may be read here.
    (expected,) = in_python(interface).decode(text).arrays
    assert found.arrays[0].tobytes() == expected.tobytes()
    assert found.arrays[0].shape == expected.shape


GOOD = body(entry(), id="mine")


@given(
    cut=st.integers(0, len(GOOD)),
    width=st.integers(0, 4),
    put=st.one_of(
        st.binary(max_size=4), st.sampled_from([b"[", b"]", b",", b'"', b"{", b"}", b"0", b"-", b" ", b"e1"])
    ),
)
def test_a_damaged_request_is_never_read_as_another(cut, width, put):
    text = GOOD[:cut] + put + GOOD[cut + width :]

    found = reader_for(IMAGE)(text)

    if found is None:
        return
    try:
        call = in_python(IMAGE).decode(text)
    except RefusedError as refused:
        pytest.fail(f"{text!r} was read, and is refused: {refused.message}")
    assert (found.id, found.num_rows) == (call.id, call.num_rows)
    assert found.arrays[0].tobytes() == call.arrays[0].tobytes()
