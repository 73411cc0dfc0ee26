import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from shoal.serve.batching.admission import AdmissionLimits

SERVICE = "/inference.GRPCInferenceService/"
Status = grpc.StatusCode


class Asker:
    """gRPC's own client, with messages as they are on the wire."""

    def __init__(self, target, **options):
        self.channel = grpc.insecure_channel(target, [("grpc.use_local_subchannel_pool", 1)])

    def ask(self, method, request=None, answer=None, metadata=None, timeout=20, path=SERVICE, **options):
        data = request.SerializeToString() if request is not None else b""
        found = self.channel.unary_unary(path + method)(data, timeout=timeout, metadata=metadata, **options)
        return answer.FromString(found) if answer is not None else found

    def fail(self, *arguments, **options):
        with pytest.raises(grpc.RpcError) as caught:
            self.ask(*arguments, **options)
        return caught.value


@pytest.fixture
def asker():
    opened = []

    def open_asker(door):
        opened.append(Asker(door.target))
        return opened[-1]

    yield open_asker
    for each in opened:
        each.channel.close()


def infer_request(rows=1, model="m", **fields):
    image = np.arange(rows * 4, dtype=np.uint8)
    tensor = pb.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=[rows, 2, 2])
    return pb.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[image.tobytes()], **fields)


def test_health_and_metadata(door, asker):
    asker = asker(door)

    assert asker.ask("ServerLive", answer=pb.ServerLiveResponse).live
    assert asker.ask("ServerReady", answer=pb.ServerReadyResponse).ready
    assert asker.ask("ModelReady", pb.ModelReadyRequest(name="m"), pb.ModelReadyResponse).ready
    assert asker.ask("ServerMetadata", answer=pb.ServerMetadataResponse).name == "shoal"
    found = asker.ask("ModelMetadata", pb.ModelMetadataRequest(name="m"), pb.ModelMetadataResponse)
    assert [each.name for each in found.inputs] == ["image"]
    (entry,) = asker.ask("RepositoryIndex", answer=pb.RepositoryIndexResponse).models
    assert (entry.name, entry.state) == ("m", "READY")
    config = asker.ask("ModelConfig", pb.ModelConfigRequest(name="m"), pb.ModelConfigResponse).config
    assert config.name == "m"


def test_without_replicas_nothing_is_ready(open_door, asker):
    asker = asker(open_door())

    assert not asker.ask("ServerReady", answer=pb.ServerReadyResponse).ready
    assert not asker.ask("ModelReady", pb.ModelReadyRequest(name="m"), pb.ModelReadyResponse).ready
    index = asker.ask("RepositoryIndex", pb.RepositoryIndexRequest(ready=True), pb.RepositoryIndexResponse)
    assert not index.models


def test_orchestrators_ask_for_health_without_a_key(open_door, asker):
    door = open_door(key="secret")
    asker = asker(door)

    def check(service):
        return asker.ask("Check", pb.ModelReadyRequest(name=service), path="/grpc.health.v1.Health/")

    assert check("") == check("m") == b"\x08\x02"
    door.add_replica()
    assert check("") == check("m") == check("inference.GRPCInferenceService") == b"\x08\x01"
    unknown = asker.fail("Check", pb.ModelReadyRequest(name="other"), path="/grpc.health.v1.Health/")
    assert unknown.code() == Status.NOT_FOUND


def test_a_prediction_is_logged_counted_and_named(door, asker):
    asker = asker(door)

    found = asker.ask("ModelInfer", infer_request(2, id="mine"), pb.ModelInferResponse)
    nameless = asker.ask("ModelInfer", infer_request(), pb.ModelInferResponse)
    stats = asker.ask("ModelStatistics", answer=pb.ModelStatisticsResponse).model_stats[0]

    assert (found.model_name, found.model_version, found.id) == ("m", "1", "mine")
    assert np.frombuffer(found.raw_output_contents[0], np.float32).tolist() == [6.0] * 3 + [22.0] * 3
    assert found.parameters["prediction_id"].string_param.startswith("m@1.")
    assert nameless.id
    assert (stats.inference_count, stats.inference_stats.success.count) == (3, 2)
    assert door.house.metrics.answers[200] == 3


def test_typed_contents_are_answered_in_kind(door, asker):
    request = infer_request()
    del request.raw_input_contents[:]
    request.inputs[0].contents.uint_contents.extend([1, 2, 3, 4])

    found = asker(door).ask("ModelInfer", request, pb.ModelInferResponse)

    assert list(found.outputs[0].contents.fp32_contents) == [10.0] * 3


