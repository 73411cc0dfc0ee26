import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shoal.base import ConfigError, InputError
from shoal.data import Profile
from shoal.model import score_columns
from shoal.watch import AlertPolicy, Watcher, Window

FASHION = Path("/usr/share/datasets/fashion-mnist")


def write(log, world, num_windows: int, drift: float = 0.0, *, version: str = "1", rows: int = 200) -> None:
    for _ in range(num_windows):
        log.write(*world.sample(rows, drift), version=version)


def test_fifty_clean_windows_raise_nothing(prediction_log, world, reference, store):
    write(prediction_log, world, 50)

    windows = list(Watcher(prediction_log.folder, reference, store=store).windows())

    assert len(windows) == 50
    assert not any(window.report.drifted or window.is_raised or window.actions for window in windows)
    assert store.alerts.list() == []


@pytest.mark.parametrize("drift", [0.6, 1.0])
def test_drift_is_raised_within_three_windows(prediction_log, world, reference, store, drift: float):
    write(prediction_log, world, 5)
    write(prediction_log, world, 3, drift)

    windows = list(Watcher(prediction_log.folder, reference, store=store).windows())

    raised = [window.index for window in windows if "raise" in window.actions]
    assert len(raised) == 1
    assert raised[0] in (5, 6, 7)
    (alert,) = store.alerts.list("fashion")
    assert alert == windows[raised[0]].alert
    assert alert.kind == "drift"
    assert alert.fields["first_row"] == 200 * raised[0]
    assert {column["column"] for column in alert.fields["columns"]} <= reference.columns.keys()


def test_alert_is_closed_when_traffic_is_clean_again(prediction_log, world, reference, store):
    write(prediction_log, world, 2, 1.0)
    write(prediction_log, world, 3)

    windows = list(Watcher(prediction_log.folder, reference, store=store).windows())

    assert [window.actions for window in windows] == [("raise",), (), (), ("clear",), ()]
    assert windows[3].alert is not None
    assert windows[3].alert.closed is not None
    assert [alert.closed is None for alert in store.alerts.list()] == [False]


def test_next_watcher_takes_over_an_open_alert(prediction_log, world, reference, store):
    write(prediction_log, world, 1, 1.0)
    first = Watcher(prediction_log.folder, reference, store=store)
    list(first.windows())
    write(prediction_log, world, 1, 1.0)
    write(prediction_log, world, 2)

    second = Watcher(prediction_log.folder, reference, store=store, since_row=first.next_row)

    assert second.is_raised
    assert [window.actions for window in second.windows()] == [(), (), ("clear",)]
    assert len(store.alerts.list()) == 1


def test_rows_that_fill_no_window_wait(prediction_log, world, reference):
    watcher = Watcher(prediction_log.folder, reference)
    spans = []
    for rows in (150, 150, 350):
        prediction_log.write(*world.sample(rows))

        spans.append([window.rows for window in watcher.windows()])

    assert spans == [[], [range(200)], [range(200, 400), range(400, 600)]]
    assert watcher.next_row == 600


def test_stopping_in_the_middle_loses_no_window(prediction_log, world, reference):
    write(prediction_log, world, 3)
    watcher = Watcher(prediction_log.folder, reference)

    first = next(watcher.windows())
    rest = list(watcher.windows())

    assert [window.index for window in (first, *rest)] == [0, 1, 2]
    assert [window.rows.start for window in (first, *rest)] == [0, 200, 400]


def test_until_row_ends_the_watch(prediction_log, world, reference):
    write(prediction_log, world, 3)

    windows = list(Watcher(prediction_log.folder, reference, since_row=100).windows(until_row=550))

    assert [window.rows for window in windows] == [range(100, 300), range(300, 500)]


def test_windows_merge_to_the_profile_of_all_rows(prediction_log, world, reference):
    write(prediction_log, world, 4)

    small = list(Watcher(prediction_log.folder, reference, window_rows=200).windows())
    (large,) = Watcher(prediction_log.folder, reference, window_rows=800).windows()

    merged = small[0].profile
    for window in small[1:]:
        merged = merged.merge(window.profile)
    assert merged == large.profile


def test_one_version_is_watched_among_others(prediction_log, world, reference):
    for _ in range(8):
        write(prediction_log, world, 1, version="1", rows=100)
        write(prediction_log, world, 1, 1.0, version="2", rows=25)

    def watch(version: str | None) -> list[Window]:
        return list(Watcher(prediction_log.folder, reference, version=version).windows())

    assert [window.versions for window in watch("1")] == [{"1": 200}] * 4
    assert not any(window.is_raised for window in watch("1"))
    assert [(window.versions, window.is_raised) for window in watch("2")] == [({"2": 200}, True)]
    assert watch(None)[0].versions == {"1": 175, "2": 25}


