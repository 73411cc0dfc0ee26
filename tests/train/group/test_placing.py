import pytest
import torch

from shoal.base import encode
from shoal.train.group import accelerated, placing
from shoal.train.group.accelerated import AcceleratedGroup, Communicator
from shoal.train.group.placing import place_group
from shoal.train.group.solo import Solo
from shoal.train.group.staged import StagedGroup

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


class Pair(Solo):
    size = 2

    def __init__(self, other, rank=0):
        super().__init__()
        self.rank = rank
        self.other = encode(list(other))

    def share(self, data):
        return [data, self.other]


@pytest.fixture
def place(monkeypatch):
    """Places a member that has this identity; memory is not looked at, so none is on a GPU."""
    told = []

    def run(group, own=("H100", "gpu-a"), device=GPU, found=None, nccl=True):
        monkeypatch.setattr(placing, "identity", lambda _: own)
        monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: nccl)
        monkeypatch.setattr(accelerated, "connect", lambda *_, **__: found or Communicator(None, CPU, lambda: False))
        monkeypatch.setattr(accelerated, "AcceleratedGroup", lambda group, _, made: AcceleratedGroup(group, CPU, made))
        monkeypatch.setattr(placing, "StagedGroup", lambda group, _: StagedGroup(group, CPU))
        return place_group(group, device, lambda: False, told.append), told

    return run


def test_on_the_cpu_a_group_stays_what_it_is(place):
    group = Pair(("cpu", "", ""))

    assert place(group, ("cpu", ""), CPU) == (group, [])


def test_a_lone_member_has_its_memory_where_it_computes():
    group = Solo()

    assert place_group(group, CPU, lambda: False, lambda _: None) is group
    assert place_group(group, torch.device("meta"), lambda: False, lambda _: None).memory(64).device.type == "meta"


def test_each_with_a_gpu_of_its_own_goes_over_nccl(place):
    group, told = place(Pair(("H100", "gpu-b", "nccl")))

    assert isinstance(group, AcceleratedGroup)
    assert told == []


@pytest.mark.parametrize(
    ("other", "settings"),
    [
        (("H100", "gpu-a", "nccl"), {}),
        (("H100", "gpu-b", ""), {}),
        (("H100", "gpu-b", "nccl"), {"nccl": False}),
    ],
    ids=["one gpu", "no nccl there", "no nccl here"],
)
def test_otherwise_gpus_go_through_host_memory(place, other, settings):
    group, told = place(Pair(other), **settings)

    assert isinstance(group, StagedGroup)
    assert told == []


def test_a_nccl_that_does_not_connect_is_told_once_and_done_without(place):
    first, told = place(Pair(("H100", "gpu-b", "nccl")), found="no shared memory")
    second, _ = place(Pair(("H100", "gpu-b", "nccl"), rank=1), found="no shared memory")

    assert isinstance(first, StagedGroup)
    assert isinstance(second, StagedGroup)
    assert told == ["gradients go through host memory, as NCCL cannot connect the workers' GPUs: no shared memory"]


@pytest.mark.parametrize(
    ("own", "device", "expected"), [(("H100", "gpu-a"), GPU, StagedGroup), (("cpu", ""), CPU, Pair)]
)
def test_workers_on_different_devices_go_on_with_a_warning(place, own, device, expected):
    other = ("cpu", "", "") if device is GPU else ("H100", "gpu-a", "nccl")

    group, told = place(Pair(other), own, device)

    assert isinstance(group, expected)
    assert told == ["not bit-identical: the workers compute on H100, cpu"]
