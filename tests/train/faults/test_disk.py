"""The disk is full while a run trains, or its store is gone: training goes on, and says what it lacks."""

import resource
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import shoal.store
from shoal.base import NotFoundError, StorageFullError
from shoal.testing.faults import NUM_STEPS, SETTINGS
from shoal.testing.faulty import claim
from shoal.testing.strategy import ContractTask
from shoal.train import fit, resume
from shoal.train.callbacks import Callback
from shoal.train.checkpoint import newest_checkpoint

pytestmark = pytest.mark.slow


@dataclass
class Ballast(Callback):
    """Fills a disk after one step, once, and makes room again after another."""

    folder: str
    full_at: int
    free_at: int

    def on_step(self, moment):
        time.sleep(0.004)
        path = Path(self.folder) / "ballast"
        if moment.step == self.full_at and claim(path.with_name("filled")):
            path.write_bytes(bytes(shutil.disk_usage(self.folder).free))
        if moment.step == self.free_at:
            path.unlink()


@dataclass
class SmallFiles(Callback):
    """Lets the process write no file of more than some bytes between two steps."""

    from_step: int
    to_step: int

    def on_step(self, moment):
        time.sleep(0.004)
        if moment.step in {self.from_step, self.to_step}:
            most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            soft = 200 if moment.step == self.from_step else most
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, most))


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(folder)]
    done = subprocess.run(mounting, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def store(tmp_path):
    with shoal.store.open(tmp_path / ".shoal") as store:
        yield store


@pytest.fixture(scope="module")
def undisturbed(datasets, tmp_path_factory):
    with shoal.store.open(tmp_path_factory.mktemp("home") / ".shoal") as store:
        return fit(ContractTask(), datasets[0], store=store, **SETTINGS).checkpoint.digest


def warnings_of(store, run):
    return [event.fields["text"] for event in store.runs.events(run) if event.kind == "warning"]


def test_a_full_disk_is_told_and_training_goes_on(datasets, store, small_disk, undisturbed):
    ballast = Ballast(str(small_disk), full_at=50, free_at=200)

    with pytest.warns(RuntimeWarning, match="full|room"):
        result = fit(
            ContractTask(),
            datasets[0],
            store=store,
            workers=2,
            checkpoints_to=str(small_disk),
            checkpoint_every_steps=20,
            callbacks=[ballast],
            **SETTINGS,
        )

    assert result.checkpoint.digest == undisturbed


def test_a_limit_on_files_is_told_and_training_goes_on(datasets, store, undisturbed):
    with pytest.warns(RuntimeWarning, match="checkpoint"):
        result = fit(
            ContractTask(),
            datasets[0],
            store=store,
            workers=2,
            checkpoint_every_steps=20,
            callbacks=[SmallFiles(50, 200)],
            **SETTINGS,
        )

    assert result.checkpoint.digest == undisturbed
    assert any("checkpoint" in text for text in warnings_of(store, result.run))


def test_a_disk_that_stays_full_ends_the_run_after_its_last_step(datasets, store, small_disk, undisturbed):
    ballast = Ballast(str(small_disk), full_at=50, free_at=10_000)

    with (
        pytest.warns(RuntimeWarning, match="full|room"),
        pytest.raises(StorageFullError, match="the last checkpoint, of step 240") as caught,
    ):
        fit(
            ContractTask(),
            datasets[0],
            store=store,
            checkpoints_to=str(small_disk),
            checkpoint_every_steps=20,
            callbacks=[ballast],
            **SETTINGS,
        )
    assert "resume the run" in caught.value.next_step
    (small_disk / "ballast").unlink()

    assert resume("r-0001", store=store).checkpoint.digest == undisturbed


def test_without_its_store_file_a_run_trains_on_but_leaves_no_record(datasets, tmp_path, undisturbed):
    seen = []

    def delete(progress):
        seen.append(progress.step)
        if progress.step >= 20 and claim(tmp_path / "deleted"):
            for path in (tmp_path / ".shoal").glob("*.db*"):
                path.unlink()

    with shoal.store.open(tmp_path / ".shoal") as store:
        result = fit(ContractTask(), datasets[0], store=store, workers=2, progress=delete, **SETTINGS)

    assert seen[-1] == NUM_STEPS
    assert result.checkpoint.digest == undisturbed
    # The weights stay where they were written; what the store held of the run went with its file.
    assert newest_checkpoint(str(Path(result.checkpoint.address).parent)).digest == undisturbed
    with shoal.store.open(tmp_path / ".shoal") as store, pytest.raises(NotFoundError):
        store.runs.get(result.run)