def test_policy_and_columns_are_settings(prediction_log, world, reference):
    write(prediction_log, world, 3, 0.6)

    watcher = Watcher(
        prediction_log.folder, reference, columns=["image.mean"], policy=AlertPolicy(patience=3, sudden=9)
    )

    windows = list(watcher.windows())
    assert [window.actions for window in windows] == [(), (), ("raise",)]
    assert [drift.column for drift in windows[0].report.columns] == ["image.mean"]


def test_window_of_nothing_is_refused(prediction_log, reference):
    with pytest.raises(ConfigError, match="window_rows=0"):
        Watcher(prediction_log.folder, reference, window_rows=0)


class Linear:
    """A ridge regression with a softmax, fitted in closed form: a real, mediocre classifier without torch."""

    def __init__(self, images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> None:
        inputs = self._inputs(images)
        targets = np.eye(10)[labels]
        self.weights = np.linalg.solve(inputs.T @ inputs + 10 * np.eye(785), inputs.T @ targets)

    def _inputs(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.concatenate([images.reshape(len(images), 784) / 255.0, np.ones((len(images), 1))], axis=1)

    def scores(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        powers = np.exp(6 * (self._inputs(images) @ self.weights))
        return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def read_idx(name: str, offset: int, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    with gzip.open(FASHION / name) as source:
        data = source.read(offset + int(np.prod(shape)))
    return np.frombuffer(data, np.uint8, offset=offset).reshape(shape)


def rotated(images: np.ndarray[Any, Any], _: np.random.Generator) -> np.ndarray[Any, Any]:
    return np.rot90(images, axes=(1, 2))


def noisy(images: np.ndarray[Any, Any], random: np.random.Generator) -> np.ndarray[Any, Any]:
    return (images + random.normal(0, 40, images.shape)).clip(0, 255).astype(np.uint8)


def one_class(images: np.ndarray[Any, Any], _: np.random.Generator) -> np.ndarray[Any, Any]:
    return np.repeat(images[:1], len(images), axis=0)


@pytest.fixture(scope="module")
def fashion() -> tuple[Linear, Profile]:
    if not FASHION.exists():
        pytest.skip("Fashion-MNIST is not installed")
    images, labels = (
        read_idx("train-images-idx3-ubyte.gz", 16, (9000, 28, 28)),
        read_idx("train-labels-idx1-ubyte.gz", 8, (9000,)),
    )
    model, profile = Linear(images[:6000], labels[:6000]), Profile()
    # Scores of rows the model was not fitted to: those it knows it is too sure of.
    held_out = images[6000:]
    profile.update({"image": held_out, **score_columns({"scores": model.scores(held_out)}, "classification")})
    return model, profile


def test_fifty_windows_of_real_images_raise_nothing(fashion, make_log):
    model, profile = fashion
    images = read_idx("t10k-images-idx3-ubyte.gz", 16, (10_000, 28, 28))
    log = make_log(shape=(28, 28), classes=10)
    log.write(images, model.scores(images))

    windows = list(Watcher(log.folder, profile).windows())

    assert len(windows) == 50
    assert not any(window.report.drifted for window in windows)


@pytest.mark.parametrize("corrupt", [rotated, noisy, one_class])
def test_corrupted_real_images_are_raised_within_two_windows(fashion, make_log, corrupt):
    model, profile = fashion
    images = corrupt(read_idx("t10k-images-idx3-ubyte.gz", 16, (400, 28, 28)), np.random.default_rng(0))
    log = make_log(shape=(28, 28), classes=10)
    log.write(images, model.scores(images))

    assert [window.is_raised for window in Watcher(log.folder, profile).windows()][-1]


@pytest.mark.parametrize(("dropped", "left"), [(("image",), "scores.class"), (("scores",), "image.mean")])
def test_what_the_log_has_is_watched_and_what_it_drops_is_said(make_log, world, reference, dropped, left):
    log = make_log(dropped=dropped, sample=0.25)
    write(log, world, 2)
    write(log, world, 3, 1.0)

    windows = list(Watcher(log.folder, reference).windows())

    assert [window.report.drifted for window in windows] == [False, False, True, True, True]
    assert {(window.not_logged, window.sample) for window in windows} == {(dropped, 0.25)}
    assert left in [drift.column for drift in windows[0].report.columns]
    assert set(dropped) <= {name.partition(".")[0] for name in windows[0].report.not_compared}


@pytest.mark.parametrize("column", ["image", "image.mean"])
def test_a_column_that_the_log_drops_cannot_be_watched(make_log, reference, column):
    log = make_log(dropped=("image",))

    with pytest.raises(InputError, match=f"cannot watch {column} of 'fashion'.* drops image"):
        Watcher(log.folder, reference, columns=[column])


def test_a_log_that_drops_everything_cannot_be_watched(make_log, reference):
    log = make_log(dropped=("image", "scores"))

    with pytest.raises(InputError, match="cannot watch anything"):
        Watcher(log.folder, reference)
