"""Estimators through `shoal.model.package`: what is written, and what is refused before."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

import shoal.data
from shoal.base import ConfigError, InputError, UnsupportedError
from shoal.data.prepare import Preparation, Standardise
from shoal.model import Session, open_package, package


def test_a_package_holds_the_classes_and_plays_its_examples_again(people, by_column, tmp_path):
    frame, buys = people
    model = by_column(LogisticRegression()).fit(frame, np.array(["no", "yes"])[buys])

    made = package(model, example=frame, name="buyers", path=tmp_path / "p")

    opened = open_package(made.path)
    assert opened.model_kind == "classification"
    assert opened.manifest.classes == ("no", "yes")
    assert opened.signature.masked == ("age", "city")
    assert package(model, example=frame, name="buyers", path=tmp_path / "p").digest == made.digest
    assert Session(opened, replay=True).run(opened.examples()[0])["label"].tolist() == model.predict(frame)[:8].tolist()


def test_the_kind_is_the_estimators_own(tmp_path):
    made = package(Ridge().fit([[0.0], [1.0]], [0, 1]), example=[[0.5]], path=tmp_path / "p")

    assert made.model_kind == "regression"
    assert made.manifest.classes is None


def test_a_preparation_goes_before_the_estimator(tmp_path):
    rows = {"x": np.arange(50.0), "y": np.arange(50) % 2}
    dataset = shoal.data.ingest(rows, tmp_path / "rows")
    fitted = Preparation({"x": [Standardise()]}).fit(dataset)
    pd = pytest.importorskip("pandas")
    model = LogisticRegression().fit(pd.DataFrame({"x": fitted.apply(rows)["x"]}), rows["y"])

    made = package(model, example=rows, path=tmp_path / "p", preparation=fitted)

    wanted = model.predict_proba(pd.DataFrame({"x": fitted.apply(rows)["x"]}))
    assert np.allclose(Session(made).run({"x": rows["x"]})["scores"], wanted, atol=1e-5)


def test_nothing_is_unpickled(tmp_path):
    with pytest.raises(UnsupportedError, match="pickled"):
        package(tmp_path / "model.joblib", example={"x": np.zeros(1)})


def test_inputs_are_for_torch_modules(tmp_path):
    with pytest.raises(ConfigError, match="inputs"):
        package(Ridge().fit([[0.0], [1.0]], [0, 1]), example=[[0.5]], inputs=["x"], path=tmp_path / "p")


def test_a_graph_wants_arrays_by_name(people, tmp_path):
    with pytest.raises(InputError, match="arrays by name"):
        package(tmp_path / "model.onnx", example=np.zeros((1, 2)))
