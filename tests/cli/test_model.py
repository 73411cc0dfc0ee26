import json
import shutil

import numpy as np
import pytest

from shoal.data import open as open_dataset
from shoal.model import amend


@pytest.fixture
def second(registered, store, packaged, tmp_path):
    """A second version, which is better by its own account."""
    better = amend(packaged, metrics={"accuracy": 0.95}, path=tmp_path / "better")
    return store.models.register("clouds", better, metrics=better.metrics)


def test_registers_a_package(shoal, store, packaged):
    done = shoal("model", "register", "clouds", packaged.path)

    assert done.code == 0
    assert done.out.startswith(f"clouds@1  {packaged.digest}\n")
    assert store.models.get("clouds@1").metrics == {"accuracy": 0.9}


def test_register_makes_the_store_where_there_is_none(shoal, packaged, tmp_path):
    found = json.loads(shoal("model", "register", "clouds", packaged.path, "--json").out)

    assert (found["model"], found["digest"]) == ("clouds@1", packaged.digest)
    assert (tmp_path / ".shoal").is_dir()


def test_a_changed_package_is_not_registered(shoal, packaged, tmp_path):
    copy = shutil.copytree(packaged.path, tmp_path / "copy")
    with (copy / "model.onnx").open("ab") as file:
        file.write(b" ")

    done = shoal("model", "register", "clouds", copy)

    assert done.code == 1
    assert "model.onnx" in done.err
    assert "\nnext   " in done.err


def test_lists_models_with_their_aliases(shoal, second):
    shoal("model", "promote", "clouds@1", "--at-least", "accuracy=0.5")

    done = shoal("model", "list")

    assert done.out.splitlines()[1].split() == ["clouds", "clouds@2", "production=1"]
    assert done.out.endswith("next  shoal model show clouds\n")


def test_list_as_json(shoal, registered):
    found = json.loads(shoal("model", "list", "--json").out)

    assert found == [{"model": "clouds", "newest": "clouds@1", "aliases": {}}]


def test_an_empty_registry_is_no_error(shoal, store):
    done = shoal("model", "list")

    assert (done.code, done.out) == (0, "no models yet\n")


def test_shows_signature_and_metrics(shoal, registered):
    done = shoal("model", "show", "clouds")

    assert "input     x float32 [any, 8]" in done.out
    assert "output    scores float32 [any, 3]" in done.out
    assert "accuracy  0.9" in done.out


def test_show_as_json(shoal, registered):
    found = json.loads(shoal("model", "show", "clouds@1", "--json").out)

    assert (found["model"], found["digest"], found["run"]) == ("clouds@1", registered.digest, None)
    assert found["inputs"] == [{"name": "x", "dtype": "float32", "shape": [None, 8]}]


def test_an_unknown_model_fails_with_the_next_step(shoal, registered):
    done = shoal("model", "show", "cluods")

    assert done.code == 1
    assert "cluods" in done.err
    assert "\nnext   " in done.err


def test_promotes_what_passes_its_gates(shoal, registered, store):
    done = shoal("model", "promote", "clouds@1", "--at-least", "accuracy=0.9", "--at-most", "accuracy=1")

    assert done.code == 0
    assert "passed  accuracy >= 0.9\npassed  accuracy <= 1\nclouds@production is clouds@1\n" in done.out
    assert store.models.get("clouds@production").version == 1


def test_promote_as_json_has_the_gates(shoal, registered):
    found = json.loads(
        shoal("model", "promote", "clouds@1", "--alias", "staging", "--at-least", "accuracy=0.9", "--json").out
    )

    assert (found["model"], found["alias"]) == ("clouds@1", "staging")
    assert found["gates"][0]["passed"] is True
    assert found["gates"][0]["value"] == 0.9


def test_a_failed_gate_moves_nothing(shoal, registered, store):
    done = shoal("model", "promote", "clouds@1", "--at-least", "accuracy=0.99")

    assert done.code == 1
    assert "accuracy is 0.9, expected >= 0.99" in done.err
    assert store.models.aliases("clouds") == {}


def test_promote_without_a_gate_is_wrong_usage(shoal, registered, store):
    done = shoal("model", "promote", "clouds@1")

    assert done.code == 2
    assert "--at-least" in done.err
    assert store.models.aliases("clouds") == {}


@pytest.mark.parametrize("text", ["accuracy", "accuracy=high", "=0.9"])
def test_a_gate_that_cannot_be_read_tells_how_to_write_one(shoal, registered, text):
    done = shoal("model", "promote", "clouds@1", "--at-least", text)

    assert done.code == 1
    assert "METRIC=NUMBER" in done.err


