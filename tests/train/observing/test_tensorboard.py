import pytest

from shoal.train.observing.boards import Boards

pytestmark = pytest.mark.slow
pytest.importorskip("tensorboard")


def test_tensorboard_reads_the_curves(tmp_path):
    with Boards.open(["tensorboard"], run_id="r-0001", folder=tmp_path, config={"width": 3}) as boards:
        for step in range(1, 4):
            boards.metric("train.loss", 1 / step, step)
        boards.metric("validation.accuracy", 0.5, 3)

    found = _read(tmp_path / "tensorboard")
    assert found["train/loss"] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert found["validation/accuracy"] == [(3, 0.5)]


def test_a_resumed_run_replaces_what_it_does_again(tmp_path):
    for steps, value in (((1, 2, 3), 1.0), ((3, 4), 2.0)):
        with Boards.open(["tensorboard"], run_id="r-0001", folder=tmp_path, config={}) as boards:
            for step in steps:
                boards.metric("train.loss", value, step)

    assert _read(tmp_path / "tensorboard")["train/loss"] == [(1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]


def _read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }
