import time
from types import SimpleNamespace

import pytest
import torch

import shoal.store
from shoal.base import InputError, NotFoundError
from shoal.testing.strategy import ContractTask
from shoal.train import Callback, Collective, fit, replaying
from shoal.train.replaying import replay
from shoal.train.saving.packing import pack_state

pytestmark = pytest.mark.slow
NUM_STEPS = 8


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with shoal.store.open(tmp_path_factory.mktemp("home")) as opened:
        yield opened


class Unhurried(Callback):
    """Steps of a millisecond outrun the disk, and a checkpoint that waits makes way for a newer one."""

    def on_step(self, moment):
        del moment
        time.sleep(0.1)


@pytest.fixture(scope="module")
def trained(store, datasets):
    """Two epochs of four steps on two workers; checkpoints after steps 3, 4, 6 and 8, of which two stay."""
    return fit(
        ContractTask(),
        datasets[0],
        epochs=2,
        batch_size=16,
        strategy=Collective(num_virtual=3),
        workers=2,
        checkpoint_every_steps=3,
        callbacks=[Unhurried()],
        store=store,
    )


def test_a_step_is_done_again_bit_for_bit(trained, store):
    """Dropout, batch normalisation and momentum included: the next step's loss is that which was recorded."""
    found = replay(trained.run, 6, store=store)
    outcome = found.step(0, lambda function, args, named: function(*args, **named))

    assert found.checkpoint_step == 0
    assert sorted(found.losses) == [1, 2, 3, 4, 5]
    assert found.differing == []
    assert outcome.loss == found.recorded[6]


def test_it_begins_at_the_last_checkpoint_before_the_step(trained, store):
    found = replay(trained.run, NUM_STEPS, store=store)

    assert found.checkpoint_step == 6
    assert list(found.losses) == [7]
    assert found.probe()[0] == found.recorded[NUM_STEPS]


def test_the_state_is_that_before_the_step(trained, store):
    """The end of the replayed last step is the model that the run came to."""
    found = replay(trained.run, NUM_STEPS, store=store)

    found.step(2, lambda function, args, named: function(*args, **named))

    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, found.state.module.state_dict()[name]), name


def test_a_probe_moves_nothing_and_tells_each_micro_batch(trained, store):
    found = replay(trained.run, 2, store=store)
    before = pack_state(found.state).clone()

    loss, losses = found.probe()

    assert torch.equal(pack_state(found.state), before)
    assert sorted(losses) == [0, 1, 2]
    rows = found.batch.rows
    assert sum(losses[part] * rows[part] for part in losses) / sum(rows) == pytest.approx(loss)
    assert found.probe() == (loss, losses)


def test_the_rows_are_those_of_the_dataset(trained, store, datasets):
    rows = datasets[0].loader(batch_size=53, format="numpy", prefetch=False)
    every = next(iter(rows))

    found = replay(trained.run, 5, store=store)

    for part, numbers in enumerate(found.rows):
        if len(numbers):
            batch = found.batch.read(part)
            for name, column in batch.items():
                assert (column.numpy() == every[name][numbers]).all(), name


def test_the_loss_of_one_micro_batch_is_handed_over(trained, store):
    seen = []

    def watch(function, args, named):
        seen.append((function.__name__, len(args[1]["label"])))
        return function(*args, **named)

    found = replay(trained.run, 1, store=store)
    found.step(2, watch)

    assert seen == [("loss", len(found.rows[2]))]


def test_a_micro_batch_that_is_not_there_is_refused(trained, store):
    found = replay(trained.run, 1, store=store)

    with pytest.raises(InputError, match="choose of 0, 1, 2"):
        found.step(7, lambda function, args, named: function(*args, **named))


@pytest.mark.parametrize(("step", "message"), [(NUM_STEPS + 1, "ends after step 8"), (0, "must be >= 1")])
def test_a_step_that_never_was_is_refused(trained, store, step, message):
    with pytest.raises(InputError, match=message):
        replay(trained.run, step, store=store)


def test_what_is_no_training_is_refused(store):
    with store.runs.start(kind="flow", name="other", config={}) as run:
        pass

    with pytest.raises(NotFoundError, match="of kind 'flow'"):
        replay(run.id, 1, store=store)


@pytest.mark.parametrize(
    ("asked", "found", "expected"),
    [
        ("cpu", None, "cpu"),
        (None, "cpu", "cpu"),
        ("cuda:1", None, None),
        (None, "cuda, H100", None),
        (None, None, None),
    ],
)
def test_it_is_done_on_the_kind_of_device_that_the_run_was_on(make_plan, asked, found, expected):
    checkpoint = found and SimpleNamespace(environment={"device": found})
    replayer = replaying._Replayer(make_plan(), "r-0001", 3, "", {}, asked)

    assert replayer._device(checkpoint) == expected
