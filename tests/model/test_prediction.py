import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest

import shoal.data
from shoal.base import (
    ConfigError,
    ConflictError,
    CorruptError,
    InputError,
    NotFoundError,
    PackageError,
    StorageFullError,
    UnsupportedError,
    WorkerError,
    file_lock,
)
from shoal.model import Session, package, predict, read_prediction_plan
from shoal.model import prediction as module
from shoal.runtime import open_runtime


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(module, "_MIN_PART_ROWS", 100)


def expected(packaged, dataset):
    return Session(packaged).run({"image": dataset.arrays()["image"]})["scores"]


def test_each_row_gets_one_prediction_in_order(packaged, dataset, tmp_path):
    found = predict(packaged, dataset, tmp_path / "out", batch_size=33)

    arrays = found.arrays()
    assert found.num_rows == 600
    assert arrays["row"].tolist() == list(range(600))
    assert arrays["id"].tolist() == dataset.arrays()["id"].tolist()
    np.testing.assert_allclose(arrays["scores"], expected(packaged, dataset), atol=1e-6)


def test_a_split_is_predicted_alone(packaged, dataset, tmp_path):
    _, small = dataset.split(0.8, 0.2)

    found = predict(packaged, small, tmp_path / "out")

    assert found.arrays()["id"].tolist() == small.arrays()["id"].tolist()


def test_the_result_opens_as_a_dataset(packaged, dataset, tmp_path):
    found = predict(packaged, dataset, tmp_path / "out")

    again = shoal.data.open(tmp_path / "out")
    again.verify()
    assert again.digest == found.digest
    assert not (tmp_path / "out" / ".parts").exists()


def test_a_finished_prediction_is_not_done_again(packaged, dataset, tmp_path, monkeypatch):
    first = predict(packaged, dataset, tmp_path / "out")
    monkeypatch.setattr(module, "score_part", None)

    assert predict(packaged, dataset, tmp_path / "out", workers=4).digest == first.digest


