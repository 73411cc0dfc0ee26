import json
import struct

import jsonschema
import pytest

from shoal.serve.desk.schemas import infer_answer, infer_body, plain_body, row_schema, value_schema
from shoal.serve.wire.interface import Interface, TensorField
from shoal.serve.wire.plain import PlainForm
from shoal.serve.wire.protocol import Protocol
from shoal.serve.wire.refusal import RefusedError
from shoal.serve.wire.tensors import DATATYPES
from shoal.serve.wire.urgency import from_parameters

PEOPLE = Interface(
    (
        TensorField("x", "FP32", (None, 2)),
        TensorField("city", "BYTES", (None,)),
    ),
    (TensorField("y", "FP32", (None, 2)), TensorField("label", "INT64", (None,))),
    batched=True,
)
X = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2.5]}
CITY = {"name": "city", "datatype": "BYTES", "shape": [1], "data": ["Łódź"]}


def is_valid(schema, value):
    return jsonschema.Draft202012Validator(schema).is_valid(value)


def is_taken(read, value):
    try:
        read(json.dumps(value).encode())
    except RefusedError:
        return False
    return True


def takes(value):
    """Whether the server takes a request of the protocol."""

    def read(body):
        from_parameters(Protocol(PEOPLE).decode(body).parameters, None)

    return is_taken(read, value)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_has_a_schema(datatype):
    schema = value_schema(TensorField("x", datatype, ()))

    jsonschema.Draft202012Validator.check_schema(schema)
    assert value_schema(TensorField("x", datatype, ()), is_nullable=True)["type"] == [schema["type"], "null"]


@pytest.mark.parametrize(("datatype", "code"), [("FP16", "e"), ("FP32", "f"), ("FP64", "d")])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_float_that_is_rounded_to_the_largest_is_within_the_limits_and_what_is_beyond_is_not(datatype, code, sign):
    schema = value_schema(TensorField("x", datatype, ()))
    form = PlainForm(Interface((TensorField("x", datatype, (None,)),), (), batched=True))
    (largest,) = struct.unpack(code, {"e": b"\xff\x7b", "f": b"\xff\xff\x7f\x7f", "d": b"\xff" * 6 + b"\xef\x7f"}[code])
    values = [largest, 65519.9, 65520.0, 65536.0, 3.4028235677973362e38, 3.4028235677973366e38, 1e39, 1e308]

    for value in values:
        assert is_valid(schema, sign * value) == is_taken(form.decode, {"x": sign * value})


@pytest.mark.parametrize(
    "request_",
    [
        {"inputs": [X, CITY]},
        {"inputs": [CITY, X]},
        {"inputs": [X, CITY], "id": None, "outputs": None, "parameters": None},
        {"inputs": [X, CITY], "id": "", "outputs": [], "parameters": {}},
        {"inputs": [X | {"data": [[1, 2]]}, CITY], "more": 1},
        {"inputs": [X | {"parameters": None}, CITY | {"parameters": {"any": 1}}]},
        {"inputs": [X | {"parameters": {"binary_data_size": None}}, CITY]},
        {"inputs": [X, CITY], "outputs": [{"name": "label"}, {"name": "y", "parameters": {"binary_data": True}}]},
        {"inputs": [X, CITY], "outputs": [{"name": "y", "parameters": None, "more": 1}]},
        {"inputs": [X, CITY], "outputs": [{"name": "y", "parameters": {"classification": 0}}]},
        {"inputs": [X, CITY], "parameters": {"binary_data_output": True, "priority": 5, "timeout": 1, "any": []}},
        *({"inputs": [X, CITY], "parameters": {"sequence_id": off}} for off in (None, 0, "", False, [], {}, 0.0)),
    ],
)
def test_what_the_protocol_takes_is_in_its_schema(request_):
    assert takes(request_)
    assert is_valid(infer_body(PEOPLE), request_)


