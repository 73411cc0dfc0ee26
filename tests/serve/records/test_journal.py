import errno
from dataclasses import dataclass

import numpy as np
import pytest

import shoal.store
from shoal.base import ConfigError, SegmentReader, ServeError, StorageFullError
from shoal.model import why
from shoal.serve.links.channel import Loaded
from shoal.serve.records.journal import Journal
from shoal.serve.records.log_rule import LogRule
from shoal.serve.records.metrics import Metrics
from shoal.serve.versions.models import Models
from shoal.serve.wire.interface import Interface, TensorField

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
        patch.setattr("shoal.serve.records.prediction_log.PredictionLog.append", refuse)
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
        patch.setattr("shoal.serve.records.prediction_log.PredictionLog.append", fail)
        patch.setattr("shoal.serve.records.prediction_log.PredictionLog.flush", fail)

        assert journal.write(served, 2, PARTS, SCORES)[1] == 0
        assert "Input/output error" in journal.flush()

    assert metrics.unlogged_rows == 2
    journal.close()


HALF = LogRule(0.5)
TAKEN = [id for id in map(str, range(100)) if HALF.takes(id)]
LEFT = [id for id in map(str, range(100)) if not HALF.takes(id)]


@dataclass
class Asked:
    request_id: str
    num_rows: int = 1


class Unread(list):
    """Inputs that nobody should look at."""

    def __iter__(self):
        raise AssertionError("they were read")


@pytest.fixture
def sampled(served, tmp_path):
    journal = Journal(tmp_path, Metrics(), rule=HALF)
    journal.open(served)
    yield journal
    journal.close()


def parts_of(*sizes):
    """Inputs and outputs of requests, whose rows are numbered."""
    rows = np.arange(sum(sizes))
    images = np.repeat(rows, 4).astype(np.uint8).reshape(-1, 2, 2)
    scores = np.repeat(rows, 3).astype(np.float32).reshape(-1, 3)
    return [np.split(images, np.cumsum(sizes)[:-1])], [scores]


def ids_of(places):
    return [f"{prefix}.{row}" for prefix, row in places]


def logged_rows(journal, folder):
    assert journal.flush() is None
    assert journal.sync() is None
    return [row for _, batch in SegmentReader(folder).read() for row in batch.to_pylist()]


def test_only_requests_that_the_rule_takes_are_logged_each_whole(served, sampled, tmp_path):
    requests = [Asked(LEFT[0], 2), Asked(TAKEN[0], 3), Asked(LEFT[1]), Asked(TAKEN[1])]

    ids = ids_of(sampled.write_sampled(served, requests, *parts_of(2, 3, 1, 1)))

    rows = logged_rows(sampled, tmp_path / "m")
    assert [row["image"][0] for row in rows] == [2, 3, 4, 6]
    assert [row["scores"][0] for row in rows] == [2, 3, 4, 6]
    assert [rows[0]["prediction_id"], rows[3]["prediction_id"]] == [ids[1], ids[3]]
    assert sampled._metrics.unsampled_rows == 3


def test_a_batch_that_is_taken_whole_is_logged_whole(served, sampled, tmp_path):
    ids = ids_of(sampled.write_sampled(served, [Asked(TAKEN[0]), Asked(TAKEN[1])], *parts_of(1, 1)))

    assert [row["prediction_id"] for row in logged_rows(sampled, tmp_path / "m")] == ids


def test_of_a_batch_that_is_left_out_nothing_is_read(served, sampled, tmp_path):
    (first, second) = sampled.write_sampled(served, [Asked(LEFT[0], 2), Asked(LEFT[1])], Unread(), Unread())

    assert logged_rows(sampled, tmp_path / "m") == []
    assert first[0] == second[0]
    assert (first[1], second[1]) == (0, 2)


def test_why_says_that_a_prediction_was_left_out_and_still_who_made_it(served, sampled, tmp_path):
    (id,) = ids_of(sampled.write_sampled(served, [Asked(LEFT[0])], *parts_of(1)))

    with shoal.store.open(tmp_path / ".shoal") as store:
        found = why(id, store, log_folder=tmp_path)

    assert found.model == "m@1"
    assert (found.time, found.input_shard, found.input_row, found.values) == (None, None, None, {})
    assert "the service logs a sample of its requests" in found.gaps[0]


def test_without_a_log_or_a_share_nothing_is_sampled(tmp_path):
    assert not Journal(None, Metrics(), rule=HALF).is_sampled
    assert not Journal(tmp_path, Metrics()).is_sampled


def test_rows_that_should_have_been_logged_and_were_not_are_not_called_left_out(served, sampled, monkeypatch):
    def refuse(*_):
        raise StorageFullError("no room", next_step="make room")

    monkeypatch.setattr("shoal.serve.records.prediction_log.PredictionLog.append", refuse)

    ids = ids_of(sampled.write_sampled(served, [Asked(TAKEN[0]), Asked(LEFT[0])], *parts_of(1, 1)))

    assert "unsampled" not in ids[0]
    assert "unsampled" in ids[1]
    assert (sampled._metrics.unlogged_rows, sampled._metrics.unsampled_rows) == (1, 1)


def test_the_status_tells_the_rule(served, tmp_path):
    journal = Journal(tmp_path, Metrics(), rule=LogRule(0.5, ("image",)))

    journal.open(served)

    assert (journal.status()[0]["sample"], journal.status()[0]["dropped"]) == (0.5, ["image"])
    journal.close()


def test_a_rule_for_a_field_that_is_not_there_logs_nothing_and_says_so(served, tmp_path):
    journal = Journal(tmp_path, Metrics(), rule=LogRule(drop=("pixels",)))

    with pytest.raises(ConfigError, match="'pixels'"):
        journal.open(served)

    assert "'pixels'" in journal.status()[0]["failure"]
    assert list(tmp_path.iterdir()) == []
