import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as pb

from shoal.serve.grpc import messages
from shoal.serve.wire.refusal import RefusedError


def request_of(**fields):
    return pb.ModelInferRequest(**fields)


def tensor(name="image", datatype="UINT8", shape=(1, 2), **fields):
    return pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape, **fields)


def test_a_whole_request_is_read():
    sent = request_of(
        model_name="m",
        model_version="2",
        id="é",
        parameters={
            "flag": pb.InferParameter(bool_param=True),
            "number": pb.InferParameter(int64_param=-5),
            "text": pb.InferParameter(string_param="t"),
        },
        inputs=[tensor(), tensor("other", shape=[-1, 300])],
        outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="scores")],
        raw_input_contents=[b"ab", b""],
    )

    found = messages.read_infer_request(b"12345" + sent.SerializeToString(), 5)

    assert (found.model_name, found.model_version, found.id) == ("m", "2", "é")
    assert found.parameters == {"flag": True, "number": -5, "text": "t"}
    assert [(each.name, each.datatype, each.shape) for each in found.inputs] == [
        ("image", "UINT8", (1, 2)),
        ("other", "UINT8", (-1, 300)),
    ]
    assert [(wish.name, wish.parameters) for wish in found.outputs] == [("scores", {})]
    assert [bytes(raw) for raw in found.raw] == [b"ab", b""]


def test_parameters_of_tensors_and_contents_are_read():
    sent = tensor(
        parameters={"p": pb.InferParameter(double_param=0.5), "u": pb.InferParameter(uint64_param=2**64 - 1)}
        if "uint64_param" in pb.InferParameter.DESCRIPTOR.fields_by_name
        else {"p": pb.InferParameter(int64_param=1)},
        contents=pb.InferTensorContents(int_contents=[1, 2], bool_contents=[True]),
    )

    (found,) = messages.read_infer_request(request_of(inputs=[sent]).SerializeToString()).inputs

    assert set(found.parameters) <= {"p", "u"}
    assert found.parameters
    assert [field[0] for field in found.contents[1]] == [1, 2]


def test_unknown_fields_are_passed_over():
    data = request_of(model_name="m").SerializeToString() + b"\xfa\x3f\x01x" + b"\x80\x40\x07"

    assert messages.read_infer_request(data).model_name == "m"


@pytest.mark.parametrize(
    "data",
    [b"\x0a\x05ab", b"\x08\x01", b"\x0a\x01\xff", b"\x38\x01", b"\x2a\x02\x08\x01", b"\x22\x02\x08\x01", b"\x28\x01",
     b"\x22\x05\x12\x03\x0a\x01x"],
)  # fmt: skip
def test_what_is_no_request_is_refused(data):
    with pytest.raises(RefusedError) as caught:
        messages.read_infer_request(data)

    assert (caught.value.status, caught.value.field) == (400, "message")


@given(st.binary(max_size=120))
def test_garbage_is_read_or_refused(data):
    for read in (messages.read_infer_request, messages.read_name, messages.read_index_request, messages.read_wish):
        with contextlib.suppress(RefusedError):
            read(data)


def test_names_are_read():
    assert messages.read_name(pb.ModelReadyRequest(name="m", version="3").SerializeToString()) == ("m", "3")
    assert messages.read_name(b"") == ("", "")
    assert messages.read_index_request(pb.RepositoryIndexRequest(ready=True).SerializeToString()) == ("", True)


@pytest.mark.parametrize("read", [messages.read_name, messages.read_index_request])
def test_a_wrong_name_is_refused(read):
    with pytest.raises(RefusedError):
        read(b"\x0a\x02\xff\xff")


@pytest.mark.parametrize("data", [b"\x12\x02\xff\xff", b"\x1a\x02\x0a\x05", b"\x18\x01"])
def test_what_is_no_wish_is_refused(data):
    with pytest.raises(RefusedError):
        messages.read_wish(data)


