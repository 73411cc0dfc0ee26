"""Real workers that are killed, stopped and broken at any moment: the same bits come out, and no step is done twice."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import shoal.data
import shoal.store
from shoal.base import DivergedError, RemoteError, StorageFullError, WorkerError
from shoal.runtime import LocalRuntime, Report
from shoal.testing.faulty import claim
from shoal.testing.strategy import ContractTask
from shoal.train.callbacks import Callback
from shoal.train.collective import Collective
from shoal.train.elastic.crew import Site
from shoal.train.saving.places import FolderPlace
from shoal.train.training import fit, resume

pytestmark = pytest.mark.slow

# 60 epochs of 53 rows by 16.
NUM_STEPS = 240


@dataclass(frozen=True)
class Faulty(ContractTask):
    """Something goes wrong in the worker that first comes to a given micro-batch; `folder` remembers that it did."""

    folder: str = ""
    fault: str = ""
    after: int = 40
    good_builds: int = 1000
    supervisor: int = field(default_factory=os.getpid)

    def build(self):
        in_worker = os.getpid() != self.supervisor
        if in_worker and not any(claim(Path(self.folder) / f"build-{number}") for number in range(self.good_builds)):
            os._exit(3)
        return super().build()

    def loss(self, outputs, batch):
        global calls
        calls += outputs.requires_grad
        if self.fault and calls == self.after and claim(Path(self.folder) / "fault"):
            misbehave(self.fault)
        return super().loss(outputs, batch)


calls = 0


def misbehave(fault):
    if fault == "raise":
        raise ZeroDivisionError("wrong from the start")
    if fault == "memory":
        raise MemoryError
    os.kill(os.getpid(), {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "leave": signal.SIGTERM}[fault])


@dataclass
class Log(Callback):
    """Writes a line for each step that a worker has finished, and takes a little time for it."""

    path: str = ""
    pace_s: float = 0.0
    everywhere = True

    def on_step(self, moment):
        with Path(self.path).open("ab", buffering=0) as file:
            file.write(b"%d %d\n" % (os.getpid(), moment.step))
        time.sleep(self.pace_s)


class Watched(LocalRuntime):
    """Remembers its gang, so that a test can get at the workers."""

    gang_made = None

    def gang(self, *arguments, **settings):
        self.gang_made = super().gang(*arguments, **settings)
        return self.gang_made

    def kill(self, *ranks, number=signal.SIGKILL):
        pids = {member.rank: pid for member, pid in self.gang_made.pids.items()}
        for rank in ranks or sorted(pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[rank], number)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def store(home):
    with shoal.store.open(home / ".shoal") as store:
        yield store


SETTINGS = {"epochs": 60, "batch_size": 16, "seed": 5, "strategy": Collective(num_virtual=4)}


@pytest.fixture(scope="module")
def undisturbed(datasets, store):
    return fit(ContractTask(), datasets[0], validation=datasets[1], store=store, **SETTINGS)


@pytest.fixture
def train(datasets, store, undisturbed, tmp_path):
    """Train with three workers while `when` is called with each progress; the bits must be the undisturbed run's."""

    def run(when=lambda *_: None, pace_s=0.004, expected=0, workers=3, task=None, **settings):
        runtime = Watched(log_folder=tmp_path / "logs")
        result = fit(
            task or ContractTask(),
            datasets[0],
            validation=datasets[1],
            store=store,
            runtime=runtime,
            workers=workers,
            callbacks=[Log(path=str(tmp_path / "steps"), pace_s=pace_s)],
            progress=lambda progress: when(progress, runtime),
            **SETTINGS,
            **settings,
        )
        assert result.checkpoint.digest == undisturbed.checkpoint.digest
        assert result.history == undisturbed.history
        check_log(tmp_path / "steps")
        events = store.runs.events(result.run)
        assert sum(event.kind == "worker_lost" for event in events) >= expected
        curve = [point.step for point in store.metrics.curve(result.run, "train.loss")]
        assert curve == list(range(1, NUM_STEPS + 1))
        return events

    return run


