"""What a task can ask for, through real runs in worker processes."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import shoal.store
from shoal.base import ConfigError, WorkerError
from shoal.testing.strategy import ContractTask, make_rows
from shoal.train.callbacks import Callback
from shoal.train.checkpoint import read_checkpoint
from shoal.train.collective import Collective
from shoal.train.early_stopping import EarlyStopping
from shoal.train.feeds import LOADER_WARNING
from shoal.train.metrics import accuracy
from shoal.train.schedules import Schedule
from shoal.train.task import Task
from shoal.train.training import fit, resume

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Rich(ContractTask):
    """Nearly all at once."""

    clip_norm: float | None = 0.5
    ema: float | None = 0.9
    autocast: str | None = "bfloat16"

    def optimizer(self, params):
        first, *others = params
        return [torch.optim.SGD([first], lr=0.1, momentum=0.9), torch.optim.AdamW(others, lr=0.01)]

    def scheduler(self, optimizer, num_steps):
        if isinstance(optimizer, torch.optim.SGD):
            return Schedule(torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0), every="epoch")
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=num_steps)

    def loss(self, outputs, batch):
        self.log("largest", outputs.max())
        return super().loss(outputs, batch)

    def metrics(self, outputs, batch):
        return {"accuracy": accuracy(outputs, batch["label"])}


@dataclass
class Noting(Callback):
    path: str
    everywhere: bool = False

    def _note(self, kind, moment):
        with Path(f"{self.path}.{moment.rank}").open("a") as file:
            file.write(f"{kind} {moment.step}\n")

    def on_step(self, moment):
        self._note("step", moment)

    def on_validation(self, moment):
        assert "accuracy" in moment.values
        self._note("validation", moment)

    def on_checkpoint(self, moment):
        assert read_checkpoint(Path(moment.checkpoint))
        self._note("checkpoint", moment)

    def on_end(self, moment):
        self._note("end", moment)


@dataclass
class FailingOnce(Callback):
    path: str
    step: int

    def on_step(self, moment):
        flag = Path(self.path)
        if moment.step == self.step and not flag.exists():
            flag.touch()
            raise RuntimeError("no room for my curves")


@pytest.fixture
def store(tmp_path):
    with shoal.store.open(tmp_path / ".shoal") as opened:
        yield opened


@pytest.fixture
def train(datasets, store):
    def run(task=Rich(), **changes):
        settings = {
            "validation": datasets[1],
            "epochs": 3,
            "batch_size": 16,
            "strategy": Collective(num_virtual=3),
            "store": store,
        }
        data = changes.pop("train", datasets[0])
        return fit(task, data, **{**settings, **changes})

    return run


def bits(module):
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


def curves(result):
    return {name: value for name, value in result.metrics.items() if not name.endswith("samples_per_s")}


def test_any_number_of_workers_returns_the_same_model_and_measures(train):
    alone = train()

    for workers in (2, 3):
        found = train(workers=workers)
        assert bits(found.model) == bits(alone.model)
        assert curves(found) == curves(alone)
    assert {"train.largest", "validation.accuracy", "validation.loss"} <= set(alone.metrics)


def test_the_model_returned_has_the_averaged_weights(train):
    result = train()

    raw = result.checkpoint.weights()
    assert not torch.equal(raw["0.weight"], result.model[0].weight)
    assert torch.equal(raw["1.running_mean"], result.model[1].running_mean)


def test_goes_on_where_a_callback_failed(train, store, tmp_path):
    expected = train()
    callback = FailingOnce(str(tmp_path / "flag"), step=7)

    with pytest.raises(WorkerError, match="no room for my curves"):
        train(callbacks=[callback], checkpoint_every_steps=2, workers=2)
    (failed,) = [run.id for run in store.runs.list() if run.id != expected.run]
    resumed = resume(failed, store=store, task=Rich())

    assert bits(resumed.model) == bits(expected.model)
    assert curves(resumed)["validation.loss"] == curves(expected)["validation.loss"]


def test_callbacks_are_called_by_one_worker_or_by_each(train, tmp_path):
    one, each = tmp_path / "one", tmp_path / "each"

    result = train(workers=2, callbacks=[Noting(str(one)), Noting(str(each), everywhere=True)])

    told = Path(f"{one}.0").read_text().splitlines()
    assert [line for line in told if line.startswith("step")] == [f"step {at}" for at in range(1, result.steps + 1)]
    assert [line for line in told if line.startswith("validation")] == ["validation 4", "validation 8", "validation 12"]
    assert told[-1] == "end 12"
    assert any(line.startswith("checkpoint") for line in told)
    assert not Path(f"{one}.1").exists()
    assert Path(f"{each}.1").read_text().count("step") == result.steps


def test_stops_early_alike_and_keeps_the_best_checkpoint(train):
    settings = {
        "epochs": 30,
        "validate_every_steps": 2,
        "early_stopping": EarlyStopping(patience=2, min_change=0.05),
        "checkpoint_every_steps": 1,
    }

    results = [train(workers=workers, **settings) for workers in (1, 2)]

    one, two = results
    assert one.steps == two.steps < 120
    assert bits(one.model) == bits(two.model)
    best = int(one.metrics["validation.best_step"])
    assert best <= one.steps - 4
    assert (one.checkpoint.path.parent / f"{best:010d}").exists()


def test_a_plain_loader_gives_the_same_bits_on_any_number_of_workers(train):
    rows = make_rows(53)
    loader = DataLoader(TensorDataset(rows["features"], rows["label"]), batch_size=8, shuffle=True)
    task = Task.of(
        nn.Sequential(nn.Linear(5, 6), nn.Dropout(0.2), nn.Linear(6, 3)),
        inputs="0",
        target="1",
        loss=nn.functional.cross_entropy,
        optimizer=torch.optim.Adam,
    )

    results = []
    for workers in (1, 2):
        with pytest.warns(RuntimeWarning, match="three promises do not hold") as caught:
            results.append(train(task, train=loader, validation=loader, workers=workers))
        assert [str(each.message) for each in caught].count(LOADER_WARNING) == 1

    assert bits(results[0].model) == bits(results[1].model)
    assert results[0].metrics["validation.loss"] == results[1].metrics["validation.loss"]


def test_a_run_over_a_loader_goes_on_with_the_same_loader_alone(train, store, tmp_path):
    rows = make_rows(53)

    def loader(batch_size):
        data = [{name: column[row] for name, column in rows.items()} for row in range(53)]
        return DataLoader(data, batch_size=batch_size, shuffle=True)

    callback = FailingOnce(str(tmp_path / "flag"), step=6)
    with pytest.warns(RuntimeWarning, match="three promises"):
        expected = train(train=loader(8))
    with pytest.warns(RuntimeWarning, match="three promises"), pytest.raises(WorkerError):
        train(train=loader(8), callbacks=[callback], checkpoint_every_steps=1)
    (failed,) = [run.id for run in store.runs.list() if run.id != expected.run]

    for wrong, message in ((None, "pass the same loader"), (loader(9), "another DataLoader for train")):
        with pytest.raises(ConfigError, match=message):
            resume(failed, store=store, task=Rich(), train=wrong)
    with pytest.warns(RuntimeWarning, match="three promises"):
        resumed = resume(failed, store=store, task=Rich(), train=loader(8))

    assert bits(resumed.model) == bits(expected.model)


def test_a_lightning_module_is_trained_and_returned(train):
    pytest.importorskip("pytorch_lightning", reason="needs Lightning's own class")
    Classifier = lightning_classifier()
    task = Task.from_lightning(Classifier(), clip_norm=1.0)

    results = [train(task, workers=workers) for workers in (1, 2)]

    assert isinstance(results[0].model, Classifier)
    assert bits(results[0].model) == bits(results[1].model)
    assert {"train.train_loss", "validation.val_acc", "validation.loss"} <= set(results[0].metrics)


def lightning_classifier():
    import pytorch_lightning

    class Classifier(pytorch_lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.4), nn.Linear(6, 3))

        def training_step(self, batch, batch_idx):
            loss = nn.functional.cross_entropy(self.layers(batch["features"]), batch["label"])
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, batch_idx):
            outputs = self.layers(batch["features"])
            self.log("val_acc", (outputs.argmax(1) == batch["label"]).float().mean())
            return nn.functional.cross_entropy(outputs, batch["label"])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.01)

    return Classifier


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_compiled_model_gives_the_same_bits(train):
    import torch._inductor.cpp_builder as builder

    try:
        builder.get_cpp_compiler()
    except RuntimeError as error:
        pytest.skip(f"torch finds no C++ compiler: {error}")

    results = [train(Compiled(), workers=workers, epochs=1) for workers in (1, 2)]

    assert bits(results[0].model) == bits(results[1].model)


@dataclass(frozen=True)
class Compiled(Rich):
    compile: bool = True
