import errno
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from shoal.base import CorruptError, InputError, NotFoundError, StorageFullError, UnsupportedError, open_handle
from shoal.testing.strategy import ContractTask, ThreadGroup, make_rows, make_state, train_once
from shoal.train.base import Position
from shoal.train.checkpoint import load_state, newest_checkpoint, open_checkpoint, read_checkpoint, write_checkpoint
from shoal.train.collective import Collective

ENVIRONMENT = {"torch": "2", "threads": "1"}


@pytest.fixture
def trained():
    class Scheduled(ContractTask):
        def scheduler(self, optimizer, num_steps):
            return torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3])

    ((state, _),) = ThreadGroup(1).run(
        lambda group: train_once(Collective(num_virtual=2), group, make_rows(), Scheduled())
    )
    state.position = Position(epoch=1, batch=2, step=4, loss_sum=0.1 + 0.2, rows=32)
    return state


def at_step(state, step):
    state.position = replace(state.position, step=step)
    return state


def test_a_state_comes_back_with_all_its_bits(trained, tmp_path):
    written = write_checkpoint(tmp_path / "a", trained, ENVIRONMENT)
    fresh = make_state(trained.task)

    load_state(written, fresh)

    assert fresh.position == trained.position
    assert write_checkpoint(tmp_path / "b", fresh, ENVIRONMENT).digest == written.digest
    assert fresh.scheduler.state_dict() == trained.scheduler.state_dict()


def test_equal_states_have_equal_digests_and_others_have_not(trained, tmp_path):
    first = write_checkpoint(tmp_path / "a", trained, ENVIRONMENT)
    again = write_checkpoint(tmp_path / "b", trained, ENVIRONMENT)
    with torch.no_grad():
        next(trained.module.parameters()).view(-1)[0] += 1e-6

    assert again.digest == first.digest != write_checkpoint(tmp_path / "c", trained, ENVIRONMENT).digest


def test_only_the_newest_are_kept(state, tmp_path):
    for step in (1, 5, 12):
        write_checkpoint(tmp_path, at_step(state, step), ENVIRONMENT)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000000005", "0000000012"]


def test_a_run_begun_anew_outlives_the_damaged_future_it_replaces(state, tmp_path):
    for step in (200, 300):
        (write_checkpoint(tmp_path, at_step(state, step), ENVIRONMENT).path / "checkpoint.json").write_text("{}")

    written = write_checkpoint(tmp_path, at_step(state, 100), ENVIRONMENT)

    assert newest_checkpoint(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == ["0000000100"]


def test_what_a_killed_writer_left_aside_is_removed(state, tmp_path):
    (tmp_path / ".0000000001.abcdefgh.tmp").mkdir()

    write_checkpoint(tmp_path, state, ENVIRONMENT)

    assert [path.name for path in tmp_path.iterdir()] == ["0000000000"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.tree", "checkpoint.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_a_damaged_newest_falls_back_with_a_warning(state, tmp_path, name, damage):
    good = write_checkpoint(tmp_path, at_step(state, 1), ENVIRONMENT)
    file = write_checkpoint(tmp_path, at_step(state, 2), ENVIRONMENT).path / name
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[:-5])
    elif damage == "flip":
        file.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    else:
        file.unlink()

    with pytest.warns(RuntimeWarning, match="0000000002.*before it"):
        assert newest_checkpoint(tmp_path) == good


def test_a_damaged_one_is_replaced_when_its_step_is_reached_again(state, tmp_path):
    first = write_checkpoint(tmp_path, state, ENVIRONMENT)
    (first.path / "model.safetensors").write_bytes(b"")

    assert write_checkpoint(tmp_path, state, ENVIRONMENT) == first == newest_checkpoint(tmp_path)


def test_a_full_disk_leaves_nothing_half_written(state, tmp_path, monkeypatch):
    good = write_checkpoint(tmp_path, at_step(state, 1), ENVIRONMENT)
    write_bytes = Path.write_bytes

    def fill_up(path, data):
        if path.name == "checkpoint.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", fill_up)
    with pytest.raises(StorageFullError):
        write_checkpoint(tmp_path, at_step(state, 2), ENVIRONMENT)

    assert [path.name for path in tmp_path.iterdir()] == ["0000000001"]
    assert newest_checkpoint(tmp_path) == good


def test_tied_weights_are_kept(tmp_path):
    class Tied(ContractTask):
        def build(self):
            module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
            module[1].weight = module[0].weight
            return module

    state = make_state(Tied())

    weights = write_checkpoint(tmp_path, state, ENVIRONMENT).weights()

    assert torch.equal(weights["1.weight"], state.module[0].weight)


def test_another_model_is_refused(state, tmp_path):
    checkpoint = write_checkpoint(tmp_path, state, ENVIRONMENT)

    with pytest.raises(InputError, match="size mismatch"):
        load_state(checkpoint, make_state(ContractTask(width=9)))


def test_a_state_that_cannot_be_written_is_named(tmp_path):
    class Half(ContractTask):
        def build(self):
            return nn.Linear(5, 3, dtype=torch.bfloat16)

        def inputs(self, batch):
            return (batch["features"].bfloat16(),)

    ((state, _),) = ThreadGroup(1).run(lambda group: train_once(Collective(num_virtual=1), group, make_rows(), Half()))

    with pytest.raises(UnsupportedError, match="bfloat16"):
        write_checkpoint(tmp_path, state, ENVIRONMENT)
    assert list(tmp_path.iterdir()) == []


def test_it_opens_as_a_handle(state, tmp_path):
    written = write_checkpoint(tmp_path, state, ENVIRONMENT)

    assert open_handle(written.kind, written.address, written.digest) == written
    with pytest.raises(CorruptError, match="expected b3:other"):
        open_checkpoint(written.address, "b3:other")


def test_a_folder_without_one_says_so(tmp_path):
    assert newest_checkpoint(tmp_path / "missing") is None
    with pytest.raises(NotFoundError):
        read_checkpoint(tmp_path / "missing")
