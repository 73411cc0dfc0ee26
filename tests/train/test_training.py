"""The whole way: real worker processes, a real store. Each start costs seconds, so each run proves several promises."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import shoal.data
import shoal.store
from shoal.base import ConfigError, ConflictError, DivergedError, InputError, NotFoundError, Ref, WorkerError, file_lock
from shoal.runtime import LocalRuntime
from shoal.testing.strategy import ContractTask
from shoal.train.collective import Collective
from shoal.train.early_stopping import EarlyStopping
from shoal.train.task import Task
from shoal.train.training import fit, resume

SETTINGS = {"epochs": 2, "batch_size": 16, "seed": 5, "strategy": Collective(num_virtual=4)}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with shoal.store.open(tmp_path_factory.mktemp("home") / ".shoal") as store:
        yield store


@pytest.fixture(scope="module")
def undisturbed(datasets, store):
    return fit(ContractTask(), datasets[0], validation=datasets[1], store=store, name="undisturbed", **SETTINGS)


@pytest.mark.slow
def test_the_result_tells_what_the_store_holds(undisturbed, datasets, store):
    record = store.runs.get(undisturbed.run)
    curve = store.metrics.curve(undisturbed.run, "train.loss")

    assert (record.kind, record.name, record.status, record.dataset) == (
        *("train", "undisturbed", "done"),
        Ref.of(datasets[0]),
    )
    assert record.config["task"]["fields"] == {"width": 6}
    assert record.code.startswith("b3:")
    assert [point.step for point in curve] == list(range(1, undisturbed.steps + 1))
    assert store.metrics.latest(undisturbed.run).items() >= undisturbed.metrics.items()
    assert len(undisturbed.history) == 2
    assert not undisturbed.model.training
    edges = store.lineage.upstream(Ref.of(undisturbed.checkpoint))
    assert [(edge.source.kind, edge.relation) for edge in edges] == [("run", "wrote"), ("dataset", "trained_on")]


@pytest.mark.slow
def test_three_workers_of_which_one_is_killed_give_the_same_bits(undisturbed, datasets, store):
    """Three do not divide four virtual workers; the two that are left go on at once."""
    gangs = []

    class Watched(LocalRuntime):
        def gang(self, *arguments, **settings):
            gangs.append(super().gang(*arguments, **settings))
            return gangs[-1]

    def kill_one(progress):
        pids = {member.rank: pid for member, pid in gangs[0].pids.items()}
        if progress.workers == 3 and 1 in pids:
            os.kill(pids[1], signal.SIGKILL)

    result = fit(
        ContractTask(),
        datasets[0],
        validation=datasets[1],
        workers=3,
        runtime=Watched(),
        store=store,
        progress=kill_one,
        **SETTINGS,
    )

    assert len(gangs) == 1
    assert result.checkpoint.digest == undisturbed.checkpoint.digest
    assert result.history == undisturbed.history


@pytest.mark.slow
def test_interrupted_and_resumed_gives_the_same_bits(undisturbed, datasets, store):
    def interrupt(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        fit(
            ContractTask(),
            datasets[0],
            validation=datasets[1],
            store=store,
            progress=interrupt,
            **SETTINGS,
        )
    (record,) = store.runs.list(status="cancelled")
    assert f"next  shoal train resume {record.id}" in stopped.value.__notes__[0]
    assert stopped.traceback[-1].path.name == "session.py"
    result = resume(record.id, store=store)

    assert result.run == record.id
    assert result.checkpoint.digest == undisturbed.checkpoint.digest
    assert result.history == undisturbed.history
    assert store.runs.get(record.id).status == "done"


@pytest.mark.slow
def test_a_run_that_somebody_works_on_is_left_alone(undisturbed, store):
    folder = store.home / "runs" / undisturbed.run

    with file_lock(folder / "supervisor.lock"), pytest.raises(ConflictError, match=f"run {undisturbed.run} is running"):
        resume(undisturbed.run, store=store)


@pytest.mark.slow
def test_an_infinite_learning_rate_ends_with_the_step_s_name(datasets, store):
    class Wild(ContractTask):
        def optimizer(self, params):
            return torch.optim.SGD(params, lr=1e38)

    with pytest.raises(DivergedError, match="loss of step 2, in epoch 1"):
        fit(Wild(), datasets[0], store=store, name="wild", **SETTINGS)

    (record,) = [record for record in store.runs.list(status="failed") if record.name == "wild"]
    assert "step 2" in record.error


@pytest.mark.slow
def test_a_mistake_in_the_task_comes_with_its_traceback(datasets, store):
    class Mistaken(ContractTask):
        def inputs(self, batch):
            return (batch["image"],)

    with pytest.raises(WorkerError, match="KeyError: 'image'") as caught:
        fit(Mistaken(), datasets[0], store=store, **SETTINGS)

    assert "return (batch[" in caught.value.traceback_text


@pytest.mark.slow
def test_an_existing_module_is_trained(datasets, store):
    module = nn.Linear(5, 3)
    before = module.weight.detach().clone()
    task = Task.of(
        module,
        inputs="features",
        target="label",
        loss=F.cross_entropy,
        optimizer=lambda params: torch.optim.SGD(params, 1),
    )

    result = fit(task, datasets[0], store=store, **SETTINGS)

    assert torch.equal(module.weight, before)
    assert not torch.equal(result.model.weight, before)
    with pytest.raises(ConfigError, match="task="):
        resume(result.run, store=store)


SCRIPT = """
import sys
from dataclasses import dataclass
import numpy as np, torch
import shoal, shoal.train