def check_log(path):
    """Steps never go back, whoever did them: what one has finished, nobody does again."""
    done = [tuple(map(int, line.split())) for line in path.read_text().splitlines()]
    steps = [step for _, step in done]
    assert steps == sorted(steps)
    assert set(steps) == set(range(1, NUM_STEPS + 1))
    by_worker = defaultdict(list)
    for pid, step in done:
        by_worker[pid].append(step)
    for pid, own in by_worker.items():
        assert len(set(own)) == len(own), pid


def once(step, action):
    """Do something when the run has come so far."""
    done = []

    def when(progress, runtime):
        if progress.step >= step and not done:
            done.append(True)
            action(runtime)

    return when


@pytest.mark.parametrize("rank", [0, 2])
def test_any_worker_may_be_killed(train, rank):
    events = train(once(30, lambda runtime: runtime.kill(rank)), expected=1)

    (lost,) = [event.fields for event in events if event.kind == "worker_lost"]
    assert (lost["worker"], lost["cause"]) == (rank, f"worker {rank} died by signal 9")
    generations = [event.fields for event in events if event.kind == "generation"]
    assert generations[1]["workers"] == sorted({0, 1, 2} - {rank})


def test_kills_at_random_instants(train, tmp_path):
    chance = random.Random(11)
    ended = threading.Event()

    def strike(runtime):
        while not ended.wait(chance.uniform(0.05, 0.5)):
            alive = {pid: member.rank for member, pid in runtime.gang_made.pids.items()}
            # Newcomers too, at any point of their way; but the last one that holds the state takes it along.
            trained = alive.keys() & {int(line.split()[0]) for line in (tmp_path / "steps").read_text().splitlines()}
            if victims := sorted(alive.keys() - (trained if len(trained) == 1 else set())):
                with contextlib.suppress(KeyError):
                    runtime.kill(alive[chance.choice(victims)])

    try:
        train(
            once(10, lambda runtime: threading.Thread(target=strike, args=(runtime,), daemon=True).start()),
            expected=1,
            retries=1000,
            pace_s=0.02,
        )
    finally:
        ended.set()


def test_a_replacement_joins_and_takes_part(train):
    events = train(once(10, lambda runtime: runtime.kill(1)), expected=1, pace_s=0.01)

    generations = [event.fields for event in events if event.kind == "generation"]
    assert [generation["workers"] for generation in generations] == [[0, 1, 2], [0, 2], [0, 2, 3]]


def test_two_may_die_at_once(train):
    train(once(30, lambda runtime: runtime.kill(0, 2)), expected=2)


def test_all_but_one_may_die(train):
    train(once(30, lambda runtime: runtime.kill(0, 1)), expected=2, retries=1)


@pytest.mark.parametrize("pause_s", [0.001, 0.006])
def test_one_may_die_while_the_others_recover(train, pause_s):
    def strike(runtime):
        runtime.kill(1)
        time.sleep(pause_s)
        runtime.kill(0)

    train(once(30, lambda runtime: threading.Thread(target=strike, args=(runtime,)).start()), expected=2)


def test_a_stopped_worker_is_found_by_its_silence(train, tmp_path):
    task = Faulty(folder=str(tmp_path), fault="stop")

    events = train(task=task, expected=1, heartbeat_s=1.5)

    assert "silent" in next(event.fields["cause"] for event in events if event.kind == "worker_lost")


def test_too_little_memory_in_one_worker_is_a_loss(train, tmp_path):
    events = train(task=Faulty(folder=str(tmp_path), fault="memory"), expected=1)

    assert "ran out of memory" in next(event.fields["cause"] for event in events if event.kind == "worker_lost")


@pytest.mark.parametrize("fault", ["kill", "leave"])
def test_a_worker_may_go_in_the_middle_of_a_step(train, tmp_path, fault):
    train(task=Faulty(folder=str(tmp_path), fault=fault), expected=1)


