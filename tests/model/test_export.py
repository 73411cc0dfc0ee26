import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from shoal.base import InputError, PackageError, UnsupportedError
from shoal.model import Session, package
from shoal.model.export import export_module

pytestmark = pytest.mark.slow  # torch's exporter takes a second per module, after seconds of import


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        self.classes = nn.Linear(4 * 6 * 6, 3)

    def forward(self, image):
        return self.classes(self.features(image.unsqueeze(1).float() / 255).flatten(1))


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, size=(5, 8, 8), dtype=np.uint8)


def test_a_package_gives_what_the_module_gives(pixels, tmp_path, caplog, capfd):
    model = Net().train()

    made = package(model, example={"image": torch.from_numpy(pixels), "label": torch.zeros(5)}, path=tmp_path / "p")

    assert all(part.training for part in model.modules())
    with torch.no_grad():
        expected = torch.softmax(model.eval()(torch.from_numpy(pixels)), dim=1).numpy()
    np.testing.assert_allclose(Session(made).run({"image": pixels})["scores"], expected, atol=1e-5)
    assert [entry.name for entry in made.path.iterdir() if entry.suffix == ".onnx"] == ["model.onnx"]
    assert caplog.record_tuples == [] or all(level < logging.WARNING for _, level, _ in caplog.record_tuples)
    assert capfd.readouterr() == ("", "")


def test_one_row_is_enough_for_a_free_batch(pixels):
    graph, expected = export_module(Net(), {"image": pixels[:1]})

    assert expected["output"].shape == (1, 3)
    assert Session(graph.SerializeToString()).run({"image": pixels})["output"].shape == (5, 3)


class Two(nn.Module):
    def forward(self, left, right, scale=2.0):
        return {"sum": left + right, "scaled": left * scale}


def test_columns_may_have_other_names_than_parameters():
    example = {name: np.arange(6, dtype=np.float32).reshape(3, 2) for name in ("a", "b")}

    graph, expected = export_module(Two(), example, inputs=["b", "a"])

    session = Session(graph.SerializeToString())
    assert [spec.name for spec in session.signature.inputs] == ["b", "a"]
    assert set(expected) == {"sum", "scaled"}


@pytest.mark.parametrize(
    ("example", "inputs"),
    [
        ({"a": 1}, None),
        ({"left": 1}, None),
        ({"a": 1, "b": 1}, ["a"]),
        ({"a": 1}, ["a", "b"]),
        ({"a": 1}, list("aaaa")),
    ],
)
def test_a_parameter_without_a_column_is_named(example, inputs):
    arrays = {name: np.zeros((2, 2), np.float32) for name in example}

    with pytest.raises(InputError, match=r"forward\(left, right, scale\)"):
        export_module(Two(), arrays, inputs=inputs)


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class FixedBatch(nn.Module):
    def forward(self, x):
        return x.reshape(2, 4)


@pytest.mark.parametrize("module", [Branching(), FixedBatch()])
def test_what_torch_cannot_export_is_refused_with_the_cause(module, tmp_path):
    with pytest.raises(PackageError):
        package(module, example={"x": np.ones((2, 4), np.float32)}, kind="regression", path=tmp_path / "p")

    assert not (tmp_path / "p").exists()


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


def test_a_random_module_does_not_match_its_export(tmp_path):
    with pytest.raises(PackageError, match="differs from the module"):
        package(Noisy(), example={"x": np.ones((2, 4), np.float32)}, kind="regression", path=tmp_path / "p")


@pytest.mark.parametrize("model", [b"text", 3, lambda x: x])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(UnsupportedError, match="expected a torch module"):
        export_module(model, {"x": np.zeros((1, 1), np.float32)})


class Strings(nn.Module):
    def forward(self, x):
        return [x]


def test_a_module_that_returns_a_list_is_refused():
    with pytest.raises(UnsupportedError, match="returns a list"):
        export_module(Strings(), {"x": np.zeros((1, 1), np.float32)})


def test_two_threads_may_export_at_once(pixels):
    with ThreadPoolExecutor(2) as pool:
        exports = [pool.submit(export_module, Net(), {"image": pixels}) for _ in range(2)]

        assert all(export.result()[0].graph.node for export in exports)
