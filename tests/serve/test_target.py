from pathlib import Path
from types import SimpleNamespace

import pytest

from shoal.base import NotFoundError, UnsupportedError
from shoal.serve.messages import ModelPlan
from shoal.serve.target import find_target, plan_from_registry


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
