import errno
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from shoal.serve.records.metrics import Metrics
from shoal.serve.records.request_lines import RequestLines, line_of
from shoal.serve.wire.trace_context import TraceContext


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def open_lines(tmp_path, metrics):
    opened = []

    def open_lines(path=None, **options):
        opened.append(RequestLines(path or tmp_path / "lines", metrics, every_s=0.005, **options))
        return opened[-1]

    yield open_lines
    for lines in opened:
        lines.close()


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_line_says_what_was_asked_and_where_the_time_went(make_passage, open_lines, tmp_path):
    trace = TraceContext("a" * 32, "b" * 16, None, is_sampled=True)
    lines = open_lines(front=2)

    lines.note(make_passage(trace=trace))
    lines.close()

    assert read(tmp_path / "lines") == [
        {
            "time": "2025-10-09T08:53:20.250000Z",
            "front": 2,
            "protocol": "http",
            "method": "POST",
            "path": "/v2/models/fashion/infer",
            "status": 200,
            "bytes_in": 300,
            "bytes_out": 120,
            "total_ms": 10.0,
            "client": "10.0.0.7",
            "model": "fashion",
            "version": "3",
            "request_id": "customer 7",
            "prediction_id": "fashion@3.x7k2p9.12",
            "rows": 2,
            "queue_ms": 2.0,
            "model_ms": 5.0,
            "batch_rows": 8,
            "replica": 1,
            "trace_id": "a" * 32,
        }
    ]


def test_a_refused_request_has_a_line_without_what_it_never_had(make_passage, open_lines, tmp_path):
    lines = open_lines()

    lines.note(make_passage(ran=None, status=503, client=""))
    lines.close()

    (line,) = read(tmp_path / "lines")
    assert line["status"] == 503
    assert not {"model", "prediction_id", "queue_ms", "client", "trace_id"} & line.keys()


def test_an_answer_from_the_cache_ran_in_no_batch(make_passage):
    kept = replace(make_passage().ran, batch_rows=0, replica=None, model_s=0.0)

    line = line_of(make_passage(ran=kept))

    assert (line.model_ms, line.batch_rows, line.replica, line.rows) == (None, None, None, 2)


@pytest.mark.parametrize("text", ['"\n\\', "Łódź", "\ud800", "\x00", "x" * 5000, "Ł" * 5000])
def test_what_a_client_writes_makes_one_line_of_bounded_length(make_passage, open_lines, tmp_path, text):
    lines = open_lines()

    lines.note(make_passage(path=text, method=text, ran=replace(make_passage().ran, request_id=text)))
    lines.close()

    (line,) = read(tmp_path / "lines")
    assert line["request_id"][:1] in (text[:1], "?")
    assert len((tmp_path / "lines").read_bytes()) <= 4096


def test_lines_are_written_in_order_without_waiting_for_the_end(make_passage, open_lines, tmp_path, eventually):
    lines = open_lines()

    for status in range(200, 260):
        lines.note(make_passage(status=status))

    eventually(lambda: len(read(tmp_path / "lines")) == 60)
    assert [line["status"] for line in read(tmp_path / "lines")] == list(range(200, 260))


def test_a_file_that_was_moved_is_opened_anew(make_passage, open_lines, tmp_path, eventually):
    lines = open_lines()
    lines.note(make_passage(status=200))
    eventually(lambda: len(read(tmp_path / "lines")) == 1)

    (tmp_path / "lines").rename(tmp_path / "lines.1")
    lines.note(make_passage(status=201))

    eventually(lambda: len(read(tmp_path / "lines")) == 1)
    assert [line["status"] for line in read(tmp_path / "lines.1")] == [200]
    assert [line["status"] for line in read(tmp_path / "lines")] == [201]


def test_a_file_that_was_cut_to_nothing_goes_on_at_its_start(make_passage, open_lines, tmp_path, eventually):
    lines = open_lines()
    lines.note(make_passage(status=200))
    eventually(lambda: len(read(tmp_path / "lines")) == 1)

    os.truncate(tmp_path / "lines", 0)
    lines.note(make_passage(status=201))

    eventually(lambda: [line["status"] for line in read(tmp_path / "lines")] == [201])