def test_every_mistake_has_its_code_and_says_what_to_do(door, asker):
    asker = asker(door)
    wrong = infer_request()
    wrong.inputs[0].datatype = "FP32"

    field = asker.fail("ModelInfer", wrong)
    model = asker.fail("ModelInfer", infer_request(model="other"))
    version = asker.fail("ModelInfer", infer_request(model_version="9"))
    method = asker.fail("SystemSharedMemoryStatus")
    load = asker.fail("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="x"))
    statistics = asker.fail("ModelStatistics", pb.ModelStatisticsRequest(name="other"))

    assert field.code() == Status.INVALID_ARGUMENT
    assert field.details() == (
        "inputs.image.datatype: found 'FP32', expected 'UINT8'; next: send inputs.image.datatype as 'UINT8'"
    )
    assert {model.code(), version.code(), statistics.code()} == {Status.NOT_FOUND}
    assert {method.code(), load.code()} == {Status.UNIMPLEMENTED}
    assert "x" in load.details()
    assert "ModelInfer" in method.details()


def test_without_the_key_nothing_is_told(open_door, asker):
    asker = asker(open_door(key="secret"))
    with_key = [("authorization", "Bearer secret")]

    assert asker.fail("ModelMetadata", pb.ModelMetadataRequest(name="m")).code() == Status.UNAUTHENTICATED
    assert asker.fail("NoSuchMethod").code() == Status.UNAUTHENTICATED
    assert asker.ask("ServerMetadata", metadata=with_key)
    assert asker.ask("ServerMetadata", metadata=[("x-api-key", "secret")])
    assert asker.ask("ServerLive")


def test_a_busy_server_says_when_to_come_back(open_door, asker, eventually):
    door = open_door(limits=AdmissionLimits(most_requests=1))
    door.add_replica(is_quick=False)
    asker = asker(door)
    waiting = asker.channel.unary_unary(f"{SERVICE}ModelInfer").future(infer_request().SerializeToString())
    eventually(lambda: door.tell(lambda: door.house.dispatcher.num_open))

    refused = asker.fail("ModelInfer", infer_request())
    waiting.cancel()

    assert refused.code() == Status.UNAVAILABLE
    trailers = dict(refused.trailing_metadata())
    assert int(trailers["grpc-retry-pushback-ms"]) > 0
    assert int(trailers["retry-after"]) > 0


def test_a_draining_server_refuses_predictions(door, asker):
    asker = asker(door)
    asker.ask("ServerLive")
    door.house.desk.is_draining = True

    assert asker.fail("ModelInfer", infer_request()).code() == Status.UNAVAILABLE
    assert not asker.ask("ServerReady", answer=pb.ServerReadyResponse).ready


def test_a_call_past_its_deadline_ends_and_is_not_run(open_door, asker):
    door = open_door()
    asker = asker(door)

    ended = asker.fail("ModelInfer", infer_request(), timeout=0.3)

    assert ended.code() == Status.DEADLINE_EXCEEDED
    door.add_replica()
    asker.ask("ModelInfer", infer_request())
    assert door.house.metrics.of(door.house.served.key).rows == 1


def test_a_cancelled_call_that_waits_is_not_run(open_door, asker, eventually):
    door = open_door()
    asker = asker(door)
    future = asker.channel.unary_unary(f"{SERVICE}ModelInfer").future(infer_request().SerializeToString())
    eventually(lambda: door.tell(lambda: door.house.dispatcher.num_open))
    future.cancel()
    eventually(lambda: not any(each.is_busy for each in door.tell(lambda: list(door.house.desk.connections))))

    door.add_replica()
    asker.ask("ModelInfer", infer_request())

    assert door.house.metrics.of(door.house.served.key).rows == 1


def test_a_timeout_that_is_sure_to_pass_is_refused_at_once(open_door, asker):
    door = open_door()
    door.add_replica(is_quick=False)

    refused = asker(door).fail("ModelInfer", infer_request(), metadata=[("x-timeout-us", "1")])

    assert refused.code() == Status.UNAVAILABLE


def test_priorities_are_read(door, asker):
    asker = asker(door)
    wish = {"priority": pb.InferParameter(int64_param=1)}

    assert asker.ask("ModelInfer", infer_request(parameters=wish))
    wrong = asker.fail("ModelInfer", infer_request(parameters={"priority": pb.InferParameter(int64_param=77)}))
    assert wrong.code() == Status.INVALID_ARGUMENT


def test_compressed_messages_are_taken(door, asker):
    asker = asker(door)

    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        found = asker.ask("ModelInfer", infer_request(50), pb.ModelInferResponse, compression=compression)
        assert list(found.outputs[0].shape) == [50, 3]


def test_a_message_beyond_the_limit_is_refused(open_door, asker):
    door = open_door(most_body_bytes=10_000)
    door.add_replica()
    asker = asker(door)

    assert asker.fail("ModelInfer", infer_request(3_000)).code() == Status.RESOURCE_EXHAUSTED
    assert asker.ask("ModelInfer", infer_request(2_000))


def test_large_messages_go_both_ways(open_door, asker):
    door = open_door(most_body_bytes=16 << 20)
    door.add_replica()
    channel = grpc.insecure_channel(door.target, [("grpc.max_receive_message_length", -1)])

    data = channel.unary_unary(f"{SERVICE}ModelInfer")(infer_request(1_000_000).SerializeToString())
    found = pb.ModelInferResponse.FromString(data)
    channel.close()

    assert len(found.raw_output_contents[0]) == 12_000_000


def test_many_calls_share_a_connection(door, asker):
    infer = asker(door).channel.unary_unary(f"{SERVICE}ModelInfer")

    futures = [infer.future(infer_request(id=f"id{number}").SerializeToString()) for number in range(1000)]

    assert [pb.ModelInferResponse.FromString(each.result(60)).id for each in futures] == [
        f"id{number}" for number in range(1000)
    ]
