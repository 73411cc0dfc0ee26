import msgspec
import numpy as np
import pytest

import shoal.data
import shoal.store
from shoal.base import (
    ConfigError,
    ConflictError,
    SegmentReader,
    StorageFullError,
    UnsupportedError,
    open_log,
    parse_prediction_id,
)
from shoal.model import why
from shoal.serve.records.log_rule import LogRule
from shoal.serve.records.prediction_log import PredictionLog
from shoal.serve.wire.interface import Interface, TensorField

IMAGES = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
SCORES = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]], np.float32)


@pytest.fixture
def log(tmp_path, interface):
    log = PredictionLog(tmp_path, "fashion", interface, model_kind="classification")
    yield log
    log.close()


def test_an_id_leads_to_the_row_with_what_went_in_and_came_out(log):
    log.append("3", 2, [[IMAGES]], [SCORES])
    prefix, row = log.append("4", 2, [[IMAGES]], [SCORES])
    log.flush()
    log.sync()

    place = parse_prediction_id(f"{prefix}.{row + 1}")
    found = SegmentReader(log.folder).row(place.row)

    assert (place.model, place.version, place.row) == ("fashion", "4", 3)
    assert (found["prediction_id"], found["version"]) == (str(place), "4")
    np.testing.assert_array_equal(np.reshape(found["image"], (2, 2)), IMAGES[1])
    np.testing.assert_allclose(np.reshape(found["scores"], 3), SCORES[1])
    assert found["time_us"] > 1.7e15


def test_the_log_says_what_its_columns_are(log):
    log.append("3", 2, [[IMAGES]], [SCORES])
    log.flush()
    log.sync()

    _, batch = next(SegmentReader(log.folder).read())

    assert msgspec.json.decode(batch.schema.metadata[b"shoal"]) == {
        "model": "fashion",
        "kind": "classification",
        "inputs": ["image"],
        "outputs": ["scores"],
    }
    assert batch.schema.names == ["prediction_id", "version", "time_us", "image", "scores"]


def test_rows_go_on_where_an_earlier_server_stopped(log, tmp_path, interface):
    log.append("3", 2, [[IMAGES]], [SCORES])
    log.close()

    with_successor = PredictionLog(tmp_path, "fashion", interface, model_kind="classification")

    assert with_successor.append("3", 2, [[IMAGES]], [SCORES])[1] == 2
    with_successor.close()


def test_two_servers_cannot_write_one_log(log, tmp_path, interface):
    with pytest.raises(ConflictError):
        PredictionLog(tmp_path, "fashion", interface, model_kind="classification")


def test_other_columns_get_a_log_beside(log, tmp_path):
    other = Interface((TensorField("text", "INT64", (None,)),), (TensorField("ok", "BOOL", (None,)),), batched=True)
    assert not log.fits("fashion", other)

    with_other = PredictionLog(tmp_path, "fashion", other, model_kind="unknown")
    with_other.append("5", 3, [[np.array([7, 8]), np.array([9])]], [np.array([True, False, True])])
    with_other.flush()
    with_other.sync()

    assert with_other.folder.name.startswith("fashion-")
    found = [SegmentReader(with_other.folder).row(row) for row in range(3)]
    assert [(row["text"], row["ok"]) for row in found] == [(7, True), (8, False), (9, True)]
    with_other.close()


def test_a_model_without_batches_logs_its_one_row(tmp_path):
    fixed = Interface((TensorField("x", "FP32", (1, 2)),), (TensorField("y", "FP32", (3,)),), batched=False)
    log = PredictionLog(tmp_path, "fixed", fixed, model_kind="unknown")

    log.append("1", 1, [[np.ones((1, 2), np.float32)]], [np.zeros(3, np.float32)])
    log.flush()
    log.sync()

    found = SegmentReader(log.folder).row(0)
    assert np.ravel(found["x"]).tolist() == [1, 1]
    assert np.ravel(found["y"]).tolist() == [0, 0, 0]
    log.close()


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (TensorField("tokens", "INT64", (None, None)), "sizes vary"),
        (TensorField("version", "INT64", (None,)), "named as a column of the log"),
    ],
)
def test_what_cannot_be_logged_is_told(tmp_path, field, reason):
    with pytest.raises(UnsupportedError, match=reason):
        PredictionLog(tmp_path, "m", Interface((field,), (), batched=True), model_kind="unknown")


