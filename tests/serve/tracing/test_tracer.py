import threading

import pytest

from shoal.serve.records.metrics import Metrics
from shoal.serve.tracing.tracer import Tracer
from shoal.serve.wire.trace_context import TraceContext

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = {b"traceparent": f"00-{TRACE}-{SPAN}-01".encode()}
QUIET_CALLER = {b"traceparent": f"00-{TRACE}-{SPAN}-00".encode()}
PLACE = TraceContext(TRACE, "b" * 16, SPAN, is_sampled=True)


class Kept:
    """An exporter that keeps what it is given, or fails as it is told."""

    def __init__(self) -> None:
        self.passages, self.failure, self.is_closed = [], None, False
        self.may_go = threading.Event()
        self.may_go.set()

    def export(self, passages) -> bool:
        self.may_go.wait(30)
        if isinstance(self.failure, Exception):
            raise self.failure
        self.passages += passages
        return self.failure is None

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def kept():
    return Kept()


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def make_tracer(kept, metrics):
    made = []

    def make_tracer(**options):
        made.append(Tracer(lambda: kept, metrics, every_s=0.005, **options))
        return made[-1]

    yield make_tracer
    kept.may_go.set()
    for tracer in made:
        tracer.close()


@pytest.mark.parametrize(("headers", "is_sampled"), [(CALLER, True), (QUIET_CALLER, False)])
@pytest.mark.parametrize("path", ["/v2/models/m/infer", "/metrics"])
def test_a_caller_decides_for_its_own_requests(make_tracer, headers, is_sampled, path):
    place = make_tracer(sample=1.0 if is_sampled else 0.0).place(headers, path)

    assert (place.trace_id, place.parent_id, place.is_sampled) == (TRACE, SPAN, is_sampled)


@pytest.mark.parametrize("path", ["/v2/models/m/infer", "/predict", "/inference.GRPCInferenceService/ModelInfer"])
def test_a_prediction_that_brings_no_context_begins_a_trace(make_tracer, path):
    assert make_tracer().place({}, path).parent_id is None
    assert make_tracer(sample=0.0).place({}, path) is None


def test_probes_and_scrapes_begin_none(make_tracer):
    assert make_tracer().place({}, "/v2/health/ready") is None


def test_what_is_recorded_is_exported(make_tracer, kept, make_passage, eventually):
    tracer = make_tracer()

    tracer.note(make_passage(trace=PLACE))
    tracer.note(make_passage())
    tracer.note(make_passage(trace=TraceContext(TRACE, "c" * 16, SPAN, is_sampled=False)))

    eventually(lambda: kept.passages)
    tracer.close()
    assert [passage.trace for passage in kept.passages] == [PLACE]
    assert kept.is_closed


def test_a_slow_collector_bounds_what_waits_and_the_loss_is_counted(
    make_tracer, kept, metrics, make_passage, eventually
):
    kept.may_go.clear()
    tracer = make_tracer(most_waiting=3)
    tracer.note(make_passage(trace=PLACE))
    eventually(lambda: not tracer._waiting)

    for _ in range(10):
        tracer.note(make_passage(trace=PLACE))

    assert len(tracer._waiting) == 3
    assert metrics.lost_traces == 7


@pytest.mark.parametrize("failure", ["refused", RuntimeError("a mistake of the library")])
def test_what_the_collector_does_not_take_is_counted(make_tracer, kept, metrics, make_passage, eventually, failure):
    kept.failure = failure
    tracer = make_tracer()
    tracer.note(make_passage(trace=PLACE))
    eventually(lambda: tracer._losses)

    kept.failure = None
    tracer.note(make_passage(trace=PLACE))

    assert metrics.lost_traces == 1
    eventually(lambda: kept.passages)
