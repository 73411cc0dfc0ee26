"""Estimators as packages, asked over HTTP."""

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from shoal.model import package
from shoal.serve import Client, start

RANDOM = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "age": np.where(RANDOM.random(100) < 0.2, np.nan, RANDOM.normal(40, 10, 100)),
        "city": np.array(RANDOM.choice(["Oslo", "Rome", None], 100), object),
    }
)
NUMBERS = RANDOM.normal(size=(100, 3)).astype(np.float32)
BUYS = (FRAME.age.fillna(40) + 9 * (FRAME.city == "Oslo") > 44).to_numpy().astype(int)


def columns():
    return make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["age"]),
        (OneHotEncoder(handle_unknown="ignore"), ["city"]),
    )


def ask(packaged, inputs):
    with start(packaged, port=0, replicas=1) as server, Client(server.url) as client:
        return client.infer(packaged.name, inputs).outputs


def test_a_pipeline_takes_columns_with_texts_and_gaps(tmp_path):
    model = make_pipeline(columns(), LogisticRegression()).fit(FRAME, BUYS)
    packaged = package(model, example=FRAME, name="buyers", path=tmp_path / "p")

    outputs = ask(
        packaged,
        {
            "age": np.array([50.0, 0.0]),
            "age_mask": np.array([True, False]),
            "city": np.array(["Oslo", ""], object),
            "city_mask": np.array([True, False]),
        },
    )

    rows = pd.DataFrame({"age": [50.0, np.nan], "city": np.array(["Oslo", None], object)})
    assert np.allclose(outputs["scores"], model.predict_proba(rows), atol=1e-5)
    assert outputs["label"].tolist() == model.predict(rows).tolist()


@pytest.mark.parametrize(
    "model",
    [lightgbm.LGBMClassifier(n_estimators=5, verbose=-1), xgboost.XGBClassifier(n_estimators=5)],
    ids=["lightgbm", "xgboost"],
)
def test_a_booster_takes_a_matrix(tmp_path, model):
    model.fit(NUMBERS, BUYS)
    packaged = package(model, example=NUMBERS, name="boosted", path=tmp_path / "p")

    outputs = ask(packaged, {"features": NUMBERS[:4]})

    assert np.allclose(outputs["scores"], model.predict_proba(NUMBERS[:4]), atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(StandardScaler(), lightgbm.LGBMRegressor(n_estimators=5, verbose=-1)),
        xgboost.XGBRegressor(n_estimators=5),
    ],
    ids=["lightgbm", "xgboost"],
)
def test_a_regression_answers_with_numbers(tmp_path, model):
    model.fit(NUMBERS, NUMBERS[:, 0] * 3)
    packaged = package(model, example=NUMBERS, name="regression", path=tmp_path / "p")

    outputs = ask(packaged, {"features": NUMBERS[:4]})

    assert outputs["output"].shape == (4,)
    assert np.allclose(outputs["output"], model.predict(NUMBERS[:4]), atol=1e-4)


def test_labels_may_be_texts(tmp_path):
    names = np.array(["leaves", "buys"])[BUYS]
    model = LogisticRegression().fit(NUMBERS, names)
    packaged = package(model, example=NUMBERS, name="named", path=tmp_path / "p")

    with start(packaged, port=0, replicas=1, log_folder=tmp_path / "log") as server, Client(server.url) as client:
        outputs = client.infer("named", {"features": NUMBERS[:4]}).outputs
        server.sync_log()

    assert outputs["label"].tolist() == model.predict(NUMBERS[:4]).tolist()
    assert packaged.manifest.classes == ("buys", "leaves")
