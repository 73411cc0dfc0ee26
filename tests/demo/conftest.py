import numpy as np
import pytest
from rich.console import Console

from shoal.demo.display import Display
from shoal.demo.summary import DriftFigures, QuantizedFigures, ServingFigures, Summary, WhyFigures


@pytest.fixture
def console():
    return Console(record=True, width=160, force_terminal=False)


@pytest.fixture
def display(console):
    return Display(console)


@pytest.fixture
def summary():
    return Summary(
        test_accuracy=0.912,
        baseline_accuracy=0.83,
        quantized=QuantizedFigures(accuracy=0.911, speedup=0.9, kept=False, reason="int8 is slower & <wider>"),
        serving=ServingFigures(accuracy=0.91, rps=3000.0, p50_ms=4.0, p99_ms=9.5, failed_after_kill=0),
        drift=DriftFigures(
            alert=True,
            false_alerts=0,
            clean_windows=53,
            windows_to_alert=1,
            columns=("image.std",),
            accuracy_before=0.91,
            accuracy_during=0.4,
            accuracy_after=0.8,
        ),
        rollback_failed_requests=0,
        canary_failed_requests=0,
        steps_reused=4,
        steps_run=12,
        rows_scored=9700,
        why=WhyFigures(
            prediction_id="fashion@1.abc123.7",
            input_shard="/tmp/log/00000000000000000000.arrow",
            input_row=7,
            model="fashion@1",
            run="r-0003",
            code="b3:12",
            dataset="/tmp/fashion@1",
            shards=("/tmp/fashion/shards/ab.arrow",),
            sources=({"path": "/data/train-images.gz", "digest": "b3:" + "0" * 64, "rows": 60000},),
        ),
        total_s=99.0,
    )


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, size=(40, 28, 28), dtype=np.uint8)


@pytest.fixture(scope="session")
def garments(tmp_path_factory):
    """1,500 real images with labels as a dataset."""
    import shoal.data
    from shoal.base import SourceError

    try:
        source = shoal.data.IdxSource.fashion_mnist(part="test", max_rows=1500)
    except SourceError as error:
        pytest.skip(str(error))
    return shoal.data.ingest(source, tmp_path_factory.mktemp("garments") / "fashion", num_shards=2)


@pytest.fixture(scope="session")
def package(garments, tmp_path_factory):
    """A real, if poor, classifier of garments: nearest class mean, as an ONNX graph, with its profile."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    import shoal.model

    rows = garments.arrays()
    pixels = rows["image"].reshape(len(rows["image"]), -1).astype(np.float32) / 255
    means = np.stack([pixels[rows["label"] == label].mean(axis=0) for label in range(10)])
    # -|x - m|^2 / 2 = x.m - |m|^2 / 2 up to a constant: the nearest mean is the largest of ten linear functions.
    weights = {"means": means.T.astype(np.float32), "offsets": (-(means**2).sum(axis=1) / 2).astype(np.float32)}
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Flatten", ["scaled"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "means", "offsets"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "nearest_mean",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()]
        + [numpy_helper.from_array(np.float32(1 / 255), "scale")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    made = shoal.model.package(
        model, name="fashion", example=rows, dataset=garments, path=tmp_path_factory.mktemp("packages") / "first"
    )
    profile = shoal.model.training_profile(made, garments, garments)
    return shoal.model.amend(made, profile=profile, path=made.path.with_name("profiled"))


@pytest.fixture
def scene(package, display, tmp_path, monkeypatch):
    """A store with one version in production, and a service that follows it."""
    import shoal.model
    import shoal.serve
    import shoal.store
    from shoal.demo.scene import MODEL, Scene, register

    monkeypatch.chdir(tmp_path)
    with shoal.store.open(tmp_path / ".shoal") as store:
        scene = Scene(store, display, store.home / "demo")
        scene.folder.mkdir()
        version = register(scene, package, 0.7)
        report = shoal.model.gate(package, [shoal.model.AtLeast("accuracy", 0.5)], metrics={"accuracy": 0.7})
        store.models.promote(MODEL, version, results=report)
        with shoal.serve.start(f"{MODEL}@production", store=store, replicas=2, port=0) as server:
            yield Scene(store, display, scene.folder, server)
