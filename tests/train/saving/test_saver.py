import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import RemoteError, ShoalError, StorageFullError, UnsupportedError
from shoal.train.base import Position, TrainState
from shoal.train.checkpoint import load_state, newest_checkpoint, read_checkpoint
from shoal.train.reports import Saved, Warned
from shoal.train.saving import saver as saver_file
from shoal.train.saving.packing import StateLayout, pack_state
from shoal.train.saving.places import FolderPlace, open_place
from shoal.train.saving.saver import Saver, expected_bytes


class Told(list):
    """What a saver told, from whichever thread."""

    def of(self, kind):
        return [report for report in self if isinstance(report, kind)]

    def __call__(self, report):
        self.append(report)


class Gated(FolderPlace):
    """A slow disk: nothing is written before the gate is open."""

    def __init__(self, folder):
        super().__init__(folder)
        self.gate = threading.Event()
        self.asked = threading.Event()

    def publish(self, *args):
        self.asked.set()
        assert self.gate.wait(60)
        super().publish(*args)


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


@pytest.fixture
def make_saver(told):
    made = []

    def make(place, **settings):
        made.append(Saver(place, {"torch": "2"}, tell=told, **settings))
        return made[-1]

    yield make
    for saver in made:
        saver.close()


@contextmanager
def file_size_limit(num_bytes):
    """For the system the same as a disk without room, in this process alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB, where mounting is permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", "size=1m", "none", folder], check=False).returncode:
        pytest.skip("mounting is not permitted")
    yield folder
    subprocess.run([shutil.which("umount") or "umount", "-l", folder], check=True)


def steps_in(place):
    return [int(found.name) for found in open_place(place).found()]


def test_what_is_saved_is_durable_once_waited_for(make_saver, make_state, told, address):
    saver = make_saver(address)
    state = make_state(7)

    saver.save(state)
    written = saver.wait()

    assert written == newest_checkpoint(address) == saver.newest
    again = make_state(trained=False)
    load_state(written, again)
    assert torch.equal(pack_state(again), pack_state(state))
    (report,) = told
    assert (report.step, report.path, report.digest) == (7, written.address, written.digest)
    assert 0 <= report.blocked_s <= report.seconds


def test_the_state_may_move_on_at_once(make_saver, make_state, folder):
    place = Gated(folder)
    saver = make_saver(place)
    state = make_state(7)
    expected = pack_state(state)

    saver.save(state)
    with torch.no_grad():
        state.module[0].weight.zero_()
    state.optimizers[0].state.clear()
    place.gate.set()

    again = make_state(trained=False)
    load_state(saver.wait(), again)
    assert torch.equal(pack_state(again), expected)


def test_memory_that_is_being_got_ready_is_not_written_into(make_saver, folder):
    module = torch.nn.Linear(2_000, 2_000)
    state = TrainState(task=None, module=module, optimizers=[], schedulers=[], position=Position(step=1))
    saver = make_saver(folder, state=state)

    saver.save(state)

    assert torch.equal(saver.wait().weights()["weight"], module.weight)


def test_a_step_that_was_taken_is_not_taken_again(make_saver, make_state, told, folder):
    saver = make_saver(folder)

    for _ in range(3):
        saver.save(make_state(7))
        saver.wait()

    assert len(told) == 1


def test_while_writes_are_slow_the_newest_wins_and_that_is_told_once(make_saver, make_state, at_step, told, folder):
    place = Gated(folder)
    saver = make_saver(place)
    state = make_state()

    saver.save(at_step(state, 1))
    assert place.asked.wait(60)
    for step in (2, 3, 4, 5):
        saver.save(at_step(state, step))
    place.gate.set()
    saver.wait()

    assert steps_in(folder) == [1, 5]
    (warned,) = told.of(Warned)
    assert "longer than the steps between two" in warned.text
    assert "step 2" in warned.text
    assert [report.step for report in told.of(Saved)] == [1, 5]


def test_memory_is_used_again(make_saver, make_state, at_step, folder, monkeypatch):
    made = []
    make_buffer = saver_file.make_buffer
    monkeypatch.setattr(saver_file, "make_buffer", lambda size: made.append(size) or make_buffer(size))
    place = Gated(folder)
    saver = make_saver(place, state=make_state())
    place.gate.set()

    for step in range(1, 30):
        saver.save(at_step(make_state(), step))
        if step % 3:
            saver.wait()

    assert len(made) == 2


def test_only_so_many_are_kept(make_saver, make_state, at_step, address):
    saver = make_saver(address, keep=3)
    state = make_state()

    for step in (1, 5, 12, 13, 20):
        saver.save(at_step(state, step))
        saver.wait()

    assert steps_in(address) == [12, 13, 20]


def test_old_ones_are_removed_and_the_newest_never(make_saver, make_state, at_step, folder):
    saver = make_saver(folder, keep=9, keep_s=3_600.0)
    state = make_state()
    for step in (1, 2, 3):
        saver.save(at_step(state, step))
        saver.wait()
    long_ago = time.time() - 10_000
    for name in ("0000000001", "0000000003"):
        os.utime(folder / name / "checkpoint.json", (long_ago, long_ago))

    saver.save(at_step(state, 4))
    saver.wait()

    assert steps_in(folder) == [2, 4]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=6, unique=True).map(sorted), st.integers(1, 3), st.data())
def test_whatever_the_rhythm_the_last_is_there_and_no_more_than_asked_for(tmp_path_factory, steps, keep, data):
    folder = tmp_path_factory.mktemp("rhythm")
    module = torch.nn.Linear(2, 2)

    with Saver(folder, {}, keep=keep) as saver:
        for step in steps:
            saver.save(TrainState(task=None, module=module, optimizers=[], schedulers=[], position=Position(step=step)))
            if data.draw(st.booleans()):
                saver.wait()
        assert saver.wait().position.step == steps[-1]

    present = steps_in(folder)
    assert present[-1] == steps[-1]
    assert len(present) <= keep
    assert newest_checkpoint(folder).position.step == steps[-1]


def test_a_full_disk_is_told_and_the_next_one_is_tried(make_saver, make_state, at_step, told, small_disk):
    saver = make_saver(small_disk)
    state = make_state()
    saver.save(at_step(state, 1))
    good = saver.wait()
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as sink:
        while sink.write(bytes(4096)) == 4096 and os.statvfs(small_disk).f_bavail > 1:
            pass

    saver.save(at_step(state, 2))
    while not told.of(Warned):
        time.sleep(0.001)
    assert newest_checkpoint(small_disk) == good
    assert sorted(path.name for path in small_disk.iterdir()) == ["0000000001", "filler"]
    filler.unlink()
    saver.save(at_step(state, 3))

    assert saver.wait().position.step == 3
    (warned,) = told.of(Warned)
    assert "no checkpoint at step 2" in warned.text
    assert "No space left on device" in warned.text


def test_the_last_one_without_room_is_an_error_and_still_in_memory(make_saver, make_state, at_step, told, folder):
    saver = make_saver(folder)
    state = make_state(width=200)
    saver.save(at_step(state, 3))
    good = saver.wait()
    saver.save(at_step(make_state(width=200, seed=4), 4))
    saver.wait()

    with file_size_limit(20_000):
        saver.save(at_step(state, 5))
        with pytest.raises(StorageFullError) as caught:
            saver.wait()
        left = steps_in(folder)

    text = str(caught.value)
    for part in ("the last checkpoint, of step 5", " kB)", "of step 4", f"memory of process {os.getpid()}", "free "):
        assert part in text
    assert left == [3, 4]
    assert good == read_checkpoint(good.address)
    assert len(told.of(Warned)) == 1
    # Room was made.
    written = saver.wait()
    assert written.position.step == 5
    assert torch.equal(written.weights()["0.weight"], state.module[0].weight)


def test_with_patience_room_may_be_made_meanwhile(make_saver, make_state, told, folder, monkeypatch):
    monkeypatch.setattr(saver_file, "_RETRY_S", 0.01)
    saver = make_saver(folder)
    with file_size_limit(20_000):
        done = []
        waiter = threading.Thread(target=lambda: done.append(saver.wait(patience_s=60.0)))
        saver.save(make_state(5, width=200))
        waiter.start()
        while not told.of(Warned):
            time.sleep(0.001)
    waiter.join()

    assert done[0].position.step == 5
    assert len(told.of(Warned)) == 1


def test_a_newer_snapshot_makes_up_for_one_that_failed(make_saver, make_state, told, folder):
    saver = make_saver(folder)
    with file_size_limit(20_000):
        saver.save(make_state(5, width=200))
        while not told.of(Warned):
            time.sleep(0.001)

    saver.save(make_state(6))

    assert saver.wait().position.step == 6
    assert steps_in(folder) == [6]


def test_a_step_that_failed_may_be_saved_again(make_saver, make_state, told, folder):
    saver = make_saver(folder)
    with file_size_limit(20_000):
        saver.save(make_state(5, width=200))
        while saver._failed is None:
            time.sleep(0.001)

    saver.save(make_state(5, width=200))

    assert saver.wait().position.step == 5


def test_a_store_that_refuses_does_not_stop_the_training(make_saver, make_state, told, server):
    url = server.s3_url("bucket/runs")
    saver = make_saver(url)
    server.fail("status", "checkpoint.json", times=2, status=403, method="PUT")

    saver.save(make_state(1))
    with pytest.raises(RemoteError, match=r"last checkpoint, of step 1.*access was refused.*credentials"):
        saver.wait()
    saver.save(make_state(2))

    assert saver.wait().position.step == 2
    assert "no checkpoint at step 1" in told.of(Warned)[0].text


def test_a_place_that_cannot_be_written_is_an_error_with_a_next_step(make_saver, make_state, tmp_path):
    (tmp_path / "taken").write_text("x")
    saver = make_saver(tmp_path / "taken")

    saver.save(make_state(1))

    with pytest.raises(ShoalError, match=r"none before it.*checkpoints_to"):
        saver.wait()


def test_what_cannot_be_written_is_said_at_once_and_others_can(make_saver, make_state, folder):
    saver = make_saver(folder)
    bad = make_state(1)
    bad.extras["mine"] = {"thing": object()}

    with pytest.raises(UnsupportedError, match="mine"):
        saver.save(bad)
    with pytest.raises(UnsupportedError, match="mine"):
        make_saver(folder, state=bad)
    saver.save(make_state(2))

    assert saver.wait().position.step == 2


@pytest.mark.parametrize("kind", [BrokenPipeError, LookupError])
def test_an_error_of_the_listener_is_not_lost(make_state, folder, kind):
    def listen(report):
        raise kind("gone")

    with Saver(folder, {}, tell=listen) as saver:
        saver.save(make_state(1))

        with pytest.raises(kind, match="gone"):
            saver.wait()
        with pytest.raises(kind, match="gone"):
            saver.save(make_state(2))

    assert steps_in(folder) == [1]


def test_closing_writes_what_waits(make_saver, make_state, folder):
    place = Gated(folder)
    saver = make_saver(place)
    saver.save(make_state(1))
    threading.Timer(0.05, place.gate.set).start()

    saver.close()
    saver.close()

    assert steps_in(folder) == [1]


def test_nothing_saved_is_nothing_to_wait_for(make_saver, folder):
    assert make_saver(folder).wait() is None


@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda params: torch.optim.Adam(params),
        lambda params: torch.optim.AdamW(params, amsgrad=True),
        lambda params: torch.optim.SGD(params, lr=0.1),
        lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9),
        lambda params: torch.optim.Adagrad(params),
        lambda params: torch.optim.RMSprop(params, momentum=0.9),
    ],
)
def test_memory_is_enough_for_an_optimiser_that_has_not_stepped_yet(make_optimizer):
    module = torch.nn.Sequential(torch.nn.Linear(300, 300), torch.nn.Linear(300, 3))
    state = TrainState(
        task=None, module=module, optimizers=[make_optimizer(module.parameters())], schedulers=[], position=Position()
    )
    expected = expected_bytes(state)

    for param in module.parameters():
        param.grad = torch.ones_like(param)
    state.optimizers[0].step()

    assert StateLayout.of(state).size_bytes <= expected < 2 * StateLayout.of(state).size_bytes + 10_000


def test_a_place_that_never_answers_is_an_error_that_names_it(make_saver, make_state, at_step, told, folder):
    place = Gated(folder)
    saver = make_saver(place, silence_s=0.01)
    saver.save(at_step(make_state(), 5))

    with pytest.raises(RemoteError, match=r"checkpoint of step 5 to .*checkpoints: it has neither taken nor refused"):
        saver.wait()

    assert "neither taken nor refused" in told.of(Warned)[0].text
    place.gate.set()


def test_a_small_state_is_said_in_a_unit_that_is_not_nothing(make_saver, make_state, at_step, folder):
    saver = make_saver(folder)

    with file_size_limit(1_000):
        saver.save(at_step(make_state(), 1))
        with pytest.raises(StorageFullError, match=r"of step 1 \([1-9]\d*\.\d kB\)"):
            saver.wait()


@pytest.mark.parametrize(
    ("num_bytes", "expected"),
    [(12, "12 bytes"), (1_500, "1.5 kB"), (2_000_000, "2.0 MB"), (3_400_000_000, "3.4 GB")],
)
def test_sizes_are_said_in_the_largest_unit_that_they_fill(num_bytes, expected):
    assert saver_file._size_text(num_bytes) == expected


def test_a_writer_that_breaks_leaves_nobody_waiting(folder, monkeypatch):
    def fail(_):
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(FolderPlace, "tidy", fail)
    saver = Saver(folder, {})
    module = torch.nn.Linear(1, 1)
    state = TrainState(task=None, module=module, optimizers=[], schedulers=[], position=Position(step=1))

    def save_and_wait():
        saver.save(state)
        saver.wait()

    with pytest.raises(RuntimeError, match="nobody thought"):
        save_and_wait()


def test_without_room_for_a_second_snapshot_the_first_is_written(folder, monkeypatch):
    def fail(*_):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(Saver, "_make_second", fail)
    module = torch.nn.Linear(1, 1)
    with Saver(folder, {}) as saver:
        saver.save(TrainState(task=None, module=module, optimizers=[], schedulers=[], position=Position(step=1)))
        assert saver.wait().position.step == 1


_WRITE_FOREVER = """
import sys, torch
from shoal.train.base import Position, TrainState
from shoal.train.saving.saver import Saver

