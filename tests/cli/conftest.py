"""The command line as a shell sees it, and what commands work on: rows, a model that learned them, a store, a log."""

import shutil
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from onnx import TensorProto, helper, numpy_helper

from shoal.base import PredictionId, SegmentLog, encode
from shoal.data import ingest
from shoal.model import Session, package
from shoal.store import open as open_store

NUM_ROWS, NUM_FEATURES, NUM_CLASSES = 600, 8, 3


@pytest.fixture
def shoal(tmp_path, monkeypatch, capsys) -> Callable[..., "Done"]:
    """Run one command in an empty folder, in this process, and return what a shell would see."""
    from shoal.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Done(ended.value.code or 0, out, err)

    return run


class Done:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture(scope="session")
def rows():
    """Three clouds of points, apart from each other."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(NUM_CLASSES, NUM_FEATURES)) * 3
    label = random.integers(0, NUM_CLASSES, size=NUM_ROWS)
    points = centres[label] + random.normal(size=(NUM_ROWS, NUM_FEATURES))
    return {"id": np.arange(NUM_ROWS), "x": points.astype(np.float32), "label": label}


@pytest.fixture(scope="session")
def dataset(rows, tmp_path_factory):
    return ingest(rows, tmp_path_factory.mktemp("data") / "clouds", key="id", num_shards=2)


@pytest.fixture(scope="session")
def onnx_model(rows):
    """A classifier of the clouds as an ONNX graph, so that no test needs torch for a model."""
    targets = np.eye(NUM_CLASSES)[rows["label"]] * 8
    weights = np.linalg.lstsq(rows["x"], targets, rcond=None)[0].astype(np.float32)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["logits"], name="only")],
        "clouds",
        [value("x", TensorProto.FLOAT, ["batch", NUM_FEATURES])],
        [value("logits", TensorProto.FLOAT, ["batch", NUM_CLASSES])],
        [numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture(scope="session")
def packaged(onnx_model, rows, dataset, tmp_path_factory):
    return package(
        onnx_model,
        example=rows,
        name="clouds",
        path=tmp_path_factory.mktemp("packages") / "float",
        metrics={"accuracy": 0.9},
        dataset=dataset,
        profile_on=(dataset, dataset),
    )


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    open_store(home).close()
    return home


@pytest.fixture
def store(empty_home, tmp_path):
    """The store of the folder that commands run in; a copy, because making one takes longer."""
    with open_store(shutil.copytree(empty_home, tmp_path / ".shoal")) as opened:
        yield opened


@pytest.fixture
def registered(store, packaged):
    return store.models.register("clouds", packaged, metrics=packaged.metrics)


@pytest.fixture
def write_log(store, packaged) -> Callable[..., list[str]]:
    """Log predictions of clouds as a server does, and return their ids."""

    def write_log(
        points: np.ndarray, version: str = "1", *, time_us: int = 1_000_000, facts: dict | None = None
    ) -> list[str]:
        scores = Session(packaged).run({"x": points})["scores"]
        told = {"model": "clouds", "kind": "classification", "inputs": ["x"], "outputs": ["scores"], **(facts or {})}
        schema = pa.schema(
            [
                ("prediction_id", pa.string()),
                ("version", pa.string()),
                ("time_us", pa.int64()),
                ("x", pa.fixed_shape_tensor(pa.float32(), [NUM_FEATURES])),
                ("scores", pa.fixed_shape_tensor(pa.float32(), [NUM_CLASSES])),
            ],
            metadata={b"shoal": encode(told)},
        )
        with SegmentLog(store.home / "predictions" / "clouds", schema) as log:
            first = log.num_rows
            ids = [str(PredictionId("clouds", version, log.log_id, first + row)) for row in range(len(points))]
            tensors = [
                pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(each)) for each in (points, scores)
            ]
            columns = [pa.array(ids), pa.array([version] * len(ids)), pa.array([time_us] * len(ids)), *tensors]
            log.append(pa.record_batch(columns, schema=schema))
        return ids

    return write_log


@pytest.fixture
def table(tmp_path):
    """Six rows, one of which lacks its name."""
    return pa.table({"id": range(6), "size": [0.5, 1.0, 1.5, 2.0, 2.5, 3.0], "name": ["a", None, "c", "d", "e", "f"]})


@pytest.fixture
def parquet(table, tmp_path):
    pa.parquet.write_table(table, tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"
