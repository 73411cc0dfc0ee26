"""What needs a GPU: run where there is one, with `pytest -m gpu`; with two or more, NCCL is used."""

import pytest
import torch

import shoal.store
from shoal.base import WorkerError
from shoal.testing.strategy import ContractTask
from shoal.train.collective import Collective
from shoal.train.replaying import replay
from shoal.train.training import fit, resume

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA"),
]
SETTINGS = {"epochs": 4, "batch_size": 16, "seed": 3, "device": "cuda", "strategy": Collective(num_virtual=3)}


@pytest.fixture
def store(tmp_path):
    with shoal.store.open(tmp_path / ".shoal") as opened:
        yield opened


@pytest.fixture
def alone(datasets, store):
    return fit(ContractTask(), datasets[0], validation=datasets[1], store=store, **SETTINGS)


def same(one, other):
    return all(torch.equal(one.model.state_dict()[name], value) for name, value in other.model.state_dict().items())


def test_the_model_comes_back_on_the_cpu_and_the_record_names_the_gpu(alone):
    assert {tensor.device.type for tensor in alone.model.state_dict().values()} == {"cpu"}
    assert alone.checkpoint.environment["device"].startswith("cuda, ")


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_gives_the_same_bits(alone, datasets, store, workers):
    found = fit(ContractTask(), datasets[0], validation=datasets[1], store=store, workers=workers, **SETTINGS)

    assert same(alone, found)
    assert alone.metrics == found.metrics


def test_interrupted_and_resumed_gives_the_same_bits(alone, datasets, store):
    def interrupt(progress):
        if progress.step >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(ContractTask(), datasets[0], validation=datasets[1], store=store, progress=interrupt, **SETTINGS)
    found = resume(store.runs.list()[0].id, store=store)

    assert same(alone, found)


def test_a_step_is_replayed_on_the_gpu(alone, store, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

    found = replay(alone.run, 5, store=store)

    assert next(found.state.module.parameters()).is_cuda
    assert found.differing == []


def test_an_operation_without_deterministic_version_names_the_way_out(datasets, store):
    class Summed(ContractTask):
        def loss(self, outputs, batch):
            return super().loss(outputs.cumsum(1), batch)

    with pytest.raises(WorkerError, match="on a GPU"):
        fit(Summed(), datasets[0], store=store, **SETTINGS)
