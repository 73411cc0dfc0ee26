"""Estimators give in ONNX what they give themselves, or are refused with the difference."""

import importlib.util

import lightgbm
import numpy as np
import pytest
import xgboost
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC

from shoal.base import ConfigError, InputError, PackageError, UnsupportedError
from shoal.model import Session
from shoal.model.estimators import convert_estimator, is_estimator
from shoal.model.estimators.conversion import difference_of

LIGHT = {"n_estimators": 10, "verbose": -1}


def convert(model, example, kind=None):
    return convert_estimator(model, example, kind=kind, most_rows=256, tolerance=1e-4)


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        RandomForestClassifier(n_estimators=10, random_state=0),
        HistGradientBoostingClassifier(max_iter=10),
        lightgbm.LGBMClassifier(**LIGHT),
        xgboost.XGBClassifier(n_estimators=10),
    ],
    ids=lambda each: type(each).__name__,
)
def test_classifiers_take_columns_and_give_scores_and_labels(people, by_column, estimator):
    frame, buys = people
    model = by_column(estimator).fit(frame, buys)

    converted = convert(model, frame)

    found = Session(converted.graph.SerializeToString()).run(dict(converted.rows))
    assert set(converted.rows) == {"age", "age_mask", "visits", "city", "city_mask", "member"}
    assert (converted.kind, converted.classes) == ("classification", (0, 1))
    assert np.allclose(found["scores"], model.predict_proba(frame), atol=1e-5)
    assert (found["label"] == model.predict(frame)).all()


@pytest.mark.parametrize(
    "estimator",
    [
        LinearRegression(),
        RandomForestRegressor(n_estimators=10, random_state=0),
        GradientBoostingRegressor(n_estimators=10),
        HistGradientBoostingRegressor(max_iter=10),
        lightgbm.LGBMRegressor(**LIGHT),
        xgboost.XGBRegressor(n_estimators=10),
    ],
    ids=lambda each: type(each).__name__,
)
def test_regressors_give_one_number_a_row(people, by_column, estimator):
    frame, _ = people
    model = by_column(estimator).fit(frame, frame.visits * 2.5)

    converted = convert(model, frame)

    found = Session(converted.graph.SerializeToString()).run(dict(converted.rows))
    assert converted.classes is None
    assert found["output"].shape == (200,)
    assert np.allclose(found["output"], model.predict(frame), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("boosted", [lightgbm.LGBMClassifier(**LIGHT), xgboost.XGBClassifier(n_estimators=10)])
def test_boosters_take_gaps_in_columns_of_numbers_themselves(people, boosted):
    frame, buys = people

    converted = convert(boosted.fit(frame[["age", "visits"]], buys), frame)

    assert list(converted.rows) == ["age", "age_mask", "visits"]
    assert converted.difference < 1e-5


def test_a_matrix_stays_one_input(people):
    frame, buys = people
    features = frame[["visits", "member"]].to_numpy(np.float64)

    converted = convert(GridSearchCV(LogisticRegression(), {"C": [1, 2]}).fit(features, buys), features)

    assert list(converted.rows) == ["features"]
    assert converted.rows["features"].shape == (200, 2)


def test_labels_may_be_texts(people, by_column):
    frame, buys = people
    names = np.array(["leaves", "buys"])[buys]
    model = by_column(HistGradientBoostingClassifier(max_iter=10)).fit(frame, names)

    converted = convert(model, frame)

    found = Session(converted.graph.SerializeToString()).run(dict(converted.rows))
    assert converted.classes == ("buys", "leaves")
    assert found["label"].tolist() == model.predict(frame).tolist()


def test_columns_that_the_estimator_does_not_use_are_no_inputs(people, by_column):
    frame, buys = people
    wide = frame.assign(note="x", when=np.arange(200))

    converted = convert(by_column(LogisticRegression()).fit(wide, buys), wide)

    assert {"note", "when"}.isdisjoint(converted.rows) or {
        value.name for value in converted.graph.graph.input
    }.isdisjoint({"note", "when"})


def test_what_onnx_computes_otherwise_is_refused_with_the_difference(people, monkeypatch):
    frame, _ = people
    model = LinearRegression().fit(frame[["visits"]], frame.visits)
    skewed = LinearRegression().fit(frame[["visits"]], frame.visits * 1.5 + 1)
    monkeypatch.setattr("shoal.model.estimators.converters.copy.deepcopy", lambda _: skewed)

    with pytest.raises(PackageError, match=r"off by 0\.5|off by 1"):
        convert(model, frame)


def test_a_step_that_has_no_converter_is_named(people, by_column):
    frame, buys = people
    model = by_column(LogisticRegression())
    model.steps.insert(1, ("own", FunctionTransformer(np.cbrt)))

    with pytest.raises(PackageError, match="FunctionTransformer"):
        convert(model.fit(frame, buys), frame)


@pytest.mark.parametrize(
    ("model", "error", "what"),
    [
        (LogisticRegression(), InputError, "not fitted"),
        (KMeans(2, n_init=1).fit([[0.0], [1.0]]), UnsupportedError, "classifier or a regressor"),
        (LinearSVC().fit([[0.0], [1.0]], [0, 1]), UnsupportedError, "no probabilities"),
        (LogisticRegression().fit([[0.0], [1.0]], ["a", "b"]), InputError, "does not take"),
    ],
)
def test_what_cannot_be_packaged_is_told(model, error, what):
    with pytest.raises(error, match=what):
        convert(model, [[1.0, 2.0]])


def test_another_kind_than_it_is_is_refused():
    with pytest.raises(ConfigError, match="regression"):
        convert(Ridge().fit([[0.0], [1.0]], [0, 1]), [[0.0]], kind="classification")


def test_categories_that_a_booster_encodes_itself_are_refused(people):
    frame, buys = people
    frame = frame.assign(city=frame.city.astype("category"))

    with pytest.raises(UnsupportedError, match="category"):
        convert(lightgbm.LGBMClassifier(**LIGHT).fit(frame[["visits", "city"]], buys), frame)


@pytest.mark.parametrize("absent", ["skl2onnx", "onnxmltools"])
def test_what_is_not_installed_is_named_with_its_command(people, monkeypatch, absent):
    frame, buys = people
    model = xgboost.XGBClassifier(n_estimators=2).fit(frame[["visits"]], buys)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == absent else find(name, *rest))

    with pytest.raises(UnsupportedError, match=absent) as caught:
        convert(model, frame)

    assert "pip install 'shoal[sklearn" in caught.value.next_step


def test_calibration_gives_probabilities(people):
    frame, buys = people
    model = CalibratedClassifierCV(LinearSVC(), cv=2).fit(frame[["visits"]], buys)

    assert convert(model, frame).difference < 1e-5


def test_estimators_are_told_from_other_objects():
    assert is_estimator(LogisticRegression())
    assert not is_estimator("model.onnx")
    assert not is_estimator(object())


def test_a_label_may_differ_where_two_classes_are_as_likely():
    expected = {"scores": np.array([[0.5, 0.5]], np.float32), "label": np.array([0])}

    assert difference_of({**expected, "label": np.array([1])}, expected, 1e-4) == 0
    assert difference_of({**expected, "scores": np.array([[0.4, 0.6]])}, expected, 1e-4) == pytest.approx(0.1)
    assert difference_of({**expected, "scores": np.zeros((1, 3))}, expected, 1e-4) == np.inf