def test_a_wish_is_read_with_the_names_of_its_parameters():
    load = pb.RepositoryModelLoadRequest(repository_name="r", model_name="m")
    load.parameters["config"].string_param = "{}"
    load.parameters["file:1/model.onnx"].bytes_param = b"bytes"
    unload = pb.RepositoryModelUnloadRequest(model_name="m")
    unload.parameters["unload_dependents"].bool_param = True

    model, names = messages.read_wish(load.SerializeToString())

    assert (model, sorted(names)) == ("m", ["config", "file:1/model.onnx"])
    assert messages.read_wish(unload.SerializeToString()) == ("m", ["unload_dependents"])
    assert messages.read_wish(b"") == ("", [])


def test_answers_of_a_stream_are_read_by_another_implementation():
    answer = pb.ModelInferResponse(model_name="m", id="q", parameters={"x": pb.InferParameter(int64_param=1)})

    good = pb.ModelStreamInferResponse.FromString(messages.put_streamed(answer.SerializeToString()))
    bad = pb.ModelStreamInferResponse.FromString(messages.put_streamed_error("it is wrong", "q"))

    assert (good.error_message, good.infer_response.id, good.infer_response.model_name) == ("", "q", "m")
    assert set(good.infer_response.parameters) == {"x", "triton_final_response"}
    assert (bad.error_message, bad.infer_response.id) == ("it is wrong", "q")
    assert bad.infer_response.parameters["triton_final_response"].bool_param


def test_flags_and_metadata_are_read_by_another_implementation():
    server = pb.ServerMetadataResponse.FromString(
        messages.put_server_metadata({"name": "s", "version": "1", "extensions": ["a", "b"]})
    )
    fields = [{"name": "x", "datatype": "FP32", "shape": [-1, 300]}]
    model = pb.ModelMetadataResponse.FromString(
        messages.put_model_metadata(
            {"name": "m", "versions": ["1", "2"], "platform": "p", "inputs": fields, "outputs": fields * 2}
        )
    )

    assert pb.ServerLiveResponse.FromString(messages.put_flag(True)).live
    assert not pb.ServerReadyResponse.FromString(messages.put_flag(False)).ready
    assert (server.name, server.version, list(server.extensions)) == ("s", "1", ["a", "b"])
    assert (model.name, list(model.versions), model.platform) == ("m", ["1", "2"], "p")
    assert list(model.inputs[0].shape) == [-1, 300]
    assert len(model.outputs) == 2


def test_the_index_statistics_and_configuration_are_read_by_another_implementation():
    index = pb.RepositoryIndexResponse.FromString(
        messages.put_index([{"name": "m", "version": "1", "state": "READY", "reason": ""}])
    )
    took = {"success": {"count": 3, "ns": 70}, "compute_infer": {"count": 2, "ns": 0}}
    counted = {"name": "m", "version": "1", "inference_count": 5, "execution_count": 2, "inference_stats": took}
    stats = pb.ModelStatisticsResponse.FromString(messages.put_statistics([counted]))
    tensors = [{"name": "x", "data_type": "TYPE_STRING", "dims": [-1, 2]}]
    config = pb.ModelConfigResponse.FromString(
        messages.put_model_config(
            {"name": "m", "platform": "p", "backend": "b", "max_batch_size": 8, "input": tensors, "output": tensors,
             "version_policy": {"specific": {"versions": ["7", "candidate"]}}}
        )
    ).config  # fmt: skip

    assert (index.models[0].name, index.models[0].state) == ("m", "READY")
    assert stats.model_stats[0].inference_stats.success.ns == 70
    assert (stats.model_stats[0].inference_count, stats.model_stats[0].execution_count) == (5, 2)
    assert (config.max_batch_size, config.backend) == (8, "b")
    assert list(config.version_policy.specific.versions) == [7]
    assert (config.input[0].data_type, list(config.input[0].dims)) == (13, [-1, 2])
    assert list(config.output[0].dims) == [-1, 2]


def test_parameters_are_read_by_another_implementation():
    written = messages.put_parameters(4, {"text": "é", "no": False, "zero": 0, "number": -7, "other": 0.5})
    found = pb.ModelInferResponse.FromString(written).parameters

    assert found["text"].string_param == "é"
    assert found["no"].WhichOneof("parameter_choice") == "bool_param"
    assert found["zero"].WhichOneof("parameter_choice") == "int64_param"
    assert found["number"].int64_param == -7
    assert found["other"].string_param == "0.5"
