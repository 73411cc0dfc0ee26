import json
import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.serve.wire.interface import Interface, TensorField
from shoal.serve.wire.outputs import BatchOutputs
from shoal.serve.wire.protocol import AnswerWriter, InferAnswer, Protocol, parse_json_bytes
from shoal.serve.wire.refusal import RefusedError


@pytest.fixture
def protocol(interface):
    return Protocol(interface)


@pytest.fixture
def mixed():
    """Two inputs of different families, two outputs."""
    return Protocol(
        Interface(
            (TensorField("values", "FP32", (None, 2)), TensorField("flags", "BOOL", (None,))),
            (TensorField("total", "FP32", (None,)), TensorField("class", "INT64", (None,))),
            batched=True,
        )
    )


def tensor(**changes):
    return {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2], "data": [1, 2, 3, 4]} | changes


def body(*tensors, **fields):
    return json.dumps({"inputs": list(tensors), **fields}).encode()


def refused(protocol, data, json_bytes=None):
    with pytest.raises(RefusedError) as caught:
        protocol.decode(data, json_bytes)
    assert caught.value.status == 400
    assert caught.value.field
    assert caught.value.found
    assert caught.value.expected
    return caught.value


def test_flat_json_becomes_an_array_of_the_right_type(protocol):
    call = protocol.decode(body(tensor(shape=[2, 2, 2], data=list(range(8))), id="mine"))

    (array,) = call.arrays
    assert array.dtype == np.uint8
    assert array.tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert (call.num_rows, call.id, call.wishes) == (2, "mine", ((0, False),))


def test_nested_json_is_taken_too(protocol):
    call = protocol.decode(body(tensor(data=[[[1, 2], [3, 4]]])))

    assert call.arrays[0].tolist() == [[[1, 2], [3, 4]]]


def test_inputs_of_different_families_come_in_the_models_order(mixed):
    flags = {"name": "flags", "datatype": "BOOL", "shape": [1], "data": [True]}
    values = {"name": "values", "datatype": "FP32", "shape": [1, 2], "data": [1, 2.5]}

    call = mixed.decode(body(flags, values))

    assert [array.tolist() for array in call.arrays] == [[[1, 2.5]], [True]]


def test_json_and_binary_inputs_can_be_mixed(mixed):
    flags = {"name": "flags", "datatype": "BOOL", "shape": [2], "parameters": {"binary_data_size": 2}}
    values = {"name": "values", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}
    text = body(values, flags)

    call = mixed.decode(text + b"\x01\x00", len(text))

    assert call.arrays[1].tolist() == [True, False]


def test_wishes_choose_outputs_and_their_form(mixed):
    flags = {"name": "flags", "datatype": "BOOL", "shape": [1], "data": [True]}
    values = {"name": "values", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    wishes = [{"name": "class", "parameters": {"binary_data": True}}, {"name": "total"}]

    assert mixed.decode(body(flags, values, outputs=wishes)).wishes == ((1, True), (0, False))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "picture"}, "inputs.picture"),
        ({"datatype": "FP32"}, "inputs.image.datatype"),
        ({"datatype": "uint8"}, "inputs.image.datatype"),
        ({"shape": [1, 4]}, "inputs.image.shape"),
        ({"shape": [0, 2, 2], "data": []}, "inputs.image.shape"),
        ({"shape": [-1, 2, 2]}, "inputs.image.shape"),
        ({"shape": [2, 2, 2]}, "inputs.image.data"),
        ({"data": [1, 2, 3]}, "inputs.image.data"),
        ({"data": [1, 2, 3, 300]}, "inputs.image.data[3]"),
        ({"data": [1, -1, 3, 4]}, "inputs.image.data[1]"),
        ({"data": [1, 2, 3, 4.0]}, "inputs.image.data"),
        ({"data": [1, 2, 3, True]}, "inputs.image.data"),
        ({"data": [1, 2, 3, "4"]}, "inputs.image.data"),
        ({"data": None}, "inputs.image.data"),
        ({"data": 7}, "inputs.image.data"),
        ({"shape": "1,2,2"}, "inputs[0].shape"),
        ({"shape": [1.5, 2, 2]}, "inputs[0].shape[0]"),
        ({"name": 5}, "inputs[0].name"),
        ({"parameters": {"binary_data_size": 4}}, "inputs.image.data"),
    ],
)
def test_a_wrong_tensor_is_refused_by_name(protocol, changes, field):
    assert refused(protocol, body(tensor(**changes))).field == field


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"null",
        b"[]",
        b"7",
        b'"text"',
        b"{}",
        b'{"inputs": {}}',
        b'{"inputs": []}',
        b'{"inputs": [7]}',
        b'{"inputs": [{}]}',
        b"\xff\xfe\x00",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"inputs": ' * 10_000,
        b'{"inputs": [{"name": "\xff", "datatype": "UINT8", "shape": [1], "data": [1]}]}',
        b'{"inputs": [], "id": 7}',
        b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1,2,2], "data": [1,2,3,NaN]}]}',
        b'{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1,2,2], "data": [1,2,3,4]}]} x',
    ],
    ids=lambda data: repr(data[:20]),
)
def test_a_body_that_is_no_request_is_refused(protocol, data):
    refused(protocol, data)


