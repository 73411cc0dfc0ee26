import numpy as np
import pytest

from shoal.base import ConfigError
from shoal.data import Profile
from shoal.model import amend, package, score_columns, training_profile, with_scores
from shoal.model.session import Session


def test_inputs_come_from_training_and_scores_from_held_out_rows(packaged, dataset):
    train, held_out = dataset.split(0.7, 0.3)

    found = training_profile(packaged, train, held_out, label="label")

    assert found.num_rows == found.columns["image"].num_rows == found.columns["label"].num_rows == train.num_rows
    assert found.columns["scores.confidence"].num_rows == held_out.num_rows


def test_scores_are_those_that_serving_derives(packaged, dataset):
    live = Profile()
    live.update(score_columns(Session(packaged).run({"image": dataset.arrays()["image"]}), "classification"))

    found = training_profile(packaged, dataset, dataset)

    assert found.columns["scores.class"].categories == live.columns["scores.class"].categories
    for name, column in live.columns.items():
        np.testing.assert_array_equal(found.columns[name].histogram, column.histogram)


def test_a_package_may_take_its_profile_from_datasets(graph, packaged, dataset, rows, tmp_path):
    train, held_out = dataset.split(0.7, 0.3)

    made = package(graph, example=rows, path=tmp_path / "p", profile_on=(train, held_out))

    assert made.profile == training_profile(packaged, train, held_out)


def test_only_one_profile_may_be_given(graph, dataset, rows):
    with pytest.raises(ConfigError, match="profile and profile_on"):
        package(graph, example=rows, profile=Profile(), profile_on=(dataset, dataset))


def test_a_profile_can_be_amended(packaged, dataset, tmp_path):
    profile = training_profile(packaged, dataset, dataset)

    amended = amend(packaged, profile=profile, path=tmp_path / "amended")

    assert amended.profile == profile


def test_another_model_s_scores_replace_scores_alone(packaged, make_graph, dataset, rows, tmp_path):
    other = package(make_graph(seed=9), example=rows, path=tmp_path / "other")
    before = training_profile(packaged, dataset, dataset)

    after = with_scores(before, other, dataset)

    assert after == training_profile(other, dataset, dataset)
    assert after != before