def test_it_is_opened_anew_when_it_is_told_to(make_passage, open_lines, tmp_path, eventually):
    lines = open_lines()
    lines.note(make_passage(status=200))
    eventually(lambda: len(read(tmp_path / "lines")) == 1)

    lines.reopen()
    lines.note(make_passage(status=201))

    eventually(lambda: [line["status"] for line in read(tmp_path / "lines")] == [200, 201])
    assert not lines._wants_reopening


def test_a_folder_that_is_gone_loses_nothing_once_it_is_back(make_passage, open_lines, tmp_path, eventually, caplog):
    path = tmp_path / "logs" / "lines"
    lines = open_lines(path)
    lines.note(make_passage())
    eventually(lambda: lines.failure)

    path.parent.mkdir()

    eventually(lambda: len(read(path)) == 1)
    eventually(lambda: lines.failure is None)
    assert caplog.text.count("they wait") == 1


def test_a_full_disk_never_reaches_the_client_and_the_loss_is_counted(make_passage, open_lines, metrics, eventually):
    lines = open_lines(Path("/dev/full"), most_bytes=2000)

    for _ in range(10):
        lines.note(make_passage())

    eventually(lambda: lines.failure)
    assert os.strerror(errno.ENOSPC) in lines.failure
    assert 0 < metrics.lost_lines < 10
    assert lines._held_bytes <= 2000
    lines.close()
    assert metrics.lost_lines == 10


PROGRAM = """
import resource, signal, sys, time
from dataclasses import replace
from pathlib import Path
from shoal.serve.records.metrics import Metrics
from shoal.serve.records.passage import Passage, Ran
from shoal.serve.records.request_lines import RequestLines
path = Path(sys.argv[1])
"""


def test_several_processes_append_whole_lines(tmp_path, make_passage):
    path = tmp_path / "lines"
    program = f"""{PROGRAM}
lines = RequestLines(path, Metrics(), front=int(sys.argv[2]), every_s=0.001)
for _ in range(3000):
    lines.note({make_passage()!r})
lines.close()
"""
    running = [subprocess.Popen([sys.executable, "-c", program, path, str(front)]) for front in range(3)]

    assert [each.wait(120) for each in running] == [0, 0, 0]

    fronts = [line["front"] for line in read(path)]
    assert [fronts.count(front) for front in range(3)] == [3000] * 3


def test_a_line_that_a_full_disk_tore_is_written_whole_when_there_is_room(tmp_path, make_passage):
    # A limit on the size of files takes a part of a write, as a full disk does; it is a process's own, hence another.
    path = tmp_path / "lines"
    program = f"""{PROGRAM}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (700, hard))
lines = RequestLines(path, Metrics(), every_s=0.001)
for status in range(200, 204):
    lines.note(replace({make_passage()!r}, status=status))
while lines.failure is None:
    time.sleep(0.001)
assert path.stat().st_size == 700
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
lines.close()
"""
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    found = path.read_text().splitlines()
    assert [json.loads(line)["status"] for line in found if line.endswith("}")] == [200, 201, 202, 203]
    assert len(found) == 5


def test_a_pipe_gets_pieces_that_others_cannot_fall_into(make_passage, open_lines, tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    found = b""
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    lines = open_lines(path)
    for _ in range(50):
        lines.note(make_passage())
    closing = threading.Thread(target=lines.close)
    closing.start()
    closing.join()

    while data := os.read(reader, 1 << 20):
        found += data
    os.close(reader)

    assert found.count(b"\n") == 50
    assert all(json.loads(line) for line in found.splitlines())


def test_a_pipe_that_nobody_reads_holds_up_nobody(make_passage, open_lines, tmp_path, metrics, eventually):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    lines = open_lines(path)

    lines.note(make_passage())

    eventually(lambda: lines.failure)
    lines.close()
    assert metrics.lost_lines == 1