def test_a_missing_input_is_named(mixed):
    flags = {"name": "flags", "datatype": "BOOL", "shape": [1], "data": [True]}

    assert refused(mixed, body(flags)).field == "inputs.values"


def test_an_input_given_twice_is_refused(protocol):
    assert "twice" in refused(protocol, body(tensor(), tensor())).message


def test_inputs_of_different_rows_are_refused(mixed):
    flags = {"name": "flags", "datatype": "BOOL", "shape": [2], "data": [True, False]}
    values = {"name": "values", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}

    assert refused(mixed, body(flags, values)).field == "inputs.flags.shape"


@pytest.mark.parametrize(
    "fields",
    [
        {"outputs": [{"name": "scroes"}]},
        {"outputs": [{"name": "scores"}, {"name": "scores"}]},
        {"outputs": [{"name": "scores", "parameters": {"binary_data": "yes"}}]},
        {"parameters": {"binary_data_output": 1}},
        {"outputs": 5},
    ],
)
def test_wrong_wishes_are_refused(protocol, fields):
    refused(protocol, body(tensor(), **fields))


@pytest.mark.parametrize("size", [3, 5, -4, 4.0, "4", True, 10**30])
def test_a_binary_size_that_does_not_match_the_shape_is_refused(protocol, size):
    raw = tensor(parameters={"binary_data_size": size})
    del raw["data"]
    text = body(raw)

    assert refused(protocol, text + b"\1\2\3\4", len(text)).field.endswith("binary_data_size")


@pytest.mark.parametrize(
    ("tail", "field"), [(b"\1\2\3", "binary_data_size"), (b"", "binary_data_size"), (b"12345", "body")]
)
def test_a_binary_tail_of_another_length_is_refused(protocol, tail, field):
    raw = tensor(parameters={"binary_data_size": 4})
    del raw["data"]
    text = body(raw)

    assert refused(protocol, text + tail, len(text)).field.endswith(field)


def test_neither_data_nor_size_is_refused(protocol):
    raw = tensor()
    del raw["data"]

    assert "neither data nor" in refused(protocol, body(raw)).message


def test_more_json_than_there_is_body_is_refused(protocol):
    assert refused(protocol, body(tensor()), 10_000).field == "Inference-Header-Content-Length"


def test_binary_data_behind_the_json_without_its_header_is_refused(protocol):
    raw = tensor(parameters={"binary_data_size": 4})
    del raw["data"]

    refused(protocol, body(raw) + b"\1\2\3\4")


@pytest.mark.parametrize("header", [b"-1", b"abc", b"", b"1e3", b"9" * 19, b"\xb2"])
def test_a_header_that_is_no_length_is_refused(header):
    with pytest.raises(RefusedError, match="Inference-Header-Content-Length"):
        parse_json_bytes(header)


def test_an_absent_header_means_all_json():
    assert parse_json_bytes(None) is None


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_nothing_but_refusals_comes_of_garbage(interface, data):
    with pytest.raises(RefusedError):
        Protocol(interface).decode(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["name", "datatype", "shape", "data", "parameters"]), JSON)
def test_any_json_in_any_field_is_answered_or_refused(interface, field, value):
    data = body(tensor(**{field: value}))

    try:
        status = len(Protocol(interface).decode(data).arrays)
    except RefusedError as error:
        status = error.status

    assert status in (1, 400)


def outputs_of(array, **arguments):
    return BatchOutputs([array], **{"batched": True} | arguments).rows(0, len(array))


