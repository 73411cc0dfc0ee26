import errno

import numpy as np
import pytest

from shoal.base import SegmentReader, ServeError, StorageFullError
from shoal.serve.channel import Loaded
from shoal.serve.interface import Interface, TensorField
from shoal.serve.journal import Journal
from shoal.serve.metrics import Metrics
from shoal.serve.models import Models

PARTS = [[np.zeros((1, 2, 2), np.uint8), np.ones((1, 2, 2), np.uint8)]]
SCORES = [np.zeros((2, 3), np.float32)]


@pytest.fixture
def served(interface):
    return Models().add(Loaded("m", "1", "/1", interface, [], "classification"))


def test_without_a_folder_ids_are_given_all_the_same(served):
    journal = Journal(None, Metrics())
    journal.open(served)

    first, second = journal.write(served, 2, PARTS, SCORES), journal.write(served, 2, PARTS, SCORES)

    assert first[0] == second[0]
    assert (first[1], second[1]) == (0, 2)
    assert journal.status() == []


def test_with_a_folder_rows_are_logged(served, tmp_path):
    journal = Journal(tmp_path, Metrics())
    journal.open(served)

    prefix, row = journal.write(served, 2, PARTS, SCORES)

    assert journal.flush() is None
    assert journal.sync() is None
    assert SegmentReader(tmp_path / "m").row(row + 1)["prediction_id"] == f"{prefix}.{row + 1}"
    assert journal.status()[0]["num_rows"] == 2
    journal.close()


def test_a_full_disk_fails_no_request_and_the_id_leads_to_no_other_row(served, tmp_path, monkeypatch, caplog):
    metrics = Metrics()
    journal = Journal(tmp_path, metrics)
    journal.open(served)
    logged, _ = journal.write(served, 2, PARTS, SCORES)

    def refuse(*_):
        raise StorageFullError("no room", next_step="make room")

    with monkeypatch.context() as patch:
        patch.setattr("shoal.serve.prediction_log.PredictionLog.append", refuse)
        unlogged, _ = journal.write(served, 2, PARTS, SCORES)

    assert unlogged != logged
    assert metrics.unlogged_rows == 2
    assert "not logged" in caplog.text
    assert journal.write(served, 2, PARTS, SCORES) == (logged, 2)
    journal.close()


def test_a_model_that_cannot_be_logged_is_served_and_the_reason_told(tmp_path, caplog):
    varying = Interface((TensorField("tokens", "INT64", (None, None)),), (), batched=True)
    served = Models().add(Loaded("m", "1", "/1", varying, [], "unknown"))
    journal = Journal(tmp_path, Metrics())

    journal.open(served)

    assert journal.write(served, 1, [[np.zeros((1, 5), np.int64)]], [])[1] == 0
    assert "sizes vary" in journal.status()[0]["failure"]


def test_versions_of_one_form_share_a_log(interface, tmp_path):
    models = Models()
    journal = Journal(tmp_path, Metrics())
    for version in ("1", "2"):
        journal.open(models.add(Loaded("m", version, "/x", interface, [], "classification")))

    rows = [journal.write(served, 2, PARTS, SCORES)[1] for served in models.versions.values()]

    assert rows == [0, 2]
    journal.close()


def test_a_folder_that_cannot_be_used_is_a_clear_error_and_stays_in_the_status(served, tmp_path):
    taken = tmp_path / "README.md"
    taken.touch()
    journal = Journal(taken, Metrics())

    with pytest.raises(ServeError, match=r"cannot log predictions of m in the folder .*README\.md"):
        journal.open(served)

    assert "README.md" in journal.status()[0]["failure"]
    assert journal.write(served, 2, PARTS, SCORES)[1] == 0


def test_a_disk_that_fails_fails_neither_request_nor_flush(served, tmp_path, monkeypatch):
    metrics = Metrics()
    journal = Journal(tmp_path, metrics)
    journal.open(served)

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("shoal.serve.prediction_log.PredictionLog.append", fail)
        patch.setattr("shoal.serve.prediction_log.PredictionLog.flush", fail)

        assert journal.write(served, 2, PARTS, SCORES)[1] == 0
        assert "Input/output error" in journal.flush()

    assert metrics.unlogged_rows == 2
    journal.close()