def test_replacements_that_die_at_once_do_not_stop_the_others(train, tmp_path):
    task = Faulty(folder=str(tmp_path), good_builds=3)

    events = train(once(10, lambda runtime: runtime.kill(2)), task=task, expected=2, pace_s=0.04)

    generations = [event.fields for event in events if event.kind == "generation"]
    assert [generation["workers"] for generation in generations] == [[0, 1, 2], [0, 1]]


def test_when_all_die_the_last_checkpoint_is_where_it_goes_on(datasets, store, undisturbed, tmp_path):
    runtime = Watched(log_folder=tmp_path / "logs")

    result = fit(
        ContractTask(),
        datasets[0],
        validation=datasets[1],
        store=store,
        runtime=runtime,
        workers=3,
        checkpoint_every_steps=10,
        progress=lambda progress: once_at_50(progress, runtime),
        **SETTINGS,
    )

    assert result.checkpoint.digest == undisturbed.checkpoint.digest
    assert result.history == undisturbed.history
    # What is different is said: from which step the work was done again.
    (again,) = [event.fields for event in store.runs.events(result.run) if event.kind == "rewound"]
    assert again["to_step"] < again["from_step"]


once_at_50 = once(50, lambda runtime: runtime.kill())


class LateFirst(LocalRuntime):
    """What worker 0 tells arrives after another worker has said that it is done, as over a slow line."""

    def gang(self, *arguments, **settings):
        gang = super().gang(*arguments, **settings)
        events, held = gang.events, []

        def late(timeout_s=None):
            for event in events(timeout_s):
                if isinstance(event, Report) and event.member.rank == 0 and event.message["kind"] != "Beat":
                    held.append(event)
                else:
                    yield event
            if gang.is_over:
                yield from held
                held.clear()

        gang.events = late
        return gang


def test_what_the_first_worker_told_last_is_not_lost(datasets, store, undisturbed):
    result = fit(
        ContractTask(), datasets[0], validation=datasets[1], store=store, runtime=LateFirst(), workers=2, **SETTINGS
    )

    assert result.history == undisturbed.history


@pytest.mark.parametrize("kind", [StorageFullError, RemoteError])
def test_a_last_checkpoint_that_cannot_be_written_is_the_error_of_the_run(datasets, store, undisturbed, kind):
    # Of all places only the worker's own must fail.
    class Full(Callback):
        def on_step(self, moment):
            def fail(*_):
                raise kind("no room", next_step="make room")

            FolderPlace.publish = fail

    with pytest.warns(RuntimeWarning, match="no room"), pytest.raises(kind, match="cannot write the last checkpoint"):
        fit(ContractTask(), datasets[0], store=store, workers=2, callbacks=[Full()], **SETTINGS)


def test_a_mistake_of_the_task_ends_the_run_at_once(datasets, store, tmp_path, undisturbed):
    task = Faulty(folder=str(tmp_path), fault="raise")

    with pytest.raises(WorkerError, match="ZeroDivisionError: wrong from the start") as caught:
        fit(task, datasets[0], workers=3, store=store, **SETTINGS)

    assert "misbehave(self.fault)" in caught.value.traceback_text


def test_workers_that_die_again_and_again_end_the_run_with_the_first_cause(datasets, store, tmp_path, undisturbed):
    task = Faulty(folder=str(tmp_path), good_builds=0)

    with pytest.raises(WorkerError, match=r"worker \d ended with exit code 3, and workers were lost 2 times in a row"):
        fit(task, datasets[0], workers=2, store=store, retries=1, **SETTINGS)


class Exploding(ContractTask):
    def loss(self, outputs, batch):
        return super().loss(outputs, batch) * float("inf")


@pytest.mark.parametrize("cause", ["no number", "no workers"])
def test_a_store_that_is_away_does_not_hide_why_the_run_ended(
    datasets, store, tmp_path, undisturbed, monkeypatch, cause
):
    def refuse(_):
        raise RemoteError("cannot reach s3://bucket", next_step="look")

    monkeypatch.setattr("shoal.train.elastic.crew.newest_checkpoint", refuse)
    task = Exploding() if cause == "no number" else Faulty(folder=str(tmp_path), good_builds=0)
    kind, text = (DivergedError, "is inf") if cause == "no number" else (WorkerError, "ended with exit code 3")

    with pytest.raises(kind, match=rf"{text}.* could not be asked \(cannot reach s3://bucket\)"):
        fit(task, datasets[0], store=store, retries=0, **SETTINGS)


