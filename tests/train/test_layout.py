import pytest
import torch
from torch import nn

from shoal.base import InputError, UnsupportedError
from shoal.train.layout import Buffers, Layout, exchange_device


def test_gradients_keep_the_memory_order_of_their_parameter():
    module = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)

    contribution = Layout(module).new()

    assert contribution.gradients[0].stride() == module.weight.stride()


def test_nothing_overlaps_and_all_is_aligned():
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 1, dtype=torch.bfloat16))
    layout = Layout(module)
    contribution = layout.new()

    for flat in contribution.flats:
        flat.fill_(1)

    assert layout.size_bytes % 64 == 0
    used = sum(flat.numel() * flat.itemsize for flat in contribution.flats)
    views = [*contribution.gradients, *contribution.moves, *contribution.counters]
    assert sum(view.numel() * view.itemsize for view in views) + 2 * 8 == used
    assert (contribution.data != 0).sum() <= used <= layout.size_bytes
    assert all((view == 1).all() for view in [*views, contribution.loss, contribution.square])


def test_buffers_come_back_as_they_were_taken():
    module = nn.BatchNorm1d(4)
    buffers = Buffers(Layout(module))
    module.running_mean.fill_(2)
    module.num_batches_tracked.fill_(7)

    buffers.take()
    module.running_mean.fill_(3)
    module.num_batches_tracked.fill_(8)
    buffers.put_back()

    assert module.running_mean.tolist() == [2] * 4
    assert module.num_batches_tracked == 7


def test_a_module_without_anything_to_train_is_refused():
    with pytest.raises(InputError, match="none of its parameters"):
        Layout(nn.Flatten())


def test_complex_numbers_are_refused():
    module = nn.Linear(2, 2, dtype=torch.complex64)

    with pytest.raises(UnsupportedError, match="complex64"):
        Layout(module)


def test_contributions_and_buffers_are_on_the_module_s_device():
    layout = Layout(nn.BatchNorm1d(4))
    layout.device = torch.device("meta")

    assert layout.new().data.device.type == "meta"
    assert {flat.device.type for flat in [*Buffers(layout).floats, *Buffers(layout).counters]} == {"meta"}


def test_a_module_on_several_devices_brings_its_gradients_to_the_cpu():
    module = nn.Sequential(nn.Linear(2, 2, device="meta"), nn.Linear(2, 2))

    assert exchange_device(module).type == "cpu"
    assert exchange_device(module[0]).type == "meta"