KILLED = """
import os, signal, sys
import shoal.data
from shoal.model import open_package, predict, prediction
prediction._MIN_PART_ROWS = 100
package, dataset, out, place = sys.argv[1:]
if place == "between":
    def die(done):
        if done == 300:
            os.kill(os.getpid(), signal.SIGKILL)
else:
    die = None
    real = prediction.Dataset.create_from_segments
    def adopt(*arguments):
        if place == "after":
            real(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
    prediction.Dataset.create_from_segments = adopt
predict(open_package(package), shoal.data.open(dataset), out, progress=die)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("place", "num_missing"), [("between", 3), ("before", 0), ("after", None)])
def test_a_killed_prediction_does_only_what_is_missing(packaged, dataset, tmp_path, monkeypatch, place, num_missing):
    arguments = [sys.executable, "-c", KILLED, packaged.address, dataset.address, str(tmp_path / "out"), place]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    scored = []
    real = module.score_part
    monkeypatch.setattr(module, "score_part", lambda *given: (scored.append(given[2].start), real(*given)))

    found = predict(packaged, dataset, tmp_path / "out")

    assert scored == ([300, 400, 500] if num_missing else [])
    assert found.arrays()["row"].tolist() == list(range(600))
    assert not (tmp_path / "out" / ".parts").exists()


def test_a_part_cut_short_leaves_no_part(packaged, dataset, tmp_path, monkeypatch):
    real = Session.run
    calls = []

    def run(self, inputs):
        calls.append(1)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return real(self, inputs)

    monkeypatch.setattr("shoal.model.scoring.Session.run", run)

    with pytest.raises(StorageFullError, match=r"000000000100\.arrow"):
        predict(packaged, dataset, tmp_path / "out", batch_size=60)

    assert [path.name for path in (tmp_path / "out" / ".parts").iterdir()] == ["000000000000.arrow"]


@pytest.mark.slow
def test_workers_give_what_one_process_gives(packaged, dataset, tmp_path):
    progress = []

    found = predict(packaged, dataset, tmp_path / "many", workers=2, progress=progress.append)

    assert found.digest == predict(packaged, dataset, tmp_path / "one").digest
    assert sorted(progress) == [100, 200, 300, 400, 500, 600]


class FatalRuntime:
    """Real workers, of which the first is killed by the part that it gets."""

    def pool(self, size):
        self.inner, self.submitted = open_runtime("local").pool(size), 0
        return self

    def submit(self, function, *arguments):
        self.submitted += 1
        if self.submitted == 1:
            return self.inner.submit(_die)
        return self.inner.submit(function, *arguments)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.inner.close(cancel=any(exception))


def _die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_worker_costs_no_row(packaged, dataset, tmp_path):
    runtime = FatalRuntime()

    found = predict(packaged, dataset, tmp_path / "out", workers=2, runtime=runtime)

    assert runtime.submitted == 7
    assert found.arrays()["row"].tolist() == list(range(600))


class DyingPool:
    """Runs each task at once, but its worker dies under the first `deaths` of them."""

    def __init__(self, deaths, cause=None):
        self.deaths, self.cause, self.submitted = deaths, cause, 0

    def submit(self, function, *arguments):
        future = Future()
        self.submitted += 1
        if self.submitted <= self.deaths:
            error = WorkerError("killed by signal 9", next_step="")
            error.__cause__ = self.cause
            future.set_exception(error)
        else:
            future.set_result(function(*arguments))
        return future

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def pool(self, size):
        return self


def test_a_part_whose_worker_died_is_tried_again(packaged, dataset, tmp_path):
    found = predict(packaged, dataset, tmp_path / "out", workers=2, runtime=DyingPool(2))

    assert found.arrays()["row"].tolist() == list(range(600))


def test_a_part_is_not_tried_for_ever(packaged, dataset, tmp_path):
    runtime = DyingPool(1000)

    with pytest.raises(WorkerError):
        predict(packaged, dataset, tmp_path / "out", workers=2, runtime=runtime)

    assert runtime.submitted <= 6 * 3


def test_a_part_that_raised_is_not_tried_again(packaged, dataset, tmp_path):
    runtime = DyingPool(1, cause=InputError("bad row", next_step=""))

    with pytest.raises(WorkerError):
        predict(packaged, dataset, tmp_path / "out", workers=2, runtime=runtime)

    assert runtime.submitted == 6


def test_predictions_of_another_package_are_not_mixed_in(packaged, make_graph, dataset, rows, tmp_path):
    predict(packaged, dataset, tmp_path / "out")
    other = package(make_graph(seed=3), example=rows, path=tmp_path / "other")

    with pytest.raises(ConflictError, match="holds predictions of package"):
        predict(other, dataset, tmp_path / "out")


def test_predictions_of_other_rows_are_not_mixed_in(packaged, dataset, tmp_path):
    predict(packaged, dataset.split(0.5, 0.5)[0], tmp_path / "out")

    with pytest.raises(ConflictError, match="holds predictions of dataset"):
        predict(packaged, dataset, tmp_path / "out")


def test_a_dataset_is_never_overwritten(packaged, dataset):
    with pytest.raises(ConflictError, match="another dataset"):
        predict(packaged, dataset, dataset.path)


def test_two_at_once_are_refused(packaged, dataset, tmp_path):
    with file_lock(tmp_path / "out" / ".lock"), pytest.raises(ConflictError):
        predict(packaged, dataset, tmp_path / "out")


def test_a_missing_column_is_named(packaged, rows, tmp_path):
    other = shoal.data.ingest({"picture": rows["image"]}, tmp_path / "other")

    with pytest.raises(InputError, match=r"'image' is no column of .*other@1: found picture"):
        predict(packaged, other, tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_a_dataset_without_rows_is_named_and_leaves_nothing(packaged, dataset, tmp_path):
    empty, _ = dataset.split(1e-12, 0.5)

    with pytest.raises(InputError, match=r"cannot predict .*rows@1#0-.*: it has no rows"):
        predict(packaged, empty, tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_a_wrong_shape_is_named(packaged, rows, tmp_path):
    other = shoal.data.ingest({"image": rows["image"][:, :3]}, tmp_path / "other")

    with pytest.raises(InputError, match=r"'image' has shape \[100, 3, 4\], expected \[any, 4, 4\]"):
        predict(packaged, other, tmp_path / "out")


def test_columns_go_along_as_they_are(packaged, rows, tmp_path):
    texts = ["näme", None, ""] * 200
    lists = [[1.5], [], None, [2.0, 3.0]] * 150
    table = pa.table({"id": rows["id"], "text": texts, "list": pa.array(lists, pa.list_(pa.float32()))})
    images = pa.FixedShapeTensorArray.from_numpy_ndarray(rows["image"])
    mixed = shoal.data.ingest(table.append_column("image", images), tmp_path / "mixed", num_shards=2)

    found = predict(packaged, mixed, tmp_path / "out", columns=["list", "text", "image"], batch_size=64)

    assert found.schema.names == ("row", "list", "text", "image", "scores")
    beside = pa.Table.from_batches(found.batches(["list", "text", "image"])).to_pylist()
    assert beside == pa.Table.from_batches(mixed.batches(["list", "text", "image"])).to_pylist()


def test_the_result_says_what_it_was_made_of(packaged, dataset, tmp_path):
    found = predict(packaged, dataset, tmp_path / "out")

    assert [(fact.path, fact.digest) for fact in found.sources] == [
        (dataset.address, dataset.digest),
        (packaged.address, packaged.digest),
    ]


def test_a_measured_batch_size_is_kept_by_calls_that_go_on(packaged, dataset, tmp_path, monkeypatch):
    first = predict(packaged, dataset, tmp_path / "out")
    monkeypatch.setattr(module, "measure_batch_size", None)

    assert predict(packaged, dataset, tmp_path / "out").digest == first.digest
    assert read_prediction_plan(tmp_path / "out").batch_size >= 1


def test_parts_of_a_slow_model_are_small(packaged, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MIN_PART_ROWS", 4_096)
    monkeypatch.setattr(module, "measure_batch_size", lambda *_: 1)

    predict(packaged, dataset, tmp_path / "out")

    assert read_prediction_plan(tmp_path / "out").part_rows == 256


def test_a_plain_onnx_file_is_a_model(graph, dataset, tmp_path):
    onnx.save(graph, tmp_path / "plain.onnx")

    found = predict(tmp_path / "plain.onnx", dataset, tmp_path / "out", batch_size=100)

    logits = Session(tmp_path / "plain.onnx").run({"image": dataset.arrays()["image"]})["logits"]
    np.testing.assert_allclose(found.arrays()["logits"], logits, atol=1e-5)


def test_a_file_that_was_changed_meanwhile_is_refused(make_graph, dataset, tmp_path):
    onnx.save(make_graph(), tmp_path / "plain.onnx")

    def change(_done):
        onnx.save(make_graph(seed=9), tmp_path / "plain.onnx")
        module.release()

    with pytest.raises(CorruptError, match=r"plain\.onnx was changed"):
        predict(tmp_path / "plain.onnx", dataset, tmp_path / "out", batch_size=100, progress=change)


def test_a_model_of_one_batch_size_gets_whole_batches(make_graph, dataset, tmp_path):
    onnx.save(make_graph(batch=64), tmp_path / "fixed.onnx")

    found = predict(tmp_path / "fixed.onnx", dataset, tmp_path / "out")

    free = Session(make_graph().SerializeToString()).run({"image": dataset.arrays()["image"]})["logits"]
    np.testing.assert_allclose(found.arrays()["logits"], free, atol=1e-5)
    plan = read_prediction_plan(tmp_path / "out")
    assert (plan.batch_size, plan.part_rows) == (64, 128)


def make_lookup(batch="batch"):
    """index int64 [batch] -> the float at that place of ten; fails for an index beyond them."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gather", ["values", "index"], ["found"])],
        "lookup",
        [value("index", onnx.TensorProto.INT64, [batch])],
        [value("found", onnx.TensorProto.FLOAT, [batch])],
        [onnx.numpy_helper.from_array(np.arange(10, dtype=np.float32), "values")],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture
