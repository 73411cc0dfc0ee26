"""No room for the logs of several fronts: every request is answered, what is not logged is counted, nothing is torn."""

import resource
import shutil
import subprocess
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
from onnx import TensorProto
from prometheus_client.parser import text_string_to_metric_families

from shoal.base import open_log
from shoal.serve import Client, start
from shoal.serve.links.channel import Loaded
from shoal.serve.records.journal import Journal
from shoal.serve.records.metrics import Metrics
from shoal.serve.versions.models import Models

PARTS = [[np.zeros((2, 2, 2), np.uint8)]]
SCORES = [np.zeros((2, 3), np.float32)]
ROW_BYTES = 1 << 16


@contextmanager
def no_room(num_bytes=0):
    """No file of this process may grow beyond so many bytes: the system refuses as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def served(interface):
    return Models().add(Loaded("m", "1", "/1", interface, [], "classification"))


@pytest.fixture
def fronts(served, tmp_path):
    """The journals of two fronts that log side by side."""
    journals = [Journal(tmp_path, Metrics(), front=front, num_fronts=2) for front in (0, 1)]
    for journal in journals:
        journal.open(served)
    yield journals
    for journal in journals:
        journal.close()


def write(journal, served):
    prefix, row = journal.write(served, 2, PARTS, SCORES)
    return [f"{prefix}.{row + at}" for at in range(2)]


def logged(folder):
    return [row for _, batch in open_log(folder).read() for row in batch["prediction_id"].to_pylist()]


# The order of the fronts' rows is shorter than their segments: between 8 and 14 bytes it is torn in its second record.
@pytest.mark.parametrize("num_bytes", [0, *range(6, 15), 2000])
def test_what_was_answered_on_a_full_disk_is_logged_once_when_there_is_room(fronts, served, tmp_path, num_bytes):
    ids = [each for journal in fronts for each in write(journal, served)]
    for journal in fronts:
        journal.flush()
    with no_room(num_bytes):
        for _ in range(3):
            for journal in fronts:
                ids += write(journal, served)
                journal.flush()
                journal.sync()

    for journal in fronts:
        ids += write(journal, served)
        assert journal.flush() is None
        assert journal.sync() is None

    found = logged(tmp_path / "m")
    assert sorted(found) == sorted(ids)
    assert len(set(found)) == len(found)


def test_what_no_longer_waits_for_room_is_counted_and_bears_other_ids(fronts, served, tmp_path, monkeypatch):
    monkeypatch.setattr("shoal.base.log._BACKLOG_BYTES", 1000)
    monkeypatch.setattr("shoal.serve.records.prediction_log._MOST_WAITING_ROWS", 2)
    kept, lost = [], []
    with no_room():
        for _ in range(50):
            for journal in fronts:
                before = journal._metrics.unlogged_rows
                ids = write(journal, served)
                (lost if journal._metrics.unlogged_rows > before else kept).extend(ids)
    for journal in fronts:
        assert journal.flush() is None
        assert journal.sync() is None

    assert sorted(logged(tmp_path / "m")) == sorted(kept)
    assert not set(kept) & set(lost)
    assert sum(journal._metrics.unlogged_rows for journal in fronts) == len(lost) > 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB, where mounting is permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "none", folder], check=False).returncode:
        pytest.skip("mounting is not permitted")
    yield folder
    subprocess.run([shutil.which("umount") or "umount", "-l", folder], check=True)


@pytest.mark.slow
def test_two_fronts_on_a_full_disk_answer_everything_and_count_what_they_do_not_log(small_disk, save_model, connect):
    model = save_model(
        "mean",
        [
            ("Cast", ["x"], ["floats"], {"to": TensorProto.FLOAT}),
            ("ReduceMean", ["floats"], ["mean"], {"axes": [1], "keepdims": 0}),
        ],
        [("x", TensorProto.UINT8, ["n", ROW_BYTES])],
        [("mean", TensorProto.FLOAT, ["n"])],
    )  # fmt: skip
    rows, ids = np.ones((16, ROW_BYTES), np.uint8), []
    with start(model, port=0, replicas=1, fronts=2, log_folder=small_disk) as server:
        # 64 MiB wait in each front before any row is given up; the kernel chooses the front by connection.
        for _ in range(20):
            with Client(server.url) as client:
                ids += [each for _ in range(16) for each in client.infer("mean", {"x": rows}).prediction_ids]
        _, _, text = connect(server.port).ask("GET", "/metrics")
        total = Counter()
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                total[sample.name] += sample.value
        logs = server.status()["logs"]

    assert len(set(ids)) == len(ids) == 20 * 16 * 16
    assert 0 < total["shoal_unlogged_rows_total"] <= len(ids)
    assert any(log["failure"] for log in logs)
    assert set(logged(small_disk / "mean")) <= set(ids)
