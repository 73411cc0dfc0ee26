import numpy as np
import onnx
import pytest
from onnx import helper

from shoal.base import ConfigError, ConflictError, InputError, PackageError, Ref, StorageFullError
from shoal.model import Session, amend, open_package, package
from shoal.model import packaging as packaging_module


def test_a_package_opens_as_it_was_made(packaged):
    assert open_package(packaged.path) == packaged
    assert packaged.name == "tiny"
    assert packaged.model_kind == "classification"
    assert packaged.metrics == {"accuracy": 0.9}


def test_a_classifier_gives_one_share_per_class(packaged, images):
    scores = Session(packaged).run({"image": images})["scores"]

    assert packaged.signature.outputs[0].shape == (None, 3)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-6)


def test_a_regression_keeps_its_outputs(graph, images, tmp_path):
    made = package(graph, example={"image": images}, kind="regression", path=tmp_path / "p")

    assert [spec.name for spec in made.signature.outputs] == ["logits"]


def test_lineage_is_kept(graph, images, packaged, tmp_path):
    dataset = Ref("dataset", "/data@3", "b3:7")

    made = package(
        graph,
        example={"image": images},
        path=tmp_path / "p",
        run="r-0007",
        code="b3:1",
        dataset=dataset,
        parent=packaged,
    )

    manifest = made.manifest
    assert (manifest.run, manifest.code, manifest.dataset, manifest.parent) == (
        "r-0007",
        "b3:1",
        dataset,
        packaged.digest,
    )


def test_the_same_model_gives_the_same_package(graph, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    first = package(graph, example={"image": images})
    second = package(graph, example={"image": images})

    assert first.path == second.path
    assert first.digest == second.digest == package(graph, example={"image": images}, path="elsewhere").digest


def test_a_taken_folder_is_never_overwritten(packaged, make_graph, images):
    with pytest.raises(ConflictError, match="exists already"):
        package(make_graph(seed=1), example={"image": images}, path=packaged.path)

    assert open_package(packaged.path) == packaged


def test_a_full_disk_leaves_nothing(graph, images, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(packaging_module.Path, "write_bytes", full)

    with pytest.raises(StorageFullError):
        package(graph, example={"image": images}, path=tmp_path / "deep" / "p")

    assert list((tmp_path / "deep").iterdir()) == []


def test_columns_that_are_no_input_may_be_in_the_example(graph, images, tmp_path):
    made = package(graph, example={"image": images, "label": np.zeros(20)}, path=tmp_path / "p")

    assert [spec.name for spec in made.signature.inputs] == ["image"]


def test_an_example_without_the_input_is_refused(graph):
    with pytest.raises(InputError, match="'image' is missing"):
        package(graph, example={"picture": np.zeros((1, 4, 4), np.uint8)})


@pytest.mark.parametrize("image", [np.zeros((0, 4, 4), np.uint8), np.uint8(1)])
def test_an_example_without_rows_is_refused(graph, image):
    with pytest.raises(InputError, match="at least one row"):
        package(graph, example={"image": image})


def test_a_fixed_batch_size_is_refused(make_graph, images):
    with pytest.raises(PackageError, match="'image' has the fixed shape"):
        package(make_graph(batch=20), example={"image": images})


def test_a_model_that_mixes_rows_is_refused(make_graph, images):
    mixing = [helper.make_node("Softmax", ["logits"], ["out"], axis=0)]

    with pytest.raises(PackageError, match="a row alone gives another output"):
        package(make_graph(final=mixing), example={"image": images})


def test_a_model_that_gives_nan_is_refused(make_graph, images):
    broken = [helper.make_node("Log", ["logits"], ["out"])]

    with pytest.raises(PackageError, match="is off by nan"):
        package(make_graph(final=broken), example={"image": images})


def test_an_export_that_does_not_match_is_refused(graph, images, monkeypatch, tmp_path):
    def lying_export(model, example, *, inputs):
        return graph, {"logits": np.zeros((20, 3), np.float32)}

    monkeypatch.setattr("shoal.model.export.export_module", lying_export)

    with pytest.raises(PackageError, match="differs from the module: 'scores' is off by"):
        package(object(), example={"image": images}, path=tmp_path / "p")

    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("name", ["", "a/b", "../up", ".hidden", "a b", "é"])
def test_a_name_that_is_no_file_name_is_refused(graph, images, name):
    with pytest.raises(ConfigError, match="cannot name a model"):
        package(graph, example={"image": images}, name=name)


def test_an_unknown_kind_is_refused(graph, images):
    with pytest.raises(ConfigError, match="kind='magic'"):
        package(graph, example={"image": images}, kind="magic")


def test_amending_makes_another_package(packaged, tmp_path):
    amended = amend(packaged, metrics={"f1": 0.8}, path=tmp_path / "amended")

    assert amended.metrics == {"accuracy": 0.9, "f1": 0.8}
    assert amended.digest != packaged.digest
    assert amended.onnx_path.read_bytes() == packaged.onnx_path.read_bytes()
    assert open_package(packaged.path) == packaged


def test_a_file_is_packaged_as_it_is_read(graph, images, tmp_path, packaged):
    onnx.save(graph, tmp_path / "m.onnx")

    made = package(tmp_path / "m.onnx", example={"image": images}, path=tmp_path / "p")

    assert made.onnx_path.read_bytes() == packaged.onnx_path.read_bytes()


def test_rounding_of_int8_is_no_difference(make_graph, images, tmp_path):
    # The noise depends on the batch, as the order of sums may; it is far below a step of the quantised output.
    noisy = [
        helper.make_node("ReduceMean", ["logits"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "tiny"], ["noise"]),
        helper.make_node("Add", ["logits", "noise"], ["near"]),
        helper.make_node("QuantizeLinear", ["near", "step"], ["steps"]),
        helper.make_node("DequantizeLinear", ["steps", "step"], ["out"]),
    ]
    graph = make_graph(final=noisy)
    for name, value in {"tiny": 1e-6, "step": 0.01}.items():
        graph.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), name))

    assert package(graph, example={"image": images}, path=tmp_path / "p").signature.outputs[0].name == "scores"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_that_is_no_number_is_named(graph, images, packaged, tmp_path, value):
    with pytest.raises(InputError, match="'loss' is"):
        package(graph, example={"image": images}, metrics={"loss": value}, path=tmp_path / "p")
    with pytest.raises(InputError, match="'loss' is"):
        amend(packaged, metrics={"loss": value}, path=tmp_path / "p")

    assert not (tmp_path / "p").exists()