def refused(tmp_path):
    """A model, and 600 rows of which it refuses one; and that row's number."""
    onnx.save(make_lookup(), tmp_path / "lookup.onnx")
    rows = shoal.data.ingest(
        {"id": np.arange(600), "index": np.where(np.arange(600) == 555, 10, 3)}, tmp_path / "indices", key="id"
    )
    return tmp_path / "lookup.onnx", rows, int(np.flatnonzero(rows.arrays()["index"] == 10)[0])


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_row_that_the_model_refuses_is_named(refused, tmp_path, workers):
    model, rows, row = refused

    with pytest.raises((PackageError, WorkerError), match=rf"failed on row {row} \(id 555\) of .*indices@1: ") as error:
        predict(model, rows, tmp_path / "out", batch_size=32, workers=workers)

    assert error.value.next_step.startswith("correct that row, or leave it out")


def test_a_url_is_refused_before_a_folder_of_its_name_is_made(packaged, dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UnsupportedError, match="cannot write predictions to s3://bucket/out"):
        predict(packaged, dataset, "s3://bucket/out")

    assert not (tmp_path / "s3:").exists()


def test_rows_whose_workers_keep_dying_are_named(packaged, dataset, tmp_path):
    with pytest.raises(
        WorkerError, match=r"rows \d* to \d*99 of .*rows@1 were tried 3 times: killed by signal 9"
    ) as error:
        predict(packaged, dataset, tmp_path / "out", workers=2, runtime=DyingPool(1000))

    assert "it goes on with the rows that are missing" in error.value.next_step


