"""Python classes as models: what they declare, what they get, and what becomes of their errors."""

import logging
from typing import ClassVar

import numpy as np
import pytest

from shoal.base import InputError, NotFoundError, PackageError, ServeError, UnsupportedError
from shoal.model import Signature, TensorSpec
from shoal.serve import Client, start
from shoal.serve.replicas.carrying import carry
from shoal.serve.replicas.loading import load_model
from shoal.serve.replicas.python_models import PythonModel, check_address, import_model, is_address


class Mean:
    """Means of rows; refuses negative numbers, and fails on those above a hundred."""

    example: ClassVar = {"values": np.ones((3, 2), np.float32)}

    def __init__(self, scale=1.0):
        self.scale = scale
        self.sizes = []

    def predict(self, batch):
        values = batch["values"]
        self.sizes.append(len(values))
        if (values < 0).any():
            raise ValueError("values must not be negative")
        if (values > 100).any():
            raise RuntimeError("the secret path is /etc/somewhere")
        values *= np.float32(self.scale)
        return {"mean": values.mean(axis=1)}


class Declared:
    signature = Signature(
        (TensorSpec("x", "int64", (None,)),), (TensorSpec("y", "int64", (None,)), TensorSpec("z", "bool", (None,)))
    )
    deterministic = False

    def predict(self, batch):
        return {"y": batch["x"] + 1, "z": batch["x"] > 0}


class Alone:
    example: ClassVar = {"x": np.zeros((2, 3))}
    batched = False

    def predict(self, batch):
        return batch["x"].sum()


def test_an_example_tells_inputs_and_outputs():
    model = PythonModel(Mean(2.0), "Mean")

    assert model.signature.inputs == (TensorSpec("values", "float32", (None, 2)),)
    assert model.signature.outputs == (TensorSpec("mean", "float32", (None,)),)
    assert model.run({"values": np.array([[1, 3]], np.float32)})["mean"].tolist() == [4.0]


def test_a_signature_tells_them_without_an_example():
    loaded = load_model(carry(Declared))

    assert [field.datatype for field in loaded.interface.outputs] == ["INT64", "BOOL"]
    assert not loaded.interface.deterministic
    assert loaded.interface.batched
    assert loaded.timings


def test_a_model_may_want_each_request_alone():
    loaded = load_model(carry(Alone()))

    assert not loaded.interface.batched
    assert loaded.run([np.ones((2, 3))])[0] == 6


def test_what_a_model_changes_is_its_own_copy():
    values = np.ones((1, 2), np.float32)

    PythonModel(Mean(3.0), "Mean").run({"values": values})

    assert values.tolist() == [[1, 1]]


def test_a_value_error_is_the_inputs_fault():
    model = PythonModel(Mean, "Mean")

    with pytest.raises(InputError, match="Mean does not take these values: values must not be negative"):
        model.run({"values": np.full((1, 2), -1, np.float32)})


def test_any_other_error_is_the_models_and_its_traceback_stays_here(caplog):
    model = PythonModel(Mean, "Mean")

    with caplog.at_level(logging.ERROR), pytest.raises(ServeError) as caught:
        model.run({"values": np.full((1, 2), 101, np.float32)})

    assert caught.value.status == 500
    assert "secret" not in str(caught.value)
    assert "secret" in caplog.text


def test_outputs_must_stay_what_they_were():
    class Moody:
        example: ClassVar = {"x": np.zeros(2)}

        def predict(self, batch):
            return batch["x"].astype(np.int64) if batch["x"].any() else batch["x"]

    with pytest.raises(ServeError, match=r"gave int64 \[1\] for its output 'output', expected float64 \[any\]"):
        PythonModel(Moody(), "Moody").run({"x": np.ones(1)})


class Silent:
    def predict(self, batch):
        return batch


class Failing(Mean):
    def predict(self, batch):
        raise KeyError("values")


class Unmakeable(Mean):
    def __init__(self, needed):
        self.needed = needed


@pytest.mark.parametrize(
    ("model", "what"),
    [(Silent, "does not say what it takes"), (Failing, "KeyError"), (Unmakeable, "cannot make a Unmakeable")],
)
def test_a_model_that_cannot_be_served_is_told_at_the_start(model, what):
    with pytest.raises(PackageError, match=what):
        PythonModel(model, model.__name__)


def test_a_file_is_found_without_running_it(tmp_path):
    (tmp_path / "risky.py").write_text("raise SystemExit\nclass Model: ...\n")
    (tmp_path / "broken.py").write_text("class Model(")

    assert is_address("a/b.py:Model")
    assert not is_address("fashion@production")
    assert check_address(f"{tmp_path}/risky.py:Model") == (f"{tmp_path}/risky.py:Model", "Model")
    with pytest.raises(NotFoundError, match="no Other, only Model"):
        check_address(f"{tmp_path}/risky.py:Other")
    with pytest.raises(NotFoundError, match="no file"):
        check_address(f"{tmp_path}/absent.py:Model")
    with pytest.raises(UnsupportedError, match="never closed"):
        check_address(f"{tmp_path}/broken.py:Model")


def test_a_file_that_fails_is_told_by_its_error(tmp_path):
    (tmp_path / "failing_model_file.py").write_text("import nothing_of_this_name\n")

    with pytest.raises(PackageError, match="nothing_of_this_name"):
        import_model(f"{tmp_path}/failing_model_file.py:Model")


def test_an_object_is_served(tmp_path):
    with start(Mean(10.0), port=0, replicas=2, log_folder=tmp_path) as server, Client(server.url) as client:
        result = client.infer("Mean", {"values": np.array([[1, 2], [3, 4]], np.float32)})

        assert result.outputs["mean"].tolist() == [15.0, 35.0]
        with pytest.raises(InputError, match="must not be negative"):
            client.infer("Mean", {"values": np.full((1, 2), -1, np.float32)})
        with pytest.raises(InputError, match="datatype"):
            client.infer("Mean", {"values": np.ones((1, 2))})


def test_a_replica_lives_on_after_its_model_failed():
    with start(Mean(), port=0, replicas=1) as server, Client(server.url) as client:
        replicas = server.pids()["replicas"]

        with pytest.raises(ServeError, match="failed on this input with a RuntimeError") as caught:
            client.infer("Mean", {"values": np.full((1, 2), 101, np.float32)})

        assert caught.value.status == 500
        assert client.infer("Mean", {"values": np.ones((1, 2), np.float32)}).outputs["mean"].tolist() == [1]
        assert server.pids()["replicas"] == replicas


def test_a_class_in_a_file_is_served_from_there(tmp_path):
    (tmp_path / "beside_the_model.py").write_text("FACTOR = 7\n")
    (tmp_path / "mymodule.py").write_text(
        "import numpy as np\nfrom beside_the_model import FACTOR\n\n"
        "class Model:\n    example = {'x': np.zeros(2, np.int64)}\n\n"
        "    def predict(self, batch):\n        return batch['x'] * FACTOR\n"
    )

    with start(f"{tmp_path}/mymodule.py:Model", port=0, replicas=1) as server, Client(server.url) as client:
        assert client.infer("Model", {"x": np.array([2])}).outputs["output"].tolist() == [14]


def test_a_class_that_fails_when_made_does_not_start():
    with pytest.raises(ServeError, match="cannot make a Unmakeable"):
        start(Unmakeable, port=0, replicas=1)