def test_an_answer_in_json_says_who_answered(protocol):
    answer = InferAnswer("fashion", "3", "mine", {"prediction_id": "fashion@3.x.0"}, [])

    text, json_bytes = protocol.encode(answer, outputs_of(np.array([[0.25, 0.5, 0.25]], np.float32)), ((0, False),))

    assert json_bytes is None
    assert json.loads(text) == {
        "model_name": "fashion",
        "model_version": "3",
        "id": "mine",
        "parameters": {"prediction_id": "fashion@3.x.0"},
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [1, 3], "data": [0.25, 0.5, 0.25]}],
    }


def test_an_answer_in_binary_has_the_raw_tensor_behind_its_json(protocol):
    answer = InferAnswer("fashion", "3", "", {}, [])

    data, json_bytes = protocol.encode(answer, outputs_of(np.array([[1, 2, 3]], np.float32)), ((0, True),))

    assert msgspec.json.decode(data[:json_bytes])["outputs"][0]["parameters"] == {"binary_data_size": 12}
    assert struct.unpack("<3f", data[json_bytes:]) == (1, 2, 3)


def test_an_output_that_json_cannot_carry_is_a_422(protocol):
    outputs = outputs_of(np.array([[1, np.nan, 3]], np.float32))

    with pytest.raises(RefusedError, match=r"output scores is not finite") as caught:
        protocol.encode(InferAnswer("fashion", "3", "", {}, []), outputs, ((0, False),))

    assert caught.value.status == 422
    protocol.encode(InferAnswer("fashion", "3", "", {}, []), outputs, ((0, True),))


WORDS = Protocol(Interface((TensorField("city", "BYTES", (None,)),), (), batched=True))


def raw_texts(raw, *, num_texts=2):
    city = {"name": "city", "datatype": "BYTES", "shape": [num_texts], "parameters": {"binary_data_size": len(raw)}}
    text = body(city)
    return text + raw, len(text)


def test_texts_come_in_json_or_with_their_lengths():
    city = {"name": "city", "datatype": "BYTES", "shape": [2], "data": ["Rom", "Łódź"]}
    raw = b"\3\0\0\0Rom" + b"\7\0\0\0" + "Łódź".encode()

    assert WORDS.decode(body(city)).arrays[0].tolist() == ["Rom", "Łódź"]
    assert WORDS.decode(*raw_texts(raw)).arrays[0].tolist() == ["Rom", "Łódź"]
    assert refused(WORDS, body(city | {"data": ["Rom", 3]})).field == "inputs.city.data"


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"Rom", "inputs.city.data[0]"),
        (b"\3\0\0\0Ro", "inputs.city.data[0]"),
        (b"\xff\xff\xff\xffRom", "inputs.city.data[0]"),
        (b"\1\0\0\0a\1\0\0\0\xff", "inputs.city.data[1]"),
        (b"\1\0\0\0a\1\0\0\0\0", "inputs.city.data[1]"),
        (b"\1\0\0\0a", "inputs.city.data"),
        (b"\1\0\0\0a" * 3, "inputs.city.data"),
    ],
)
def test_raw_texts_whose_lengths_are_wrong_are_refused(raw, field):
    assert refused(WORDS, *raw_texts(raw)).field == field


@pytest.mark.parametrize("size", [-1, True, 1.0, "3", 10**30])
def test_raw_texts_of_an_impossible_size_are_refused(size):
    city = {"name": "city", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": size}}
    text = body(city)

    assert refused(WORDS, text + b"\0\0\0\0", len(text)).field == "inputs.city.parameters.binary_data_size"


@pytest.mark.parametrize(("name", "value"), [("classification", 3), ("shared_memory_region", "mine")])
def test_what_would_change_an_output_is_refused_and_not_ignored(protocol, name, value):
    data = body(tensor(), outputs=[{"name": "scores", "parameters": {name: value}}])

    assert refused(protocol, data).field == f"outputs.scores.parameters.{name}"


def test_a_sequence_is_refused_because_models_keep_no_state(protocol):
    data = body(tensor(), parameters={"sequence_id": 7, "sequence_start": True})

    assert refused(protocol, data).field == "parameters.sequence_id"


def test_an_answer_may_have_a_form_of_its_own(protocol):
    class Shout(AnswerWriter):
        def encode(self, answer, outputs):
            return f"{answer.model_name}!".encode(), None

    assert protocol.encode(InferAnswer("m", "1", "", {}, []), None, Shout()) == (b"m!", None)
