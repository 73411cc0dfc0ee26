import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.base import (
    CorruptError,
    InputError,
    NotFoundError,
    RemoteError,
    UnsupportedError,
    digest_json,
    open_handle,
)
from shoal.testing.object_server import serve_folder
from shoal.testing.strategy import ContractTask
from shoal.train.building import build_state
from shoal.train.checkpoint import load_state, newest_checkpoint, open_checkpoint, read_checkpoint, write_checkpoint

ENVIRONMENT = {"torch": "2", "threads": "1"}
FILES = ["model.safetensors", "progress.safetensors", "checkpoint.json"]


@pytest.fixture
def make_state():
    def make(task=None, *, seed=11):
        return build_state(task or ContractTask(), seed=seed, num_steps=4)

    return make


@pytest.fixture
def trained(make_state):
    state = make_state()
    for param in state.module.parameters():
        param.grad = torch.ones_like(param)
    state.optimizers[0].step()
    state.extras["batch_size"] = {"now": 64}
    state.position = replace(state.position, epoch=1, row=32, step=4, loss_sum=0.1 + 0.2, validated_step=2)
    return state


@pytest.fixture
def server(tmp_path):
    with serve_folder(tmp_path / "served") as running:
        yield running


@pytest.fixture(params=["folder", "store"])
def place(request, server, tmp_path):
    """The address of a place, folder or store, and the folder in which its files lie."""
    if request.param == "folder":
        return str(tmp_path / "checkpoints"), tmp_path / "checkpoints"
    return server.s3_url("bucket/checkpoints"), server.folder / "bucket" / "checkpoints"


def at_step(state, step):
    state.position = replace(state.position, step=step)
    return state


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1
    path.write_bytes(data)


def test_a_state_comes_back_with_all_its_bits(trained, make_state, place, tmp_path):
    address, _ = place
    written = write_checkpoint(address, trained, ENVIRONMENT)
    fresh = make_state(seed=5)

    load_state(newest_checkpoint(address), fresh)

    assert fresh.position == trained.position
    assert fresh.extras == trained.extras
    assert write_checkpoint(tmp_path / "again", fresh, ENVIRONMENT).digest == written.digest


def test_equal_states_have_equal_digests_and_others_have_not(trained, tmp_path):
    first = write_checkpoint(tmp_path / "a", trained, ENVIRONMENT)
    again = write_checkpoint(tmp_path / "b", trained, ENVIRONMENT)
    with torch.no_grad():
        next(trained.module.parameters()).view(-1)[0] += 1e-6

    assert again.digest == first.digest != write_checkpoint(tmp_path / "c", trained, ENVIRONMENT).digest


def test_its_weights_are_a_file_that_other_programs_read(trained, tmp_path):
    written = write_checkpoint(tmp_path, trained, ENVIRONMENT)

    weights = safetensors.torch.load_file(written.path / "model.safetensors")

    assert set(weights) == set(trained.module.state_dict()) == set(written.weights())
    assert all(torch.equal(weights[name], value) for name, value in trained.module.state_dict().items())


def test_the_older_ones_stay(trained, tmp_path):
    for step in (1, 5, 12):
        write_checkpoint(tmp_path, at_step(trained, step), ENVIRONMENT)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000000001", "0000000005", "0000000012"]
    assert newest_checkpoint(tmp_path).position.step == 12
    assert newest_checkpoint(tmp_path, up_to=11).position.step == 5
    assert newest_checkpoint(tmp_path, up_to=0) is None


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_newest_falls_back_with_a_warning(trained, place, name, damage):
    address, folder = place
    good = write_checkpoint(address, at_step(trained, 1), ENVIRONMENT)
    write_checkpoint(address, at_step(trained, 2), ENVIRONMENT)
    file = folder / "0000000002" / name
    if damage == "flip":
        flip(file, -9)
    else:
        file.write_bytes(file.read_bytes()[:-5] if damage == "cut" else b"")

    with pytest.warns(RuntimeWarning, match=r"0000000002.*before it"):
        assert newest_checkpoint(address) == good


@pytest.mark.parametrize("name", FILES[:2])
def test_one_that_lost_a_file_is_passed_over_with_a_warning(trained, place, name):
    address, folder = place
    good = write_checkpoint(address, at_step(trained, 1), ENVIRONMENT)
    write_checkpoint(address, at_step(trained, 2), ENVIRONMENT)
    (folder / "0000000002" / name).unlink()

    with pytest.warns(RuntimeWarning, match=rf"0000000002.*{name}.*before it"):
        assert newest_checkpoint(address) == good


def test_one_without_its_manifest_was_never_finished(trained, place):
    address, folder = place
    good = write_checkpoint(address, at_step(trained, 1), ENVIRONMENT)
    write_checkpoint(address, at_step(trained, 2), ENVIRONMENT)
    (folder / "0000000002" / "checkpoint.json").unlink()

    assert newest_checkpoint(address) == good


