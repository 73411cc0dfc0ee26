import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from shoal.base import ConfigError, UnsupportedError
from shoal.train.device import check_device, choose_device, explaining_determinism, identity, keep_bits

CPU = torch.device("cpu")


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    """Pretends that this machine has so many GPUs; returns which one was made the present one."""
    chosen = []

    def pretend(number):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
        monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"model of {device}")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"id-{index}"))
        return chosen

    return pretend


@pytest.mark.parametrize("asked", ["gpu", "cuda:", "cuda:-1", "mps", 1])
def test_words_for_no_device_are_refused(asked):
    with pytest.raises(ConfigError, match="is not known"):
        check_device(asked)


def test_a_gpu_is_refused_where_torch_has_no_cuda(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)

    with pytest.raises(ConfigError, match="built without CUDA") as caught:
        check_device("cuda")
    assert "device='cpu'" in caught.value.next_step


def test_what_may_be_there_is_left_to_the_workers(gpus):
    gpus(0)

    assert [check_device(asked) for asked in (None, "cpu", "cuda", "cuda:7")] == [None, "cpu", "cuda", "cuda:7"]


@pytest.mark.parametrize(("number", "asked"), [(0, None), (2, "cpu")])
def test_without_a_gpu_or_on_request_it_is_the_cpu(gpus, number, asked):
    chosen = gpus(number)

    assert choose_device(asked).device == CPU
    assert chosen == []


@pytest.mark.parametrize(
    ("number", "asked", "found"), [(0, "cuda", "no GPU"), (1, "cuda:1", "1 GPU,"), (2, "cuda:2", "2 GPUs")]
)
def test_a_gpu_that_is_not_there_is_refused(gpus, number, asked, found):
    gpus(number)

    with pytest.raises(ConfigError, match=found):
        choose_device(asked)


def test_workers_spread_and_then_share_evenly(gpus):
    chosen = gpus(2)

    placements = [choose_device("cuda" if turn % 2 else None) for turn in range(5)]

    assert [placement.device.index for placement in placements] == [0, 1, 0, 1, 0]
    assert chosen == [placement.device for placement in placements]


def test_one_that_is_asked_for_is_claimed_too(gpus):
    gpus(2)

    placements = [choose_device("cuda:0"), choose_device(None), choose_device("cuda:0")]

    assert [placement.device.index for placement in placements] == [0, 1, 0]


def test_a_claim_ends_with_its_holder(gpus):
    gpus(2)
    first = choose_device(None)
    second = choose_device(None)

    del first
    third = choose_device(None)

    assert (second.device.index, third.device.index) == (1, 0)


def test_devices_tell_who_they_are(gpus):
    gpus(2)

    assert identity(torch.device("cuda", 1)) == ("model of cuda:1", "id-1")
    assert identity(CPU) == ("cpu", "")


def test_bits_are_kept_on_a_gpu_and_nothing_is_changed_on_the_cpu(monkeypatch):
    said = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", said.append)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)

    keep_bits(CPU)
    before = list(said), torch.backends.cudnn.benchmark
    keep_bits(torch.device("cuda", 0))

    assert before == ([], True)
    assert (said, torch.backends.cudnn.benchmark) == ([True], False)
    assert not torch.utils.deterministic.fill_uninitialized_memory


@pytest.mark.parametrize(
    "text",
    [
        "cumsum_cuda_kernel does not have a deterministic implementation, but you set ...",
        "Deterministic behavior was enabled, but ... set CUBLAS_WORKSPACE_CONFIG=:4096:8",
    ],
)
def test_an_operation_without_deterministic_version_names_the_ways_out(text):
    with pytest.raises(UnsupportedError, match="on a GPU") as caught, explaining_determinism():
        raise RuntimeError(text)

    assert "device='cpu'" in caught.value.next_step
    assert "use_deterministic_algorithms(False)" in caught.value.next_step


def test_any_other_error_stays_what_it_is():
    with pytest.raises(RuntimeError, match="shapes"), explaining_determinism():
        raise RuntimeError("shapes differ")


SCRIPT = """
import torch
import shoal.train.base, shoal.train.training, shoal.train.worker.life
from shoal.train.device import check_device
check_device(None)
assert not torch.cuda.is_initialized()
"""


def test_whoever_only_supervises_starts_no_cuda():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