def test_rows_of_many_batches_are_written_together_in_order(log):
    for number in range(300):
        log.append(str(number), 2, [[IMAGES[:1], IMAGES[1:]]], [SCORES])
    log.flush()
    log.sync()

    reader = SegmentReader(log.folder)

    assert log.num_rows == reader.num_rows == 600
    found = parse_prediction_id(reader.row(401)["prediction_id"])
    assert (found.model, found.version, found.row) == ("fashion", "200", 401)
    assert found.log_id.startswith(reader.log_id)
    np.testing.assert_array_equal(reader.row(401)["image"], IMAGES[1])


def test_rows_that_a_full_disk_holds_up_keep_their_numbers(log, monkeypatch):
    def refuse(*_):
        raise StorageFullError("no room", next_step="make room")

    with monkeypatch.context() as patch:
        patch.setattr("shoal.base.SegmentLog.append", refuse)
        _, first = log.append("3", 2, [[IMAGES]], [SCORES])
        with pytest.raises(StorageFullError):
            log.flush()
        _, second = log.append("3", 2, [[IMAGES]], [SCORES])
    log.flush()
    log.sync()

    assert (first, second) == (0, 2)
    assert SegmentReader(log.folder).num_rows == 4


def test_a_row_number_that_is_given_twice_never_gives_the_same_id_twice(tmp_path, interface):
    prefixes = []
    for _ in range(2):
        log = PredictionLog(tmp_path, "fashion", interface, model_kind="classification")
        prefix, row = log.append("1", 2, [[IMAGES]], [SCORES])
        prefixes.append(prefix)
        # As after a SIGKILL: what waited in memory never reached the log.
        log._waiting.clear()
        log._num_waiting = 0
        log.close()

    assert row == 0
    assert prefixes[0] != prefixes[1]


def test_texts_are_logged_as_texts(tmp_path):
    city = TensorField("city", "BYTES", (None,))
    words = Interface((city,), (TensorField("scores", "FP32", (None, 3)),), batched=True)
    log = PredictionLog(tmp_path, "rentals", words, model_kind="classification")

    log.append("1", 2, [[np.array(["Łódź"]), np.array([""])]], [SCORES])
    log.close()

    assert [SegmentReader(log.folder).row(row)["city"] for row in range(2)] == ["Łódź", ""]


def test_several_texts_a_row_are_not_logged(tmp_path):
    words = Interface((TensorField("words", "BYTES", (None, 4)),), (), batched=True)

    with pytest.raises(UnsupportedError, match="expected one a row"):
        PredictionLog(tmp_path, "rentals", words, model_kind="unknown")


def test_several_fronts_write_a_log_that_is_read_as_one(tmp_path, interface):
    logs = [
        PredictionLog(tmp_path, "fashion", interface, model_kind="classification", front=front, num_fronts=2)
        for front in (0, 1)
    ]
    ids = []
    for log in (logs[1], logs[0], logs[1]):
        prefix, row = log.append("3", 2, [[IMAGES]], [SCORES])
        ids += [f"{prefix}.{row + at}" for at in range(2)]
        log.flush()
        log.sync()
    for log in logs:
        log.close()

    found = [row for _, batch in open_log(tmp_path / "fashion").read() for row in batch["prediction_id"].to_pylist()]

    assert found == ids
    with shoal.store.open(tmp_path / ".shoal") as store:
        assert [why(each, store, log_folder=tmp_path).prediction_id for each in ids] == ids


def test_a_single_front_goes_on_with_the_log_of_several(tmp_path, interface):
    for front, num_fronts in ((1, 2), (0, 1)):
        log = PredictionLog(
            tmp_path, "fashion", interface, model_kind="classification", front=front, num_fronts=num_fronts
        )
        log.append("3", 2, [[IMAGES]], [SCORES])
        log.close()

    assert open_log(tmp_path / "fashion").num_rows == 4


