"""Schemathesis against the server's own OpenAPI document: what it forbids is refused, what it documents is what comes.

`schemathesis_checks.py` holds what we ask beyond the tool's own checks.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper, save

import shoal.data
from shoal.data.prepare import Concatenate, Encode, Impute, Preparation
from shoal.model import package
from shoal.serve import start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
FLOAT, TEXT = TensorProto.FLOAT, TensorProto.STRING
# Enough for several thousand requests; more were run by hand.
NUM_EXAMPLES = 25


def save_graph(path, nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(
        [helper.make_node(kind, takes, gives, **given) for kind, takes, gives, given in nodes],
        path.stem,
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Raw rows with numbers and texts, which may be missing."""
    folder = tmp_path_factory.mktemp("people")
    table = pa.table(
        {
            "age": pa.array([20, None, 40, 60] * 25),
            "distance": np.where(np.arange(100) % 4 == 1, np.nan, np.arange(100) / 7),
            "city": pa.array(["Rom", "Łódź", None, "Rom"] * 25),
        }
    )
    preparation = Preparation(
        {
            "age": [Impute("mean")],
            "distance": [Impute("mean")],
            "city": [Impute("most_frequent"), Encode(to="one_hot")],
            "features": Concatenate(["age", "distance", "city"]),
        }
    )
    dataset = shoal.data.ingest(table, folder / "people").prepare(preparation)
    seen = [(name, FLOAT, ["n", 5]) for name in ("features", "seen")]
    model = save_graph(folder / "seen.onnx", [("Identity", ["features"], ["seen"], {})], seen[:1], seen[1:])
    raw = dataset.take(np.arange(50))
    return package(str(model), example=raw, dataset=dataset, kind="regression", name="people", path=folder / "package")


@pytest.fixture(scope="module")
def models(scorer, adder, picker, fixed_scorer, people, tmp_path_factory):
    """Pictures of bytes and of floats, several inputs, one row at a time, tabular rows, texts, and sizes that vary."""
    folder = tmp_path_factory.mktemp("more")
    mean = ("ReduceMean", ["x", "axes"], ["mean"], {"keepdims": 0})
    all_axes = ("axes", np.array([1, 2, 3], np.int64))
    return {
        "scorer": scorer,
        "adder": adder,
        "picker": picker,
        "fixed": fixed_scorer,
        "people": people,
        "photo": save_graph(
            folder / "photo.onnx", [mean], [("x", FLOAT, ["n", 3, 4, 5])], [("mean", FLOAT, ["n"])], [all_axes]
        ),
        "echo-1.b": save_graph(
            folder / "echo.onnx", [("Identity", ["text"], ["same"], {})], [("text", TEXT, ["n"])],
            [("same", TEXT, ["n"])],
        ),
        "open": save_graph(
            folder / "open.onnx", [("Neg", ["x"], ["y"], {})], [("x", TensorProto.FLOAT16, ["n", "m"])],
            [("y", TensorProto.FLOAT16, ["n", "m"])],
        ),
    }  # fmt: skip


@pytest.fixture(scope="module", params=[None, "a key"], ids=["open", "key"])
def server(request, models):
    with start(models, port=0, replicas=1, api_key=request.param) as server:
        server.key = request.param
        yield server


def test_the_document_says_what_the_server_does(server, tmp_path):
    key = ["--header", f"X-API-Key: {server.key}"] if server.key else []
    checks = Path(__file__).with_name("schemathesis_checks.py")
    asked = [
        *("run", f"{server.url}/openapi.json", "--checks", "all", "--max-examples", str(NUM_EXAMPLES), "--seed", "1"),
        # Ours instead of these two: what no schema can say may be refused, and what cannot be done in time too.
        *("--exclude-checks", "positive_data_acceptance,not_a_server_error"),
        *("--exclude-operation-id-regex", "^(load|unload)_model$", "--continue-on-failure", "--no-color"),
    ]

    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *asked, *key],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(checks)},
    )

    assert done.returncode == 0, f"{done.stdout[-20000:]}{done.stderr[-2000:]}"
    assert server.status()["restarts"] == {"front": 0, "replicas": 0}
