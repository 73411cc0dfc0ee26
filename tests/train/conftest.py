from dataclasses import dataclass
from threading import Event

import pytest

import shoal.data
from shoal.base import Ref
from shoal.testing.strategy import ContractTask, make_rows, make_state
from shoal.train.collective import Collective
from shoal.train.metrics import accuracy
from shoal.train.plan import Plan
from shoal.train.reports import from_message
from shoal.train.worker import Orders, Worker


@dataclass(frozen=True)
class SmallTask(ContractTask):
    def metrics(self, outputs, batch):
        return {"accuracy": accuracy(outputs, batch["label"])}


class Line:
    """The line of a lone worker to a supervisor that only listens."""

    def __init__(self, stop_after=None, rank=0, world_size=1):
        self.rank = rank
        self.world_size = world_size
        self.stopping = Event()
        self.reports = []
        self.steps = 0
        self._stop_after = stop_after

    def report(self, message):
        self.reports.append(from_message(message))

    def of(self, kind):
        return [report for report in self.reports if isinstance(report, kind)]


@pytest.fixture(scope="session")
def datasets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    made = []
    for name, num_rows in (("train", 53), ("validation", 19)):
        rows = {column: tensor.numpy() for column, tensor in make_rows(num_rows).items()}
        made.append(shoal.data.ingest(rows, folder / name))
    return tuple(made)


@pytest.fixture
def task():
    return SmallTask()


@pytest.fixture
def state(task):
    return make_state(task)


@pytest.fixture
def make_plan(datasets, task):
    def make(**changes):
        settings = {
            "task": task,
            "strategy": Collective(num_virtual=4),
            "train": Ref.of(datasets[0]),
            "validation": Ref.of(datasets[1]),
            "epochs": 2,
            "batch_size": 16,
            "seed": 5,
            "num_parts": 4,
        }
        return Plan(**{**settings, **changes})

    return make


@pytest.fixture
def work(make_plan, tmp_path):
    """Run a lone worker in this process; returns what it told."""

    def run(checkpoint=None, folder=tmp_path / "checkpoints", line=None, on_step=None, **changes):
        line = line or Line()
        orders = Orders(plan=make_plan(**changes), folder=folder, port=0, generation=0, checkpoint=checkpoint)
        worker = Worker(orders, line)
        if on_step is not None:
            step = worker._step

            def watched(index):
                loss = step(index)
                on_step(line, worker._state.position.step)
                return loss

            worker._step = watched
        worker.run()
        return line

    return run
