import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shoal.base import InputError
from shoal.testing.strategy import ContractTask, ThreadGroup, make_rows, make_state, train_once
from shoal.train.collective import Collective
from shoal.train.virtual import VirtualWorkers, square_of, stream_seed


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


def test_a_loss_per_row_is_refused_with_its_shape():
    class PerRow(ContractTask):
        def loss(self, outputs, batch):
            return F.cross_entropy(outputs, batch["label"], reduction="none")

    with pytest.raises(InputError, match=r"\(4,\).*one number"):
        train_with(PerRow())


def contribute(workers, batch, part, into, *, onto=False):
    return workers.contribute(batch, part, 0.25, into, onto=onto)


@pytest.mark.parametrize("task", [ContractTask(), OddTask()])
@pytest.mark.parametrize("num_rows", [0, 4])
def test_adding_onto_a_contribution_gives_the_bits_of_adding_two(task, num_rows):
    workers = VirtualWorkers(make_state(task), seed=1, measure_noise=True)
    workers.begin()
    first, second, together = (workers.layout.new() for _ in range(3))
    batch = make_rows(num_rows) if num_rows else None
    for into in (first, together):
        contribute(workers, make_rows(8), 0, into)
        # Nothing but a sum tells -0 from 0.
        for gradient in into.gradients:
            gradient.flatten()[0] = -0.0

    contribute(workers, batch, 1, second)
    contribute(workers, batch, 1, together, onto=True)

    assert torch.equal(first.add(second).data, together.data)


def test_a_contribution_measures_its_own_unweighted_gradient():
    state = make_state(ContractTask())
    workers = VirtualWorkers(state, seed=1, measure_noise=True)
    into = workers.layout.new()
    workers.begin()

    contribute(workers, make_rows(8), 0, into)

    own = sum((gradient / 0.25).double().square().sum() for gradient in into.gradients)
    torch.testing.assert_close(into.square[0], own * 0.25)


def test_squares_are_summed_in_wide_numbers():
    assert square_of([torch.full((3000,), 1.0, dtype=torch.bfloat16), torch.ones(2)]) == pytest.approx(3002, rel=1e-6)


def test_no_gradient_looks_into_the_memory_of_an_earlier_group():
    state = make_state(ContractTask())
    workers = VirtualWorkers(state, seed=1)
    total = workers.layout.new()
    workers.begin()
    workers.apply(total, in_place=True)
    assert state.module[0].weight.grad.untyped_storage().data_ptr() == total.data.untyped_storage().data_ptr()

    VirtualWorkers(state, seed=1)

    assert all(param.grad is None for param in state.module.parameters())


def test_applying_only_reads_the_total():
    workers = VirtualWorkers(make_state(ContractTask()), seed=1)
    total = workers.layout.new()
    workers.begin()
    contribute(workers, make_rows(8), 0, total)
    before = total.data.clone()

    workers.apply(total, in_place=False)
    for param in workers.layout.params:
        param.grad.zero_()

    assert torch.equal(total.data, before)