def test_a_single_front_writes_no_order(log):
    log.append("3", 2, [[IMAGES]], [SCORES])
    log.flush()
    log.sync()

    assert not (log.folder / "order").exists()


def facts_of(log):
    return msgspec.json.decode(SegmentReader(log.folder).schema.metadata[b"shoal"])


@pytest.fixture
def make_log(tmp_path, interface):
    made = []

    def make_log(**options):
        made.append(PredictionLog(tmp_path, "fashion", interface, model_kind="classification", **options))
        return made[-1]

    yield make_log
    for log in made:
        log.close()


@pytest.mark.parametrize(
    ("drop", "columns"),
    [(("image",), ["scores"]), (("scores",), ["image"]), (("*",), [])],
)
def test_dropped_fields_are_no_columns_and_the_log_says_so(make_log, drop, columns):
    log = make_log(rule=LogRule(drop=drop))

    log.append("3", 2, [[IMAGES]], [SCORES])
    log.flush()
    log.sync()

    _, batch = next(SegmentReader(log.folder).read())
    assert batch.schema.names == ["prediction_id", "version", "time_us", *columns]
    assert batch.num_rows == 2
    assert sorted(facts_of(log)["dropped"]) == sorted({"image", "scores"} - set(columns))
    assert facts_of(log)["inputs"] + facts_of(log)["outputs"] == columns


def test_a_rule_that_names_no_field_logs_nothing(make_log, tmp_path):
    with pytest.raises(ConfigError, match="'pixels'"):
        make_log(rule=LogRule(drop=("pixels",)))

    assert not (tmp_path / "fashion").exists()


def test_a_field_whose_sizes_vary_can_be_dropped(tmp_path):
    fields = (TensorField("tokens", "INT64", (None, None)), TensorField("length", "INT64", (None,)))
    interface = Interface(fields, (), batched=True)

    log = PredictionLog(tmp_path, "m", interface, model_kind="unknown", rule=LogRule(drop=("tokens",)))
    log.append("1", 1, [[np.zeros((1, 5), np.int64)], [np.array([5])]], [])
    log.close()

    assert SegmentReader(log.folder).row(0)["length"] == 5


def test_each_sampled_share_has_a_log_that_states_it(make_log):
    logs = [make_log(), make_log(rule=LogRule(0.1)), make_log(rule=LogRule(0.2))]

    assert logs[0].folder.name == "fashion"
    assert len({log.folder for log in logs}) == 3
    assert [facts_of(log).get("sample") for log in logs] == [None, 0.1, 0.2]


def test_the_same_share_goes_on_with_its_log(make_log):
    make_log()
    first = make_log(rule=LogRule(0.1))
    first.append("3", 2, [[IMAGES]], [SCORES])
    first.close()

    again = make_log(rule=LogRule(0.1))

    assert (again.folder, again.num_rows) == (first.folder, 2)


def test_a_dataset_adopts_a_log_without_the_dropped_fields(make_log, tmp_path):
    log = make_log(rule=LogRule(0.5, ("image",)))
    for _ in range(2):
        log.append("3", 2, [[IMAGES]], [SCORES])
        log.close()
        log = make_log(rule=LogRule(0.5, ("image",)))
    first, second = SegmentReader(log.folder).sealed()

    adopted = shoal.data.Dataset.create_from_segments(tmp_path / "predictions", [first]).adopt([second])

    assert set(adopted.arrays()) == {"prediction_id", "version", "time_us", "scores"}
    assert adopted.num_rows == 4


def test_why_says_what_the_rule_dropped(make_log, tmp_path):
    log = make_log(rule=LogRule(drop=("image",)))
    prefix, row = log.append("3", 2, [[IMAGES]], [SCORES])
    log.close()

    with shoal.store.open(tmp_path / ".shoal") as store:
        found = why(f"{prefix}.{row}", store, log_folder=tmp_path)

    assert found.values.keys() == {"scores"}
    assert "input: the rule of the log drops image" in found.gaps
