import os
import signal
import subprocess
import sys
from concurrent.futures import Future

import numpy as np
import pytest

import shoal.data
from shoal.base import ConfigError, ConflictError, InputError, StorageFullError, WorkerError, file_lock
from shoal.model import Session, package, predict
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


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"batch_size": 0}])
def test_nothing_to_work_with_is_refused(packaged, dataset, tmp_path, wrong):
    with pytest.raises(ConfigError, match="must be >= 1"):
        predict(packaged, dataset, tmp_path / "out", **wrong)
