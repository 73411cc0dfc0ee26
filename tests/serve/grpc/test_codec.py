import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from shoal.serve.grpc.codec import Codec
from shoal.serve.grpc.messages import read_infer_request
from shoal.serve.wire.interface import Interface, TensorField
from shoal.serve.wire.outputs import BatchOutputs
from shoal.serve.wire.protocol import InferAnswer
from shoal.serve.wire.refusal import RefusedError

INTERFACE = Interface(
    (TensorField("values", "FP32", (None, 2)), TensorField("flags", "BOOL", (None,))),
    (TensorField("total", "FP32", (None,)), TensorField("place", "INT64", (None, 2))),
    batched=True,
)


def tensor(name, datatype, shape, **fields):
    return pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape, **fields)


def wish(name, **parameters):
    return pb.ModelInferRequest.InferRequestedOutputTensor(
        name=name, parameters={each: pb.InferParameter(string_param=value) for each, value in parameters.items()}
    )


VALUES = tensor("values", "FP32", [2, 2])
FLAGS = tensor("flags", "BOOL", [2])
RAW = [np.arange(4, dtype=np.float32).tobytes(), b"\x01\x00"]


def decode(interface=INTERFACE, **fields):
    return Codec(interface).decode(read_infer_request(pb.ModelInferRequest(**fields).SerializeToString()))


def answer_of(call, arrays, start=0, stop=2):
    answer = InferAnswer("m", "1", "q", {"prediction_id": "m@1.x.0"}, [])
    body, json_bytes = call.wishes.encode(answer, BatchOutputs(arrays, batched=True).rows(start, stop))
    assert json_bytes is None
    return pb.ModelInferResponse.FromString(body)


def test_inputs_come_in_the_interface_s_order():
    call = decode(id="q", inputs=[FLAGS, VALUES], raw_input_contents=RAW[::-1])

    assert (call.id, call.num_rows) == ("q", 2)
    assert call.arrays[0].tolist() == [[0, 1], [2, 3]]
    assert call.arrays[1].tolist() == [True, False]


def test_a_raw_request_is_answered_in_raw_contents():
    call = decode(inputs=[VALUES, FLAGS], raw_input_contents=RAW)

    found = answer_of(call, [np.array([1, 2, 3], np.float32), np.arange(6).reshape(3, 2)], 1, 3)

    assert (found.model_name, found.model_version, found.id) == ("m", "1", "q")
    assert found.parameters["prediction_id"].string_param == "m@1.x.0"
    assert [(each.name, each.datatype, list(each.shape)) for each in found.outputs] == [
        ("total", "FP32", [2]),
        ("place", "INT64", [2, 2]),
    ]
    assert np.frombuffer(found.raw_output_contents[0], np.float32).tolist() == [2, 3]
    assert np.frombuffer(found.raw_output_contents[1], np.int64).tolist() == [2, 3, 4, 5]


def test_a_typed_request_is_answered_in_typed_contents():
    typed = [tensor("values", "FP32", [1, 2], contents=pb.InferTensorContents(fp32_contents=[1, 2])),
             tensor("flags", "BOOL", [1], contents=pb.InferTensorContents(bool_contents=[True]))]  # fmt: skip
    call = decode(inputs=typed, outputs=[wish("place"), wish("total")])

    found = answer_of(call, [np.array([1.5], np.float32), np.array([[-1, 300]])], 0, 1)

    assert call.id is None
    assert not found.raw_output_contents
    assert [each.name for each in found.outputs] == ["place", "total"]
    assert list(found.outputs[0].contents.int64_contents) == [-1, 300]
    assert list(found.outputs[1].contents.fp32_contents) == [1.5]


def test_what_has_no_typed_form_is_answered_raw():
    half = Interface((TensorField("x", "FP32", (None,)),), (TensorField("y", "FP16", (None,)),), batched=True)
    call = decode(half, inputs=[tensor("x", "FP32", [1], contents=pb.InferTensorContents(fp32_contents=[1]))])

    assert answer_of(call, [np.ones(1, np.float16)], 0, 1).raw_output_contents == [np.float16(1).tobytes()]


