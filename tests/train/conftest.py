from collections import deque
from dataclasses import dataclass
from threading import Event

import pytest
import torch

import shoal.data
from shoal.base import Ref
from shoal.testing.strategy import ContractTask, make_rows, make_state
from shoal.train.callbacks import Callback
from shoal.train.collective import Collective
from shoal.train.metrics import accuracy
from shoal.train.plan import Plan
from shoal.train.reports import from_message
from shoal.train.worker.life import Worker
from shoal.train.worker.orders import Meet, Orders


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    # A worker sets them for its process, which here is that of all tests; another number gives other bits.
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class SmallTask(ContractTask):
    def metrics(self, outputs, batch):
        return {"accuracy": accuracy(outputs, batch["label"])}


class Line:
    """The line of a lone worker to a supervisor that only listens."""

    def __init__(self, rank=0):
        self.rank = rank
        self.stopping = Event()
        self.messages = deque()
        self.reports = []

    def report(self, message):
        self.reports.append(from_message(message))

    def receive(self, timeout_s=None):
        return self.messages.popleft() if self.messages and not self.stopping.is_set() else None

    def receive_nowait(self):
        return self.messages.popleft() if self.messages else None

    def of(self, kind):
        return [report for report in self.reports if isinstance(report, kind)]


class OnStep(Callback):
    """Calls a function after each step."""

    def __init__(self, function):
        self.function = function

    def on_step(self, moment):
        self.function(moment)


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
        if on_step is not None:
            changes["callbacks"] = (OnStep(lambda moment: on_step(line, moment.step)),)
        first = Meet(
            generation=0,
            numbers=[0],
            kind="solo",
            name="",
            checkpoint=checkpoint and checkpoint.address,
            checkpoint_step=checkpoint.position.step if checkpoint else -1,
        )
        Worker(Orders(plan=make_plan(**changes), checkpoints=str(folder), first=first), line).run()
        return line

    return run