module = torch.nn.Linear(700, 700)
saver = Saver(sys.argv[1], {}, tell=lambda report: print(report.step, flush=True))
for step in range(int(sys.argv[2]), 10**9):
    with torch.no_grad():
        module.weight.fill_(step)
    saver.save(TrainState(task=None, module=module, optimizers=[], schedulers=[], position=Position(step=step)))
    saver.wait()
"""


@pytest.mark.slow
def test_killed_at_any_instant_what_was_told_is_there_and_whole(address):
    chance = random.Random(3)
    first = 1
    for _ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", _WRITE_FOREVER, address, str(first)], stdout=subprocess.PIPE, text=True
        )
        lines = [child.stdout.readline() for _ in range(3)]
        time.sleep(chance.random() * 0.2)
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate()
        # The kill may have cut the last line.
        told = [int(line) for line in "".join([*lines, rest]).split("\n")[:-1] if line]

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            newest = newest_checkpoint(address)
        assert newest.position.step in (told[-1], told[-1] + 1)
        for found in open_place(address).found():
            if found.is_complete:
                checkpoint = read_checkpoint(open_place(address).address(found.name))
                assert checkpoint.weights()["weight"].unique().tolist() == [float(checkpoint.position.step)]
        first = newest.position.step + 1

    with Saver(address, {}) as saver:
        module = torch.nn.Linear(1, 1)
        saver.save(TrainState(task=None, module=module, optimizers=[], schedulers=[], position=Position(step=first)))
        saver.wait()
    assert steps_in(address) == [first - 1, first]
    if "://" not in address:
        assert len(list(Path(address).iterdir())) == 2
