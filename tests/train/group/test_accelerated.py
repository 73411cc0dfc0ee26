import os
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

import shoal.store
from shoal.testing.faulty import claim
from shoal.testing.group import GroupContract, results_of
from shoal.testing.group_members import join_over_gloo
from shoal.testing.strategy import ContractTask, ThreadGroup, train_bits
from shoal.train.base import PeerLostError
from shoal.train.collective import Collective
from shoal.train.group import accelerated
from shoal.train.group.accelerated import AcceleratedGroup, Communicator, connect
from shoal.train.group.solo import Solo
from shoal.train.training import fit
from shoal.train.worker import life

CPU = torch.device("cpu")


@pytest.mark.slow
class TestAcceleratedGroup(GroupContract):
    """With gloo in NCCL's place."""

    @pytest.fixture(params=["shared", "network"])
    def kind(self, request):
        return request.param

    @pytest.fixture
    def join(self):
        return join_over_gloo


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_training_gets_the_bits_of_one_process(workers):
    """Several roots per member, in several dtypes."""
    strategy = Collective(num_virtual=7)
    (alone,) = ThreadGroup(1).run(lambda group: train_bits(group, strategy))

    assert results_of("shared", workers, train_bits, strategy, join=join_over_gloo) == [alone] * workers


@dataclass(frozen=True)
class OverGloo(ContractTask):
    """In workers, groups combine over gloo; the one that first comes to the tenth micro-batch is killed."""

    folder: str = ""
    supervisor: int = field(default_factory=os.getpid)

    def build(self):
        if os.getpid() != self.supervisor:
            life.place_group = over_gloo
        return super().build()

    def loss(self, outputs, batch):
        global calls
        calls += outputs.requires_grad
        if self.folder and calls == 10 and claim(Path(self.folder) / "killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(outputs, batch)


calls = 0


def over_gloo(group, device, interrupted, warn):
    if group.size == 1:
        return group
    found = connect(group, device, backend="gloo", host="127.0.0.1", interrupted=interrupted)
    assert isinstance(found, Communicator), found
    # For the test to see that it was not a group of another kind that trained.
    warn("over gloo")
    return AcceleratedGroup(group, device, found)


@pytest.mark.slow
def test_a_run_goes_on_with_the_same_bits_when_a_worker_is_killed(datasets, tmp_path):
    settings = {"epochs": 20, "batch_size": 16, "strategy": Collective(num_virtual=5)}
    with shoal.store.open(tmp_path / ".shoal") as store:
        alone = fit(ContractTask(), datasets[0], store=store, **settings)
        found = fit(OverGloo(folder=str(tmp_path)), datasets[0], store=store, workers=3, **settings)

        kinds = [event.kind for event in store.runs.events(found.run)]
        told = {event.fields.get("text") for event in store.runs.events(found.run)}

    assert kinds.count("worker_lost") == 1
    assert "rewound" not in kinds
    assert "over gloo" in told
    for name, value in alone.model.state_dict().items():
        assert torch.equal(value, found.model.state_dict()[name]), name


class Pair(Solo):
    """The first of two, whose other one only says what it is told to."""

    size = 2

    def __init__(self, *said):
        super().__init__()
        self.said = list(said)

    def share(self, data):
        return [data, self.said.pop(0)]


def test_a_member_that_cannot_connect_is_why_nobody_does(monkeypatch):
    monkeypatch.setattr(accelerated, "_CONNECT_S", 0.05)

    why = connect(Pair(b"", b"no route"), CPU, backend="gloo", host="127.0.0.1", interrupted=lambda: False)

    assert why == "it took too long"


def test_a_first_member_that_cannot_listen_is_why_nobody_connects(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no ports")

    monkeypatch.setattr(accelerated, "TCPStore", fail)

    why = connect(Pair(b"", b""), CPU, backend="gloo", host="127.0.0.1", interrupted=lambda: False)

    assert why == "the first worker cannot listen on any port"


def test_whoever_is_told_of_a_death_while_connecting_gives_up():
    with pytest.raises(PeerLostError, match="told that another is gone"):
        connect(Pair(b""), CPU, backend="gloo", host="127.0.0.1", interrupted=lambda: True)


class Backend:
    def __init__(self):
        self.aborted = threading.Event()

    def abort(self):
        self.aborted.set()


class Work:
    def __init__(self, error=None):
        self.error = error

    def is_completed(self):
        return True

    def wait(self):
        if self.error is not None:
            raise self.error


def test_an_operation_that_fails_is_a_lost_peer_and_ends_the_communicator():
    backend = Backend()
    communicator = Communicator(backend, CPU, lambda: False)

    with pytest.raises(PeerLostError, match="connection closed"):
        communicator.run(lambda _: [Work(RuntimeError("connection closed"))])

    assert backend.aborted.wait(60)
    communicator.abort()


def test_too_little_memory_is_no_lost_peer():
    with pytest.raises(torch.OutOfMemoryError):
        Communicator(Backend(), CPU, lambda: False).run(lambda _: [Work(torch.OutOfMemoryError("full"))])


def test_a_device_that_never_gets_through_is_a_lost_peer(monkeypatch):
    """As with NCCL, whose failed operations count as completed."""

    class Event:
        def record(self):
            pass

        def query(self):
            return False

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(accelerated, "_SETTLE_S", 0.01)

    with pytest.raises(PeerLostError, match="failed on the device"):
        Communicator(Backend(), torch.device("cuda", 0), lambda: False).run(lambda _: [Work()])