def test_progress_begins_with_what_earlier_calls_did(packaged, dataset, tmp_path):
    def stop(done):
        if done == 300:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(packaged, dataset, tmp_path / "out", progress=stop)
    progress = []

    predict(packaged, dataset, tmp_path / "out", progress=progress.append)

    assert progress == [300, 400, 500, 600]


class ForgetfulPool(DyingPool):
    """Says that each part is done, as a worker does whose disk this process does not see."""

    def __init__(self):
        super().__init__(0)

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(None)
        return future


def test_parts_on_another_machine_s_disk_are_told(packaged, dataset, tmp_path):
    with pytest.raises(NotFoundError, match="is not there for this process") as error:
        predict(packaged, dataset, tmp_path / "out", workers=2, runtime=ForgetfulPool())

    assert "that all nodes of the cluster see" in error.value.next_step


COMMAND = """
import sys
import shoal.data
from shoal.model import open_package, predict, prediction
prediction._MIN_PART_ROWS = 10
package, dataset, out = sys.argv[1:]
predict(open_package(package), shoal.data.open(dataset), out, workers=2, batch_size=10)
"""


def children_of(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found += [int(stat.parent.name), *children_of(int(stat.parent.name))]
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes as Linux lists them")
def test_kills_at_any_instant_cost_no_row_and_repeat_none(packaged, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MIN_PART_ROWS", 10)
    whole = predict(packaged, dataset, tmp_path / "whole", batch_size=10)
    out, draw = tmp_path / "out", random.Random(0)
    arguments = [sys.executable, "-c", COMMAND, packaged.address, dataset.address, str(out)]

    def written():
        return {path.name: path.stat().st_mtime_ns for path in out.glob(".parts/[0-9]*.arrow")}

    before, kills, process = {}, 0, None
    while process is None or process.returncode:
        process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        # A worker first, then the command itself, each after some more parts; the last commands are left alone.
        for victims in (children_of, lambda pid: [pid]) if kills < 10 else ():
            wanted = len(written()) + draw.randrange(6)
            while process.poll() is None and len(written()) < wanted:
                time.sleep(0.001)
            found = victims(process.pid)
            if process.poll() is None and found:
                os.kill(draw.choice(found), signal.SIGKILL)
                kills += 1
        process.wait(timeout=60)
        # What was whole stays untouched: nothing of it is computed again.
        assert process.returncode == 0 or written().items() >= before.items()
        before = written()

    assert kills >= 3
    found = shoal.data.open(out)
    found.verify()
    assert found.arrays()["row"].tolist() == list(range(600))
    assert found.digest == whole.digest


@pytest.mark.cluster
def test_a_cluster_gives_what_one_process_gives(packaged, dataset, tmp_path, ray_cluster):
    one = predict(packaged, dataset, tmp_path / "one", batch_size=50)

    found = predict(packaged, dataset, tmp_path / "out", workers=3, runtime="ray", batch_size=50)

    assert found.digest == one.digest


class FatalCluster(FatalRuntime):
    def pool(self, size):
        self.inner, self.submitted = open_runtime("ray").pool(size), 0
        return self


@pytest.mark.cluster
def test_a_killed_worker_on_a_cluster_costs_no_row(packaged, dataset, tmp_path, ray_cluster):
    runtime = FatalCluster()

    found = predict(packaged, dataset, tmp_path / "out", workers=2, runtime=runtime)

    assert runtime.submitted == 7
    assert found.arrays()["row"].tolist() == list(range(600))


@pytest.mark.cluster
def test_one_worker_on_a_cluster_does_not_work_here(packaged, dataset, tmp_path, ray_cluster, monkeypatch):
    monkeypatch.setattr(module, "_score_here", None)

    found = predict(packaged, dataset, tmp_path / "out", runtime="ray", batch_size=50)

    assert found.num_rows == 600


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"batch_size": 0}])
def test_nothing_to_work_with_is_refused(packaged, dataset, tmp_path, wrong):
    with pytest.raises(ConfigError, match="must be >= 1"):
        predict(packaged, dataset, tmp_path / "out", **wrong)
