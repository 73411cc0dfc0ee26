import json

import pytest

import shoal.store


@pytest.fixture
def run(shoal):
    with shoal_store() as store, store.runs.start(kind="train", name="wide", config={"width": 32}) as run:
        run.metric("train.loss", 0.5, 10)
    return run


def shoal_store():
    return shoal.store.open()


def test_lists_runs(shoal, run):
    done = shoal("run", "list")

    assert run.id in done.out
    assert f"next  shoal run show {run.id}" in done.out


def test_list_is_filtered(shoal, run):
    assert json.loads(shoal("run", "list", "--status", "failed", "--json").out) == []


def test_shows_configuration_and_metrics(shoal, run):
    done = shoal("run", "show", run.id)

    assert '{"width":32}' in done.out
    assert "train.loss  0.5" in done.out


def test_json_has_record_and_metrics(shoal, run):
    found = json.loads(shoal("run", "show", run.id, "--json").out)

    assert found["run"]["status"] == "done"
    assert found["metrics"] == {"train.loss": 0.5}


def test_without_a_store_it_says_so(shoal):
    done = shoal("run", "list")

    assert done.code == 1
    assert "next" in done.err
