import json

import numpy as np
import pytest

from shoal.model import package


@pytest.fixture
def traffic(rows):
    """Undisturbed rows in another order, then rows that nobody trained on."""
    points = rows["x"][np.random.default_rng(1).permutation(len(rows["x"]))]
    return np.concatenate([points[:200], points[200:400] + 20])


def test_reports_drift_window_by_window(shoal, registered, write_log, traffic):
    write_log(traffic)

    lines = shoal("watch", "report", "clouds", "--window", 100).out.splitlines()

    assert [line.split()[0] for line in lines[1:]] == ["0", "1", "2", "3"]
    assert [line.split()[-1] for line in lines[1:]] == ["no", "no", "ALERT", "ALERT"]


def test_report_as_json_has_every_column(shoal, registered, write_log, traffic):
    write_log(traffic)

    found = json.loads(shoal("watch", "report", "clouds@1", "--window", 100, "--json").out)

    assert [each["drifted"] for each in found] == [False, False, True, True]
    assert [(each["first_row"], each["last_row"]) for each in found[:2]] == [(0, 99), (100, 199)]
    assert {"column", "measure", "distance", "threshold"} == set(found[0]["columns"][0])


def test_only_what_this_version_answered_counts(shoal, registered, write_log, traffic):
    write_log(traffic[:100])
    write_log(traffic[200:], version="2")

    found = json.loads(shoal("watch", "report", "clouds@1", "--window", 100, "--json").out)

    assert [each["drifted"] for each in found] == [False]


def test_a_version_with_other_columns_is_found_in_the_log_beside(shoal, registered, write_log, traffic, store):
    folder = store.home / "predictions"
    write_log(traffic)
    (folder / "clouds").rename(folder / "clouds-0123abcd")
    write_log(traffic[:100], version="2")

    found = json.loads(shoal("watch", "report", "clouds@1", "--window", 100, "--json").out)

    assert len(found) == 4


def test_report_reads_the_log_it_is_given(shoal, registered, write_log, traffic, store, tmp_path):
    write_log(traffic)
    (store.home / "predictions").rename(tmp_path / "elsewhere")

    assert shoal("watch", "report", "clouds").code == 1
    assert shoal("watch", "report", "clouds", "--log", "elsewhere").code == 0


def test_too_little_traffic_is_said(shoal, registered, write_log, traffic):
    write_log(traffic[:30])

    done = shoal("watch", "report", "clouds", "--window", 50)

    assert done.code == 0
    assert "clouds@1 has not answered a whole window of 50 rows yet" in done.out


def test_a_model_without_a_profile_fails_with_the_next_step(shoal, store, onnx_model, rows, tmp_path):
    bare = package(onnx_model, example=rows, name="bare", path=tmp_path / "bare")
    store.models.register("bare", bare)

    done = shoal("watch", "report", "bare")

    assert done.code == 1
    assert "bare@1" in done.err
    assert "\nnext   package it with profile" in done.err


def test_a_window_too_small_to_tell_anything_is_wrong_usage(shoal):
    assert shoal("watch", "report", "clouds", "--window", 5).code == 2


@pytest.mark.parametrize(("typed", "value"), [("2", 2), ("shirt", "shirt")])
def test_labels_a_prediction(shoal, store, write_log, rows, typed, value):
    ids = write_log(rows["x"][:2])

    done = shoal("watch", "label", ids[1], typed)

    assert done.out == f"{ids[1]}  {typed}\nnext  shoal model why {ids[1]}\n"
    assert store.labels.get(ids) == {ids[1]: value}


def test_label_as_json(shoal, store):
    done = shoal("watch", "label", "clouds@1.abcdef.0", "1", "--json")

    assert json.loads(done.out) == {"prediction_id": "clouds@1.abcdef.0", "label": 1}


def test_what_is_no_prediction_id_is_refused(shoal, store):
    done = shoal("watch", "label", "clouds", "1")

    assert done.code == 1
    assert "clouds" in done.err
    assert "\nnext   " in done.err


def test_a_label_in_the_wrong_folder_makes_no_store(shoal, tmp_path):
    done = shoal("watch", "label", "clouds@1.abcdef.0", "1")

    assert done.code == 1
    assert not (tmp_path / ".shoal").exists()


def test_report_reads_the_log_that_was_written_last(shoal, registered, write_log, traffic, store):
    folder = store.home / "predictions"
    write_log(traffic[:100], time_us=2)
    (folder / "clouds").rename(folder / "clouds-0123abcd")
    write_log(traffic[:200], time_us=1)

    found = json.loads(shoal("watch", "report", "clouds@1", "--window", 100, "--json").out)

    assert len(found) == 1


def test_report_says_what_the_log_leaves_out(shoal, registered, write_log, traffic):
    write_log(traffic, facts={"sample": 0.1, "dropped": ["pixels"]})

    lines = shoal("watch", "report", "clouds", "--window", 100).out.splitlines()

    assert lines[-2:] == ["0.1 of the requests are logged", "not logged: pixels"]
