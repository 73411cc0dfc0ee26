import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shoal.base import InputError, UnsupportedError
from shoal.testing.strategy import ContractTask, ThreadGroup, make_rows, make_state, train_once
from shoal.train.collective import Collective
from shoal.train.virtual import Layout, VirtualWorkers, stream_seed


def train_with(task, num_virtual=4):
    ((state, losses),) = ThreadGroup(1).run(
        lambda group: train_once(Collective(num_virtual=num_virtual), group, make_rows(), task)
    )
    return state, losses


def test_streams_of_all_neighbours_differ():
    seeds = {stream_seed(seed, step, part) for seed in range(20) for step in range(20) for part in range(20)}

    # The generator of torch uses the lower half alone.
    assert len({seed & 0xFFFFFFFF for seed in seeds}) == len(seeds) == 8000


def test_random_numbers_depend_on_step_and_part_alone():
    state = make_state(ContractTask())
    workers = VirtualWorkers(state, seed=1)
    batch = make_rows(8)
    into = [workers.layout.new() for _ in range(3)]

    workers.begin()
    workers.contribute(batch, 0, 0.5, into[0])
    workers.contribute(batch, 1, 0.5, into[1])
    workers.contribute(batch, 0, 0.5, into[2])

    assert torch.equal(into[0].data, into[2].data)
    assert not torch.equal(into[0].data, into[1].data)


class Odd(nn.Module):
    """Buffers of every sort, a frozen parameter, and one that the loss never sees."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5, 3))
        self.unused = nn.Parameter(torch.ones(2))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("mask", torch.tensor([0.1, float("inf"), float("-inf")]))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int32))
        self.register_buffer("mean", torch.zeros(5, dtype=torch.float64))
        self.register_buffer("was_used", torch.zeros(1, dtype=torch.bool))

    def forward(self, features):
        if self.training:
            self.calls += 1
            self.was_used.fill_(True)
            self.mean += features.detach().mean(0)
        return features @ self.weight + self.frozen


class OddTask(ContractTask):
    def build(self):
        return Odd()


def test_buffers_that_nothing_moved_keep_their_bits():
    state, _ = train_with(OddTask(), num_virtual=3)

    assert torch.equal(state.module.mask, Odd().mask)


def test_counters_count_steps_and_averages_are_over_all_rows():
    state, losses = train_with(OddTask())

    assert state.module.calls == len(losses)
    assert state.module.was_used
    rows = make_rows()["features"].double()
    expected = sum(part.mean(0) for part in rows.split(16))
    torch.testing.assert_close(state.module.mean, expected)


def test_frozen_parameters_stay_and_unused_ones_get_no_pull():
    state, _ = train_with(OddTask())

    assert torch.equal(state.module.frozen, torch.ones(3))
    assert torch.equal(state.module.unused, torch.ones(2))


def test_sparse_gradients_count():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(3, 3, sparse=True)

        def forward(self, features):
            return self.table((features[:, 0] > 0).long())

    class TableTask(ContractTask):
        def build(self):
            return Table()

    before = make_state(TableTask()).module.table.weight

    state, _ = train_with(TableTask())

    moved = (state.module.table.weight != before).any(1)
    assert moved.tolist() == [True, True, False]


def test_gradients_keep_the_memory_order_of_their_parameter():
    module = nn.Conv2d(4, 4, 3).to(memory_format=torch.channels_last)

    contribution = Layout(module).new()

    assert contribution.gradients[0].stride() == module.weight.stride()


def test_a_loss_per_row_is_refused_with_its_shape():
    class PerRow(ContractTask):
        def loss(self, outputs, batch):
            return F.cross_entropy(outputs, batch["label"], reduction="none")

    with pytest.raises(InputError, match=r"\(4,\).*one number"):
        train_with(PerRow())


def test_a_module_without_anything_to_train_is_refused():
    with pytest.raises(InputError, match="none of its parameters"):
        Layout(nn.Flatten())


def test_complex_numbers_are_refused():
    module = nn.Linear(2, 2, dtype=torch.complex64)

    with pytest.raises(UnsupportedError, match="complex64"):
        Layout(module)
