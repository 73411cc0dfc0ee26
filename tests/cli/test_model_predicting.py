import json

import onnx
import pytest

from shoal.base import Ref
from shoal.data import open as open_dataset


@pytest.fixture
def predict(shoal, packaged, dataset):
    def predict(*options, model=packaged.path, rows=dataset.path):
        return shoal("model", "predict", model, rows, "scored", *options)

    return predict


def test_what_was_made_of_what_is_told(predict, packaged, dataset, tmp_path):
    done = predict("--batch-size", 50)

    assert done.code == 0
    assert f"of          {dataset.address}  {dataset.digest}" in done.out
    assert f"by          {packaged.address}  {packaged.digest}" in done.out
    assert done.out.endswith("next  shoal data cat scored\n")
    assert [fact.digest for fact in open_dataset(tmp_path / "scored").sources] == [dataset.digest, packaged.digest]


def test_json_says_all_that_a_second_run_needs(predict, packaged, dataset):
    found = json.loads(predict("--json", "--batch-size", 50, "--columns", "label,id", rows=f"{dataset.path}@1").out)

    assert (found["rows"], found["batch_size"], found["columns"]) == (600, 50, ["label", "id"])
    assert found["input"] == {"dataset": dataset.address, "digest": dataset.digest}
    assert found["model"] == {"package": packaged.address, "digest": packaged.digest}


def test_columns_may_be_given_one_by_one(predict, tmp_path):
    assert predict("--columns", "label", "--columns", "id").code == 0

    assert open_dataset(tmp_path / "scored").schema.names == ("row", "label", "id", "scores")


def test_a_plain_onnx_file_will_do(predict, onnx_model, tmp_path):
    onnx.save(onnx_model, tmp_path / "clouds.onnx")

    assert predict(model="clouds.onnx").code == 0

    assert open_dataset(tmp_path / "scored").schema.names == ("row", "id", "logits")


def test_the_store_learns_where_predictions_come_from(predict, store, packaged, dataset, tmp_path):
    predict()

    edges = store.lineage.sources_of(Ref.of(open_dataset(tmp_path / "scored")))
    assert {(edge.source.digest, edge.relation) for edge in edges} == {
        (dataset.digest, "predicted_from"),
        (packaged.digest, "predicted_by"),
    }


def test_a_store_that_cannot_be_opened_costs_no_prediction(predict, store, tmp_path):
    store.close()
    (tmp_path / ".shoal" / "store.db").write_bytes(b"no database")

    done = predict()

    assert done.code == 0
    assert "warning  the lineage was not recorded" in done.err


@pytest.mark.slow
def test_workers_give_the_same_rows(predict, shoal, packaged, dataset):
    digests = [json.loads(predict("--json", "--batch-size", 64).out)["digest"]]
    again = shoal(
        "model", "predict", packaged.path, dataset.path, "others", "--json", "--batch-size", 64, "--workers", 3
    )

    assert digests == [json.loads(again.out)["digest"]]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nothing", "cannot find the model nothing: no file or folder has this name"),
        ("gone.onnx", "cannot open the model gone.onnx: there is no such file"),
        ("folder/gone", "cannot open the model folder/gone: there is no such file"),
    ],
)
def test_a_model_that_is_nowhere_is_named(predict, store, model, message):
    done = predict(model=model)

    assert done.code == 1
    assert message in done.err
    assert "\nnext   " in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--columns", "lable"], "'lable' is no column of"),
        (["--runtime", "moon", "--workers", 2, "--batch-size", 1], "there is no runtime 'moon'"),
    ],
)
def test_a_wrong_option_is_named(predict, options, message):
    done = predict(*options)

    assert done.code == 1
    assert message in done.err


def test_another_batch_size_than_was_begun_with_is_refused(predict):
    predict("--batch-size", 50)

    done = predict("--batch-size", 60)

    assert done.code == 1
    assert "holds predictions with batch_size=50, asked for 60" in done.err
    assert predict().code == 0