def test_a_model_for_one_size_has_one_row():
    fixed = Interface((TensorField("x", "FP32", (3,)),), (TensorField("y", "FP32", (3,)),), batched=False)

    assert decode(fixed, inputs=[tensor("x", "FP32", [3])], raw_input_contents=[bytes(12)]).num_rows == 1


def test_equal_wishes_share_a_writer_and_strange_ones_do_not_pile_up():
    many = Interface(
        INTERFACE.inputs, tuple(TensorField(f"y{number}", "FP32", (None,)) for number in range(200)), batched=True
    )
    codec = Codec(many)

    def writer(name):
        sent = pb.ModelInferRequest(inputs=[VALUES, FLAGS], raw_input_contents=RAW, outputs=[wish(name)])
        return codec.decode(read_infer_request(sent.SerializeToString())).wishes

    assert writer("y1") is writer("y1")
    for number in range(200):
        writer(f"y{number}")
    assert len(codec._writers) < 100


def test_batches_of_many_sizes_do_not_pile_up():
    call = decode(inputs=[VALUES, FLAGS], raw_input_contents=RAW)
    for rows in range(1, 600):
        answer_of(call, [np.zeros(rows, np.float32), np.zeros((rows, 2), np.int64)], 0, rows)

    assert len(call.wishes._heads) < 300


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"inputs": [VALUES], "raw_input_contents": RAW[:1]}, "inputs.flags"),
        ({"inputs": [VALUES, VALUES], "raw_input_contents": [RAW[0]] * 2}, "inputs.values"),
        ({"inputs": [tensor("other", "FP32", [1])], "raw_input_contents": [b""]}, "inputs.other"),
        ({"inputs": [tensor("values", "FP64", [2, 2])], "raw_input_contents": [b""]}, "inputs.values.datatype"),
        ({"inputs": [tensor("values", "FP32", [2, 3])], "raw_input_contents": [b""]}, "inputs.values.shape"),
        ({"inputs": [tensor("values", "FP32", [-2, 2])], "raw_input_contents": [b""]}, "inputs.values.shape"),
        (
            {"inputs": [VALUES, tensor("flags", "BOOL", [1])], "raw_input_contents": [RAW[0], b"\1"]},
            "inputs.flags.shape",
        ),
        ({"inputs": [VALUES, FLAGS], "raw_input_contents": RAW[:1]}, "raw_input_contents"),
        ({"inputs": [VALUES, FLAGS], "raw_input_contents": [b"123", b"45"]}, "inputs.values.raw_input_contents"),
        ({"inputs": [VALUES, FLAGS], "raw_input_contents": [RAW[0], b"\1\2"]}, "inputs.flags.raw_input_contents"),
        ({"inputs": [VALUES, FLAGS], "raw_input_contents": RAW, "outputs": [wish("none")]}, "outputs.none"),
        ({"inputs": [VALUES, FLAGS], "raw_input_contents": RAW, "outputs": [wish("total")] * 2}, "outputs.total"),
        (
            {"inputs": [VALUES, FLAGS], "raw_input_contents": RAW, "outputs": [wish("total", classification="3")]},
            "outputs.total.parameters.classification",
        ),
        (
            {"inputs": [VALUES, FLAGS], "raw_input_contents": RAW,
             "parameters": {"sequence_id": pb.InferParameter(int64_param=1)}},
            "parameters.sequence_id",
        ),
        (
            {"inputs": [tensor("values", "FP32", [2, 2], parameters={
                "shared_memory_region": pb.InferParameter(string_param="r")})], "raw_input_contents": [RAW[0]]},
            "inputs.values.parameters.shared_memory_region",
        ),
        ({"inputs": []}, "inputs.values"),
    ],
)  # fmt: skip
def test_what_the_model_would_not_see_as_meant_is_refused_by_its_name(fields, field):
    with pytest.raises(RefusedError) as caught:
        decode(**fields)

    assert (caught.value.status, caught.value.field) == (400, field)