def test_ctrl_c_leaves_a_checkpoint_of_the_last_step(datasets, store, undisturbed, tmp_path):
    def interrupt(progress):
        if progress.step >= 41:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(
            ContractTask(),
            datasets[0],
            validation=datasets[1],
            store=store,
            workers=2,
            name="interrupted",
            callbacks=[Log(path=str(tmp_path / "steps"), pace_s=0.004)],
            progress=interrupt,
            **SETTINGS,
        )
    record = next(record for record in store.runs.list(status="cancelled") if record.name == "interrupted")
    (end,) = [event.fields for event in store.runs.events(record.id) if event.kind == "interrupted"]
    assert end["step"] == end["checkpoint_step"] >= 41

    result = resume(record.id, store=store)

    assert result.checkpoint.digest == undisturbed.checkpoint.digest
    assert result.history == undisturbed.history
    check_log(tmp_path / "steps")


SCRIPT = """
import sys, shoal.data, shoal.store
from shoal.testing.strategy import ContractTask
from shoal.train.collective import Collective
from shoal.train.training import fit
train, validation, home = sys.argv[1:]
with shoal.store.open(home) as store:
    fit(ContractTask(), shoal.data.open(train), validation=shoal.data.open(validation), store=store, workers=2,
        epochs=60, batch_size=16, seed=5, strategy=Collective(num_virtual=4), checkpoint_every_steps=5,
        progress=lambda progress: print(progress.step, flush=True))
"""


def test_after_the_supervisor_s_death_the_workers_go_and_the_run_can_be_resumed(datasets, undisturbed, tmp_path):
    home = tmp_path / ".shoal"
    arguments = [datasets[0].address, datasets[1].address, str(home)]
    environment = {**os.environ, "PYTHONPATH": str(Path(shoal.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments], stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        for line in process.stdout:
            if int(line) >= 30:
                break
        process.kill()

    with shoal.store.open(home) as store:
        result = resume("r-0001", store=store, workers=3)

    assert result.checkpoint.digest == undisturbed.checkpoint.digest
    # What a supervisor was told in its last half second dies with it: that is missing from the curves, not from the
    # weights.
    assert result.history[-10:] == undisturbed.history[-10:]


def test_a_store_that_is_deleted_in_the_middle_does_not_stop_the_training(datasets, undisturbed, tmp_path):
    def delete(_):
        for path in (tmp_path / ".shoal").glob("*.db*"):
            path.unlink()

    with shoal.store.open(tmp_path / ".shoal") as store:
        trained = []
        with pytest.warns(RuntimeWarning, match=r"store\.db was deleted or replaced.* the training goes on") as told:
            result = fit(
                ContractTask(),
                datasets[0],
                validation=datasets[1],
                store=store,
                workers=2,
                progress=lambda progress: (once_deleted(progress, delete), trained.append(progress.step)),
                **SETTINGS,
            )

    assert trained[-1] == NUM_STEPS
    assert result.checkpoint.digest == undisturbed.checkpoint.digest
    assert sum("deleted" in str(each.message) for each in told) == 1


def once_deleted(progress, delete):
    if progress.step >= 20:
        delete(progress)


class Elsewhere:
    """A runtime that is not this machine."""


@pytest.mark.parametrize(
    ("device", "runtime", "gpus"),
    [(None, Elsewhere(), 0), ("cuda", Elsewhere(), 1), ("cpu", Elsewhere(), 0), ("cuda", LocalRuntime(), 0)],
)
def test_a_gpu_is_asked_for_where_machines_lend_them(make_plan, device, runtime, gpus):
    site = Site(plan=make_plan(), run=None, keeper=None, rules=None, runtime=runtime, checkpoints="", device=device)

    assert site.need.gpus == gpus
