import json

import pytest

from shoal.serve.records.metrics import Metrics
from shoal.serve.records.request_lines import RequestLines
from shoal.serve.tracing.observer import Observer
from shoal.serve.tracing.tracer import Tracer
from shoal.serve.wire.trace_context import read_parent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = {b"traceparent": f"00-{TRACE}-{SPAN}-01".encode()}


class Kept:
    """An exporter that keeps what it is given."""

    def __init__(self) -> None:
        self.passages = []

    def export(self, passages) -> bool:
        self.passages += passages
        return True

    def close(self) -> None: ...


@pytest.fixture
def kept():
    return Kept()


@pytest.fixture
def make_observer(tmp_path, kept):
    made = []

    def make_observer(*, lines=True, traces=True):
        metrics = Metrics()
        made.append(
            Observer(
                RequestLines(tmp_path / "lines", metrics) if lines else None,
                Tracer(lambda: kept, metrics) if traces else None,
            )
        )
        return made[-1]

    yield make_observer
    for observer in made:
        observer.close()


def note(observer, make_passage, headers):
    passage = make_passage()
    return observer.note(
        protocol=passage.protocol,
        method=passage.method,
        path=passage.path,
        status=passage.status,
        client=passage.client,
        headers=headers,
        num_bytes_in=passage.num_bytes_in,
        num_bytes_out=passage.num_bytes_out,
        started_s=passage.started_s,
        ran=passage.ran,
    )


def test_a_line_names_the_trace_that_the_answer_leads_back_to(make_observer, kept, make_passage, tmp_path):
    observer = make_observer()

    back = note(observer, make_passage, CALLER)
    observer.close()

    (line,) = map(json.loads, (tmp_path / "lines").read_text().splitlines())
    (passage,) = kept.passages
    assert line["trace_id"] == TRACE
    assert passage.trace.parent_id == SPAN
    assert read_parent({b"traceparent": back})[:2] == (TRACE, passage.trace.span_id)


def test_who_brings_no_context_gets_none_back(make_observer, make_passage):
    assert note(make_observer(), make_passage, {}) == b""


def test_without_traces_a_context_is_left_alone(make_observer, kept, make_passage, tmp_path):
    observer = make_observer(traces=False)

    assert note(observer, make_passage, CALLER) == b""

    observer.close()
    assert "trace_id" not in json.loads((tmp_path / "lines").read_text())


def test_without_lines_there_is_no_file(make_observer, kept, make_passage, tmp_path):
    observer = make_observer(lines=False)

    note(observer, make_passage, CALLER)
    observer.reopen()
    observer.close()

    assert len(kept.passages) == 1
    assert list(tmp_path.iterdir()) == []
