import math

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import ConfigError, InputError
from shoal.watch import Quality, accuracy, accuracy_by_version, label, label_many, labelled_rows


@pytest.fixture
def served(prediction_log, world, store):
    """300 rows; version 2 answers the last 100. Even rows are labelled: right up to row 200, wrong from there on."""
    ids: list[str] = []
    classes: list[int] = []
    for version, rows in (("1", 200), ("2", 100)):
        images, scores = world.sample(rows)
        ids += prediction_log.write(images, scores, version=version)
        classes += scores.argmax(axis=1).tolist()
    truth = [found if row < 200 else (found + 1) % 4 for row, found in enumerate(classes)]
    label_many(((ids[row], truth[row]) for row in range(0, 300, 2)), store=store)
    return prediction_log


def test_counts_labelled_rows_only(served, store):
    (found,) = accuracy(served.folder, store=store)

    assert (found.rows, found.num_rows, found.num_labelled, found.num_correct) == (range(300), 300, 150, 100)
    assert found.accuracy == pytest.approx(2 / 3)


def test_windows_show_when_it_fell(served, store):
    windows = accuracy(served.folder, store=store, window_rows=80)

    assert [window.rows for window in windows] == [range(80), range(80, 160), range(160, 240), range(240, 300)]
    assert [window.accuracy for window in windows] == [1, 1, 0.5, 0]


def test_versions_are_told_apart(served, store):
    found = accuracy_by_version(served.folder, store=store)

    assert {version: quality.accuracy for version, quality in found.items()} == {"1": 1.0, "2": 0.0}
    assert found["2"].rows == range(200, 300)
    assert accuracy(served.folder, store=store, version="2") == [found["2"]]


def test_rows_can_be_bounded(served, store):
    (found,) = accuracy(served.folder, store=store, since_row=190, until_row=210)

    assert (found.num_labelled, found.num_correct) == (10, 5)


def test_no_rows_give_no_result(served, store):
    assert accuracy(served.folder, store=store, since_row=300) == []
    assert accuracy_by_version(served.folder, store=store, since_row=300) == {}


def test_no_labels_give_no_number():
    found = Quality(rows=range(10), num_rows=10, num_labelled=0, num_correct=0)

    assert math.isnan(found.accuracy)
    assert found.interval == (0, 1)


@pytest.mark.parametrize("correct", [0, 5, 97, 100])
def test_interval_holds_the_accuracy_and_stays_in_range(correct: int):
    found = Quality(rows=range(100), num_rows=100, num_labelled=100, num_correct=correct)
    low, high = found.interval

    assert 0 <= low <= found.accuracy <= high <= 1
    assert high - low < 0.2


def test_interval_covers_the_truth_as_often_as_promised():
    random = np.random.default_rng(0)
    correct = random.binomial(200, 0.9, 2000)

    covered = [
        low <= 0.9 <= high
        for low, high in (
            Quality(rows=range(200), num_rows=200, num_labelled=200, num_correct=int(count)).interval
            for count in correct
        )
    ]

    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


def test_label_that_is_no_class_is_named(served, store):
    label(f"fashion@1.{served.log.log_id}.3", "coat", store=store)

    with pytest.raises(InputError, match=r"'coat'.*\.3"):
        accuracy(served.folder, store=store)


def test_empty_windows_are_refused(served, store):
    with pytest.raises(ConfigError, match="window_rows=0"):
        accuracy(served.folder, store=store, window_rows=0)


def test_labelled_rows_are_inputs_with_their_truth(served, store):
    table = pa.Table.from_batches(labelled_rows(served.folder, store=store))

    assert table.schema.names == ["image", "label"]
    assert table.num_rows == 150
    assert table.schema.field("label").type == pa.int64()
    logged = pa.concat_tables(pa.ipc.open_file(path).read_all() for path in [served.log.seal()])
    assert table.column("image").slice(0, 1).to_pylist() == logged.column("image").slice(0, 1).to_pylist()


def test_labels_of_two_types_are_refused(served, store):
    label(f"fashion@2.{served.log.log_id}.250", "coat", store=store)

    with pytest.raises(InputError, match="one type"):
        list(labelled_rows(served.folder, store=store))


def test_labelled_rows_of_a_range(served, store):
    assert (
        sum(batch.num_rows for batch in labelled_rows(served.folder, store=store, since_row=100, until_row=120)) == 10
    )


def test_without_the_scores_in_the_log_nothing_can_be_counted(make_log, world, store):
    log = make_log(dropped=("scores",))
    log.write(*world.sample(5))

    with pytest.raises(InputError, match="its log drops scores"):
        accuracy(log.folder, store=store)


def test_labelled_rows_lack_what_the_log_drops(make_log, world, store):
    log = make_log(dropped=("image",))
    ids = log.write(*world.sample(5))
    label(ids[2], 3, store=store)

    (rows,) = labelled_rows(log.folder, store=store)

    assert rows.to_pydict() == {"label": [3]}