@pytest.mark.parametrize(
    "request_",
    [
        None,
        [],
        {},
        {"inputs": None},
        {"inputs": [X]},
        {"inputs": [X, CITY, CITY]},
        {"inputs": [X, CITY | {"name": "town"}]},
        {"inputs": [X | {"datatype": "FP64"}, CITY]},
        {"inputs": [X | {"shape": [0, 2], "data": []}, CITY]},
        {"inputs": [X | {"shape": [1, 3], "data": [1, 2, 3]}, CITY]},
        {"inputs": [X | {"shape": [2]}, CITY]},
        {"inputs": [X | {"shape": [1, 2, 1]}, CITY]},
        {"inputs": [X | {"shape": None}, CITY]},
        {"inputs": [X | {"data": None}, CITY]},
        {"inputs": [X | {"data": [1]}, CITY]},
        {"inputs": [X | {"data": [[1], [2]]}, CITY]},
        {"inputs": [X | {"data": ["1", "2"]}, CITY]},
        {"inputs": [X | {"data": [1, None]}, CITY]},
        {"inputs": [X | {"data": [1, True]}, CITY]},
        {"inputs": [X | {"data": [1, 1e39]}, CITY]},
        {"inputs": [X, CITY | {"data": ["a\0"]}]},
        {"inputs": [X | {"parameters": []}, CITY]},
        {"inputs": [X | {"parameters": {"binary_data_size": 8}}, CITY]},
        {"inputs": [{name: value for name, value in X.items() if name != "data"}, CITY]},
        {"inputs": [X, CITY], "id": 3},
        {"inputs": [X, CITY], "outputs": {}},
        {"inputs": [X, CITY], "outputs": ["y"]},
        {"inputs": [X, CITY], "outputs": [{"name": "z"}]},
        {"inputs": [X, CITY], "outputs": [{"name": "y"}] * 3},
        {"inputs": [X, CITY], "outputs": [{"name": "y", "parameters": {"binary_data": None}}]},
        {"inputs": [X, CITY], "outputs": [{"name": "y", "parameters": {"classification": 1}}]},
        {"inputs": [X, CITY], "outputs": [{"name": "y", "parameters": {"shared_memory_region": "a"}}]},
        {"inputs": [X, CITY], "parameters": {"binary_data_output": "yes"}},
        {"inputs": [X, CITY], "parameters": {"priority": 6}},
        {"inputs": [X, CITY], "parameters": {"priority": -1}},
        {"inputs": [X, CITY], "parameters": {"timeout": 10**15}},
        {"inputs": [X, CITY], "parameters": {"sequence_id": 7}},
        {"inputs": [X, CITY], "parameters": []},
    ],
)
def test_what_the_schema_forbids_is_refused(request_):
    assert not is_valid(infer_body(PEOPLE), request_)
    assert not takes(request_)


def test_answers_of_both_kinds_are_in_the_schema():
    schema = infer_answer(PEOPLE)
    label = {"name": "label", "datatype": "INT64", "shape": [1], "data": [3]}
    y = {"name": "y", "datatype": "FP32", "shape": [1, 2]}
    answer = {"model_name": "m", "model_version": "1", "id": "", "parameters": {"prediction_id": "m@1.x.0"}}

    assert is_valid(schema, answer | {"outputs": [label, y | {"data": [1.0, 2.0]}]})
    assert is_valid(schema, answer | {"outputs": [y | {"parameters": {"binary_data_size": 8}}]})
    assert not is_valid(schema, answer | {"outputs": [y]})
    assert not is_valid(schema, answer | {"outputs": [label | {"shape": [1, 1]}]})
    assert not is_valid(schema, answer | {"outputs": [label | {"data": [1.5]}]})


def test_null_is_in_the_schema_where_the_model_fills_nan_or_has_a_mask():
    fields = (
        TensorField("filled", "FP64", (None,), fills_nan=True),
        TensorField("plain", "FP64", (None,)),
        TensorField("masked", "INT64", (None,)),
        TensorField("masked_mask", "BOOL", (None,)),
        TensorField("wide", "FP32", (None, 2), fills_nan=True),
    )
    form = PlainForm(Interface(fields, (), batched=True))
    row = {"filled": 1, "plain": 1, "masked": 1, "wide": [1, 2]}

    for name in row:
        assert is_valid(row_schema(form), row | {name: None}) == (name != "plain")
        assert is_valid(row_schema(form), row | {name: None}) == is_taken(form.decode, row | {name: None})
    assert not is_valid(row_schema(form), row | {"wide": [1, None]})


def test_a_model_of_one_row_takes_one():
    form = PlainForm(Interface((TensorField("x", "INT8", (1,)),), (), batched=False))

    assert is_valid(plain_body(form), {"rows": [{"x": 1}]})
    assert not is_valid(plain_body(form), {"rows": [{"x": 1}] * 2})


def test_a_field_named_rows_leaves_no_list():
    form = PlainForm(Interface((TensorField("rows", "INT8", (None,)),), (), batched=True))

    assert is_valid(plain_body(form), {"rows": 1})
    assert not is_valid(plain_body(form), {"rows": [{"rows": 1}]})