def test_rolls_back_and_forward(shoal, second):
    for version in (1, 2):
        shoal("model", "promote", f"clouds@{version}", "--at-least", "accuracy=0.5")

    back = json.loads(shoal("model", "rollback", "clouds", "--json").out)
    forward = shoal("model", "rollback", "clouds", "--forward")

    assert (back["model"], back["alias"]) == ("clouds@1", "production")
    assert forward.out.startswith("clouds@production is clouds@2\n")


def test_a_canary_gets_a_share_and_gives_it_back(shoal, second, store):
    shoal("model", "promote", "clouds@1", "--at-least", "accuracy=0.9")

    begun = shoal("model", "canary", "clouds@2", "--share", "0.2", "--at-least", "accuracy=0.9")
    found = store.models.canary_of("clouds")
    ended = shoal("model", "canary", "clouds", "--end")

    assert "passed  accuracy >= 0.9\nclouds@2 gets 0.2 of the traffic of clouds@production" in begun.out
    assert (found[0].version, found[1]) == (2, 0.2)
    assert ended.code == 0
    assert store.models.canary_of("clouds") is None


@pytest.mark.parametrize(("gates", "code"), [([], 2), (["--at-least", "accuracy=0.99"], 1)])
def test_a_canary_that_passed_nothing_gets_no_share(shoal, second, store, gates, code):
    shoal("model", "promote", "clouds@1", "--at-least", "accuracy=0.9")

    done = shoal("model", "canary", "clouds@2", "--share", "0.2", *gates)

    assert done.code == code
    assert store.models.canary_of("clouds") is None


@pytest.mark.parametrize(
    "options", [[], ["--share", "0.2", "--end", "--at-least", "accuracy=0.9"], ["--end", "--at-most", "accuracy=1"]]
)
def test_a_canary_is_either_given_or_ended(shoal, registered, options):
    assert shoal("model", "canary", "clouds@1", *options).code == 2


def test_rollback_without_a_former_version_fails_with_the_next_step(shoal, registered):
    done = shoal("model", "rollback", "clouds")

    assert done.code == 1
    assert "\nnext   " in done.err


@pytest.mark.parametrize("address", ["clouds@1", "folder"])
def test_predicts_every_row(shoal, registered, packaged, dataset, rows, tmp_path, address):
    where = packaged.path if address == "folder" else address

    found = json.loads(shoal("model", "predict", where, dataset.path, "scored", "--json").out)

    scored = open_dataset(tmp_path / "scored")
    assert found == {
        "dataset": scored.address,
        "rows": 600,
        "digest": scored.digest,
        "input": {"dataset": dataset.address, "digest": dataset.digest},
        "model": {"package": found["model"]["package"], "digest": packaged.digest},
        "batch_size": found["batch_size"],
        "columns": ["id"],
    }
    truth = rows["label"][scored.arrays()["id"]]
    assert (scored.arrays()["scores"].argmax(axis=1) == truth).mean() > 0.9


def test_predicting_into_another_dataset_is_refused(shoal, packaged, dataset, tmp_path):
    shutil.copytree(dataset.path, tmp_path / "scored")

    done = shoal("model", "predict", packaged.path, dataset.path, "scored")

    assert done.code == 1
    assert "\nnext   choose another folder" in done.err


def test_why_leads_back_to_the_data(shoal, registered, write_log, dataset):
    ids = write_log(np.zeros((3, 8), np.float32))

    done = shoal("model", "why", ids[1])

    assert "row 1 of" in done.out
    assert "model       clouds@1" in done.out
    assert f"dataset     {dataset.address}" in done.out
    assert "gap         run: the package names none" in done.out


def test_why_as_json_has_the_input(shoal, registered, write_log, dataset):
    ids = write_log(np.ones((1, 8), np.float32))

    found = json.loads(shoal("model", "why", ids[0], "--json").out)

    assert found["values"]["x"] == [1.0] * 8
    assert found["package_digest"] == registered.digest
    assert len(found["shards"]) == 2


def test_why_reads_the_log_it_is_given(shoal, registered, write_log, store, tmp_path):
    ids = write_log(np.zeros((1, 8), np.float32))
    (store.home / "predictions").rename(tmp_path / "elsewhere")

    assert shoal("model", "why", ids[0]).code == 1
    assert shoal("model", "why", ids[0], "--log", "elsewhere").code == 0


def test_why_says_that_sampling_left_a_prediction_out(shoal, registered, dataset):
    done = shoal("model", "why", "clouds@1.unsampled-x7k2p9.12")

    assert done.code == 0
    assert "input       not logged" in done.out
    assert "gap         input: the service logs a sample of its requests" in done.out
    assert f"dataset     {dataset.address}" in done.out
