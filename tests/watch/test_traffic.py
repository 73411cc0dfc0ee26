from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import NotFoundError, SegmentLog, SourceError, encode
from shoal.watch.traffic import Traffic


def fill(prediction_log, world, *counts: int) -> None:
    for index, count in enumerate(counts):
        prediction_log.write(*world.sample(count), version=str(index % 2 + 1))


def test_knows_what_was_served(prediction_log):
    traffic = Traffic(prediction_log.folder)

    assert (traffic.model, traffic.kind) == ("fashion", "classification")
    assert (traffic.inputs, traffic.outputs) == (("image",), ("scores",))


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [(0, None, range(30)), (7, 22, range(7, 22)), (25, 99, range(25, 30)), (5, 5, range(0))],
)
def test_reads_a_range_of_rows(prediction_log, world, since: int, until: int | None, expected: range):
    fill(prediction_log, world, 10, 10, 10)

    found = [row for rows, _ in Traffic(prediction_log.folder).read(since, until) for row in rows]

    assert found == list(expected)


def test_one_versions_rows_keep_their_numbers(prediction_log, world):
    fill(prediction_log, world, 3, 2, 3)

    found = [
        (rows.tolist(), batch.column("version").to_pylist())
        for rows, batch in Traffic(prediction_log.folder).read(version="1")
    ]

    assert found == [([0, 1, 2], ["1"] * 3), ([5, 6, 7], ["1"] * 3)]


def test_profile_columns_are_those_of_training(prediction_log, world, reference):
    from shoal.data import Profile

    fill(prediction_log, world, 20)
    traffic = Traffic(prediction_log.folder)
    profile = Profile()

    for _, batch in traffic.read(3):
        profile.update(traffic.profile_columns(batch))

    assert profile.columns.keys() == reference.columns.keys()
    assert profile.num_rows == 17


def test_a_masked_input_is_null_as_in_training(tmp_path):
    facts = {"model": "m", "kind": "regression", "inputs": ["age_mask", "age"], "outputs": ["y"]}
    columns = {"version": pa.string(), "age_mask": pa.bool_(), "age": pa.int64(), "y": pa.float32()}
    log = SegmentLog(tmp_path, pa.schema(columns.items(), metadata={b"shoal": encode(facts)}))
    rows = {"version": ["1"] * 3, "age_mask": [True, False, True], "age": [30, 0, 40], "y": [0.5] * 3}
    log.append(pa.record_batch(rows, schema=log.schema))
    log.close()
    traffic = Traffic(tmp_path)

    ((_, batch),) = traffic.read()

    assert traffic.profile_columns(batch).column("age").to_pylist() == [30, None, 40]
    assert "age_mask" not in traffic.profile_columns(batch).schema.names


def test_scores_are_of_the_rows_themselves(prediction_log, world):
    images, scores = world.sample(20)
    prediction_log.write(images, scores)
    traffic = Traffic(prediction_log.folder)

    ((_, batch),) = traffic.read(5, 9)

    assert traffic.scores(batch)["scores.class"].tolist() == scores[5:9].argmax(axis=1).tolist()
    assert np.array_equal(traffic.scores(batch)["scores.confidence"], scores[5:9].max(axis=1))


def test_folder_without_a_log_is_not_found(tmp_path: Path):
    with pytest.raises(NotFoundError):
        Traffic(tmp_path)


def test_other_logs_are_refused(tmp_path: Path):
    SegmentLog(tmp_path, pa.schema([("loss", pa.float64())])).close()

    with pytest.raises(SourceError, match="no prediction log"):
        Traffic(tmp_path)


def test_a_log_of_everything_says_that_nothing_is_left_out(prediction_log):
    traffic = Traffic(prediction_log.folder)

    assert (traffic.sample, traffic.dropped, traffic.has_scores) == (1.0, (), True)


def test_what_the_rule_of_a_log_leaves_out_is_known(make_log, world):
    log = make_log(dropped=("image",), sample=0.1)
    log.write(*world.sample(5))
    traffic = Traffic(log.folder)

    ((_, batch),) = traffic.read()

    assert (traffic.sample, traffic.dropped, traffic.inputs) == (0.1, ("image",), ())
    assert "scores.class" in traffic.profile_columns(batch).schema.names


def test_scores_that_are_not_logged_are_none(make_log, world):
    log = make_log(dropped=("scores",))
    log.write(*world.sample(5))
    traffic = Traffic(log.folder)

    ((_, batch),) = traffic.read()

    assert traffic.scores(batch) == {}
    assert traffic.profile_columns(batch).schema.names == ["image"]