@dataclass(frozen=True)
class Line(shoal.Task):
    rate: float = 0.1
    def build(self): return torch.nn.Linear(1, 1)
    def inputs(self, batch): return (batch["x"],)
    def loss(self, outputs, batch): return ((outputs - batch["y"]) ** 2).mean()
    def optimizer(self, params): return torch.optim.SGD(params, lr=self.rate)

print("runs once")
x = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
data = shoal.data.ingest({"x": x, "y": 2 * x}, "rows")
result = shoal.train.fit(Line(), data, epochs=20, batch_size=10, workers=2)
print(round(result.model.weight.item(), 1), result.run)
print(shoal.train.resume(result.run).checkpoint.digest == result.checkpoint.digest)
"""


@pytest.mark.slow
def test_a_script_without_a_main_guard_works(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(Path(shoal.__file__).parents[1])}

    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["runs once", "2.0 r-0001", "True", ""]


def test_too_many_workers_are_refused_before_anything_starts(datasets, tmp_path):
    with shoal.store.open(tmp_path / ".shoal") as store:
        with pytest.raises(ConfigError, match="4 virtual workers among 5"):
            fit(ContractTask(), datasets[0], workers=5, store=store, **SETTINGS)

        assert store.runs.list() == []


@pytest.mark.parametrize("device", ["gpu", "cuda"])
def test_a_device_that_cannot_be_is_refused_before_anything_starts(datasets, tmp_path, monkeypatch, device):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    with shoal.store.open(tmp_path / ".shoal") as store:
        with pytest.raises(ConfigError, match=f"device='{device}'"):
            fit(ContractTask(), datasets[0], device=device, store=store, **SETTINGS)

        assert store.runs.list() == []


@pytest.mark.slow
def test_the_device_is_recorded_and_taken_again(datasets, tmp_path):
    def interrupt(progress):
        if progress.step >= 1:
            raise KeyboardInterrupt

    with shoal.store.open(tmp_path / ".shoal") as store:
        with pytest.raises(KeyboardInterrupt):
            fit(ContractTask(), datasets[0], device="cpu", store=store, progress=interrupt, epochs=50, batch_size=16)
        (run,) = store.runs.list()
        result = resume(run.id, store=store)

        assert store.runs.get(run.id).environment["device"] == "cpu"
        assert result.checkpoint.environment["device"] == "cpu"


def test_no_rows_are_refused(datasets, tmp_path):
    empty = datasets[0].split(1e-9, 0.5)[0]

    with pytest.raises(InputError, match="no rows"):
        fit(ContractTask(), empty, **SETTINGS)


def test_a_bare_module_is_refused_with_the_way_out(datasets):
    with pytest.raises(InputError, match=r"Task\.of"):
        fit(nn.Linear(1, 1), datasets[0])


def test_only_training_runs_can_be_resumed(tmp_path):
    with shoal.store.open(tmp_path / ".shoal") as store:
        store.runs.start(kind="other", name="other", config={}).finish()

        with pytest.raises(NotFoundError, match="'other'"):
            resume("r-0001", store=store)


class Rising(ContractTask):
    def optimizer(self, params):
        return torch.optim.SGD(params, lr=3.0)


@pytest.mark.slow
def test_early_stopping_returns_the_best_weights_also_after_a_resume(datasets, store):
    """A rate so high that the loss rises from the first validation on."""
    settings = {**SETTINGS, "epochs": 6, "validation": datasets[1], "store": store}
    patience = EarlyStopping(patience=2)

    def interrupt(progress):
        if progress.epoch == 1:
            raise KeyboardInterrupt

    best = fit(Rising(), datasets[0], early_stopping=patience, **settings)
    last = fit(Rising(), datasets[0], early_stopping=replace(patience, restore_best=False), **settings)
    with pytest.raises(KeyboardInterrupt):
        fit(Rising(), datasets[0], early_stopping=patience, workers=2, progress=interrupt, **settings)
    resumed = resume(store.runs.list(status="cancelled")[0].id, store=store, task=Rising())

    (step,) = {each.best_checkpoint.position.step for each in (best, last, resumed)}
    assert step < best.checkpoint.position.step == best.steps == resumed.steps
    assert best.checkpoint.digest == last.checkpoint.digest == resumed.checkpoint.digest
    assert _bits(best.model) == _bits(resumed.model) != _bits(last.model)
    generations = [event for event in store.runs.events(resumed.run) if event.kind == "generation"]
    assert len(generations[-1].fields["workers"]) == 2


def _bits(model):
    return [param.detach().numpy().tobytes() for param in model.parameters()]