def test_two_damaged_ones_are_passed_over(trained, tmp_path):
    good = write_checkpoint(tmp_path, at_step(trained, 1), ENVIRONMENT)
    for step in (2, 3):
        flip(write_checkpoint(tmp_path, at_step(trained, step), ENVIRONMENT).path / FILES[0], 100)

    with pytest.warns(RuntimeWarning) as told:
        assert newest_checkpoint(tmp_path) == good
    assert len(told) == 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(name=st.sampled_from(FILES), position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_is_found(trained, tmp_path, name, position, bit):
    written = write_checkpoint(tmp_path, trained, ENVIRONMENT)
    path = written.path / name
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << bit
    try:
        path.write_bytes(data)

        with pytest.raises((CorruptError, UnsupportedError)):
            read_checkpoint(written.path)
    finally:
        shutil.rmtree(written.path)


@pytest.mark.parametrize("name", FILES[:2])
def test_bytes_changed_after_it_was_opened_are_found(trained, make_state, place, name):
    address, folder = place
    opened = write_checkpoint(address, trained, ENVIRONMENT)
    flip(folder / "0000000004" / name, 200)

    with pytest.raises(CorruptError, match=name):
        load_state(opened, make_state())


@pytest.mark.parametrize("place_of", ["folder", "file"])
def test_garbage_beside_it_is_ignored(trained, tmp_path, place_of):
    good = write_checkpoint(tmp_path, trained, ENVIRONMENT)
    (tmp_path / "0000000099").mkdir() if place_of == "folder" else (tmp_path / "0000000099").write_text("?")
    (tmp_path / "latest").symlink_to(good.path)
    (tmp_path / ".0000000100.abcdefgh.tmp").mkdir()

    assert newest_checkpoint(tmp_path) == good


def test_a_damaged_one_is_replaced_when_its_step_is_reached_again(trained, place):
    address, folder = place
    first = write_checkpoint(address, trained, ENVIRONMENT)
    (folder / "0000000004" / "model.safetensors").write_bytes(b"")

    assert write_checkpoint(address, trained, ENVIRONMENT) == first == newest_checkpoint(address)


def test_one_that_is_whole_is_left_as_it_is(trained, place, server):
    address, folder = place
    first = write_checkpoint(address, trained, ENVIRONMENT)
    written_s = (folder / "0000000004" / "checkpoint.json").stat().st_mtime_ns

    assert write_checkpoint(address, trained, ENVIRONMENT) == first
    assert (folder / "0000000004" / "checkpoint.json").stat().st_mtime_ns == written_s


def test_a_store_out_of_reach_is_no_reason_to_begin_anew(trained, server):
    address = server.s3_url("bucket/checkpoints")
    write_checkpoint(address, trained, ENVIRONMENT)
    server.fail("status", "checkpoint.json", times=10, status=403)

    with pytest.raises(RemoteError, match="access was refused"):
        newest_checkpoint(address)


def test_another_format_is_said_and_not_passed_over(trained, tmp_path):
    write_checkpoint(tmp_path, at_step(trained, 1), ENVIRONMENT)
    path = write_checkpoint(tmp_path, at_step(trained, 2), ENVIRONMENT).path / "checkpoint.json"
    facts = {**json.loads(path.read_text())["facts"], "format": 3}
    path.write_text(json.dumps({"facts": facts, "digest": digest_json(facts)}))

    with pytest.raises(UnsupportedError, match="format is 3, expected 2"):
        newest_checkpoint(tmp_path)


def test_another_model_is_refused(trained, make_state, tmp_path):
    checkpoint = write_checkpoint(tmp_path, trained, ENVIRONMENT)

    with pytest.raises(InputError, match=r"0000000004(.|\n)*size mismatch"):
        load_state(checkpoint, make_state(ContractTask(width=9)))


def test_a_state_that_cannot_be_written_leaves_nothing(trained, tmp_path):
    trained.extras["mine"] = {"thing": object()}

    with pytest.raises(UnsupportedError, match="thing"):
        write_checkpoint(tmp_path, trained, ENVIRONMENT)
    assert list(tmp_path.iterdir()) == []


def test_it_opens_as_a_handle(trained, place):
    written = write_checkpoint(place[0], trained, ENVIRONMENT)

    assert open_handle(written.kind, written.address, written.digest) == written
    with pytest.raises(CorruptError, match="expected b3:other"):
        open_checkpoint(written.address, "b3:other")


def test_a_copy_under_another_name_is_as_good(trained, tmp_path):
    written = write_checkpoint(tmp_path, trained, ENVIRONMENT)

    shutil.copytree(written.path, tmp_path / "best")

    assert read_checkpoint(tmp_path / "best").digest == written.digest
    (tmp_path / "best" / FILES[0]).unlink()
    with pytest.raises(CorruptError, match=r"best.*model\.safetensors"):
        read_checkpoint(tmp_path / "best")


def test_one_in_a_store_has_no_path(trained, server):
    written = write_checkpoint(server.s3_url("bucket/checkpoints"), trained, ENVIRONMENT)

    with pytest.raises(UnsupportedError, match="has no path"):
        _ = written.path


def test_where_there_is_none_it_says_so(place):
    address, _ = place

    assert newest_checkpoint(address) is None
    with pytest.raises(NotFoundError, match="no such"):
        read_checkpoint(address)


def test_a_program_of_its_own_reads_it_by_its_address(trained, tmp_path):
    written = write_checkpoint(tmp_path, trained, ENVIRONMENT)
    code = "import sys; from shoal.train import open_checkpoint; print(open_checkpoint(*sys.argv[1:]).position.step)"

    done = subprocess.run(
        [sys.executable, "-c", code, written.address, written.digest], capture_output=True, text=True, check=True
    )

    assert done.stdout == "4\n"
