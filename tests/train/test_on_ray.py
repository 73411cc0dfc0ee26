"""Training on a Ray cluster of two nodes: the bits of a run at home, also when an actor is killed."""

import psutil
import pytest

import shoal.store
from shoal.testing.strategy import ContractTask
from shoal.train import Collective, fit

pytestmark = pytest.mark.cluster

SETTINGS = {"epochs": 40, "batch_size": 16, "seed": 5, "strategy": Collective(num_virtual=4)}


def keeper_of(rank):
    """The actor's process beside the worker of this rank."""
    (worker,) = [
        process
        for process in psutil.process_iter()
        if process.is_running() and process.name() != "" and _words(process)[-3:-1] == ["worker", str(rank)]
    ]
    return worker.parent()


def _words(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_a_killed_actor_leaves_the_bits_as_they_are(ray_cluster, datasets, tmp_path):
    killed = []

    def kill_once(progress):
        if not killed:
            killed.append(keeper_of(1))
            killed[0].kill()

    with shoal.store.open(tmp_path / "home") as home, shoal.store.open(tmp_path / "ray") as store:
        alone = fit(ContractTask(), datasets[0], store=home, **SETTINGS)
        result = fit(ContractTask(), datasets[0], store=store, workers=2, runtime="ray", progress=kill_once, **SETTINGS)

    assert killed
    assert result.checkpoint.digest == alone.checkpoint.digest
