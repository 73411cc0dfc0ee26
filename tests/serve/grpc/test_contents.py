import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from shoal.serve.grpc.contents import has_typed, read_raw, read_typed, write_raw, write_typed
from shoal.serve.grpc.messages import read_infer_request
from shoal.serve.wire.interface import TensorField
from shoal.serve.wire.refusal import RefusedError

TYPED = [
    ("BOOL", "bool_contents", np.array([True, False, True])),
    ("INT8", "int_contents", np.array([-128, 0, 127], np.int8)),
    ("INT16", "int_contents", np.array([-(2**15), 0, 2**15 - 1], np.int16)),
    ("INT32", "int_contents", np.array([-(2**31), 0, 2**31 - 1], np.int32)),
    ("INT64", "int64_contents", np.array([-(2**63), 0, 2**63 - 1], np.int64)),
    ("UINT8", "uint_contents", np.array([0, 127, 255], np.uint8)),
    ("UINT16", "uint_contents", np.array([0, 1, 2**16 - 1], np.uint16)),
    ("UINT32", "uint_contents", np.array([0, 1, 2**32 - 1], np.uint32)),
    ("UINT64", "uint64_contents", np.array([0, 1, 2**64 - 1], np.uint64)),
    ("FP32", "fp32_contents", np.array([0, -1.5, 3e38], np.float32)),
    ("FP64", "fp64_contents", np.array([0, -1.5, 1e300])),
]


def tensor_of(datatype, shape, **contents):
    sent = pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=shape)
    if contents:
        sent.contents.CopyFrom(pb.InferTensorContents(**contents))
    (tensor,) = read_infer_request(pb.ModelInferRequest(inputs=[sent]).SerializeToString()).inputs
    return tensor


def field(datatype):
    return TensorField("x", datatype, (None,))


def refused_by(read):
    with pytest.raises(RefusedError) as caught:
        read()
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(("datatype", "name", "values"), TYPED)
def test_typed_values_are_read(datatype, name, values):
    array = read_typed(tensor_of(datatype, [3], **{name: values.tolist()}), field(datatype))

    assert array.dtype == values.dtype
    np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize(("datatype", "name", "values"), TYPED)
def test_typed_values_are_written(datatype, name, values):
    written = pb.InferTensorContents.FromString(write_typed(values, datatype))

    np.testing.assert_array_equal(np.array(getattr(written, name), values.dtype), values)


@pytest.mark.parametrize(("datatype", "name", "values"), TYPED)
def test_raw_values_come_back(datatype, name, values):
    array = read_raw(tensor_of(datatype, [3]), field(datatype), memoryview(write_raw(values)))

    np.testing.assert_array_equal(array, values)


def test_texts_are_read_and_written_in_both_forms():
    texts = np.array(["a", "", "é€"])
    raw = serialize_byte_tensor(np.array([text.encode() for text in texts], object)).item()
    typed = tensor_of("BYTES", [3], bytes_contents=[text.encode() for text in texts])

    assert read_raw(tensor_of("BYTES", [3]), field("BYTES"), memoryview(raw)).tolist() == texts.tolist()
    assert read_typed(typed, field("BYTES")).tolist() == texts.tolist()
    assert [text.decode() for text in deserialize_bytes_tensor(write_raw(texts))] == texts.tolist()
    assert list(pb.InferTensorContents.FromString(write_typed(texts, "BYTES")).bytes_contents) == [
        text.encode() for text in texts
    ]


def test_nothing_is_written_as_nothing():
    assert write_typed(np.empty(0, np.int64), "INT64") == b""


@pytest.mark.parametrize(
    ("datatype", "name", "values", "found"),
    [
        ("UINT8", "uint_contents", [0, 256], "256"),
        ("INT8", "int_contents", [-1, -129], "-129"),
        ("INT8", "int_contents", [0, 128], "128"),
        ("UINT16", "uint_contents", [1, 2**32 - 1], str(2**32 - 1)),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_place(datatype, name, values, found):
    refused = refused_by(lambda: read_typed(tensor_of(datatype, [2], **{name: values}), field(datatype)))

    assert (refused.field, refused.found) == (f"inputs.x.contents.{name}[1]", found)


def test_a_value_that_is_not_finite_is_refused():
    refused = refused_by(lambda: read_typed(tensor_of("FP32", [2], fp32_contents=[0, float("nan")]), field("FP32")))

    assert refused.field == "inputs.x.contents.fp32_contents[1]"


def test_contents_of_another_type_are_refused():
    refused = refused_by(lambda: read_typed(tensor_of("FP32", [1], fp64_contents=[0.5]), field("FP32")))

    assert (refused.found, refused.expected) == ("fp64_contents", "fp32_contents")


def test_another_number_of_values_is_refused():
    assert refused_by(lambda: read_typed(tensor_of("FP32", [3], fp32_contents=[1]), field("FP32"))).found == "1 values"
    assert refused_by(lambda: read_typed(tensor_of("FP32", [1]), field("FP32"))).found == "0 values"
    refused_by(lambda: read_raw(tensor_of("FP32", [3]), field("FP32"), memoryview(b"1234")))
    refused_by(lambda: read_raw(tensor_of("BYTES", [3]), field("BYTES"), memoryview(b"1234")))


def test_contents_beside_raw_ones_are_refused():
    tensor = tensor_of("FP32", [1], fp32_contents=[1])

    assert refused_by(lambda: read_raw(tensor, field("FP32"), memoryview(bytes(4)))).field == "inputs.x.contents"


def test_half_precision_is_raw_alone():
    assert not has_typed("FP16")
    refused_by(lambda: read_typed(tensor_of("FP16", [1], fp32_contents=[1]), field("FP16")))


@pytest.mark.parametrize("text", [b"\xff", b"a\0b"])
def test_texts_that_no_model_takes_are_refused(text):
    refused = refused_by(lambda: read_typed(tensor_of("BYTES", [2], bytes_contents=[b"good", text]), field("BYTES")))

    assert refused.field == "inputs.x.contents.bytes_contents[1]"


def test_contents_that_cannot_be_read_are_refused_by_their_name():
    # A packed list that ends within a number.
    inner = b"\x22\x01\x80"
    data = b"\x0a\x01x\x12\x05UINT8\x1a\x01\x01\x2a" + bytes([len(inner)]) + inner
    (tensor,) = read_infer_request(b"\x2a" + bytes([len(data)]) + data).inputs

    assert refused_by(lambda: read_typed(tensor, field("UINT8"))).field == "inputs.x.contents.uint_contents"
