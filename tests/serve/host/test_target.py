from pathlib import Path
from types import SimpleNamespace

import pytest

from shoal.base import ConfigError, NotFoundError, UnsupportedError
from shoal.serve.host.target import find_target, plan_from_registry, source_of
from shoal.serve.links.messages import ModelPlan
from shoal.serve.replicas.carrying import is_carried
from shoal.serve.replicas.chain import Chain


class Models:
    def __init__(self, versions, canary=None):
        self._versions, self._canary = versions, canary

    def get(self, address):
        return SimpleNamespace(version=self._versions[address], path=Path(f"/{self._versions[address]}"))

    def canary_of(self, name):
        if self._canary is None:
            return None
        version, share = self._canary
        return SimpleNamespace(version=version, path=Path(f"/{version}")), share


def test_a_plain_file_is_served_under_its_own_name(tmp_path, scorer):
    path = tmp_path / "my model (2).onnx"
    path.write_bytes(scorer.read_bytes())

    target = find_target(str(path), None)

    assert target.name == "my-model-2"
    assert target.plan == ModelPlan({"1": str(path)}, {"1": 1.0})
    assert target.alias is None


@pytest.mark.parametrize("model", ["absent.onnx", "folder/absent", Path("absent")])
def test_an_absent_file_is_told(model):
    with pytest.raises(NotFoundError, match="absent"):
        find_target(model, None)


def test_another_kind_of_file_is_told(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"")

    with pytest.raises(UnsupportedError, match=r"model\.pt"):
        find_target(path, None)


def test_the_registrys_canary_takes_its_share_from_production():
    store = SimpleNamespace(models=Models({"m@production": 3}, canary=(4, 0.25)))

    assert plan_from_registry(store, "m", "production") == ModelPlan({"3": "/3", "4": "/4"}, {"3": 0.75, "4": 0.25})


def test_a_canary_of_what_is_production_already_is_none():
    store = SimpleNamespace(models=Models({"m@production": 4}, canary=(4, 0.25)))

    assert plan_from_registry(store, "m", "production") == ModelPlan({"4": "/4"}, {"4": 1.0})


def test_without_an_alias_the_registry_chooses():
    store = SimpleNamespace(models=Models({"m": 2}))

    assert plan_from_registry(store, "m", "").versions == {"2": "/2"}


class Model:
    def predict(self, batch):
        return batch


def test_python_is_served_under_the_name_of_its_class(tmp_path):
    (tmp_path / "mine.py").write_text("class Model: ...\n")

    assert find_target(Model, None).name == find_target(Model(), None).name == "Model"
    assert find_target(Chain(Model, name="my chain"), None).name == "my-chain"
    assert find_target(f"{tmp_path}/mine.py:Model", None).plan.versions == {"1": f"{tmp_path}/mine.py:Model"}


@pytest.mark.parametrize("model", [7, object(), dict])
def test_what_is_no_model_is_told(model):
    with pytest.raises(UnsupportedError, match="predict"):
        find_target(model, None)


def test_an_estimator_is_to_be_packaged_first():
    class Estimator(Model):
        def get_params(self): ...

    with pytest.raises(UnsupportedError, match="Estimator") as caught:
        find_target(Estimator(), None)

    assert "shoal.model.package" in caught.value.next_step


def test_another_folder_is_watched(tmp_path):
    target = find_target(tmp_path, None)

    assert target.folder == tmp_path
    assert target.plan.versions == {}


def test_several_models_have_the_names_given(scorer, picker):
    target = find_target({"a": scorer, "b": str(picker)}, None)

    assert {name: list(plan.versions.values()) for name, plan in target.plans.items()} == {
        "a": [str(scorer)],
        "b": [str(picker)],
    }


def test_a_source_is_a_path_or_an_address(scorer, tmp_path):
    (tmp_path / "mine.py").write_text("class Model: ...\n")

    assert source_of(scorer) == str(scorer)
    assert source_of(f"{tmp_path}/mine.py:Model") == f"{tmp_path}/mine.py:Model"
    assert is_carried(source_of(Model()))


@pytest.mark.parametrize("name", ["", "a/b", "-a"])
def test_a_name_must_stand_in_a_path(scorer, name):
    with pytest.raises(ConfigError, match="cannot be named"):
        find_target({name: scorer}, None)


def test_several_models_are_single_ones_that_do_not_move(tmp_path, scorer):
    store = SimpleNamespace(models=Models({"m@production": 3}), last_change=lambda: 0)

    with pytest.raises(ConfigError, match="expected one model"):
        find_target({"a": tmp_path}, None)
    with pytest.raises(ConfigError, match="expected one model"):
        find_target({"a": {"b": scorer, "c": scorer}}, None)
    with pytest.raises(ConfigError, match="no models"):
        find_target({}, None)
    with pytest.raises(NotFoundError, match="absent"):
        find_target({"a": scorer, "b": "absent.onnx"}, store)
