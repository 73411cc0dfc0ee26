from dataclasses import dataclass

import numpy as np
import pytest
import torch

from shoal.testing.strategy import ContractTask, cut, make_rows
from shoal.train.base import GlobalBatch
from shoal.train.building import build_state
from shoal.train.diagnosis import MAX_ROWS, diagnose

NUM_PARTS = 4
NUMBERS = np.arange(100, 116)


@pytest.fixture
def state():
    return build_state(ContractTask(), seed=0, num_steps=1)


def bits(state):
    return {name: value.numpy().tobytes() for name, value in state.module.state_dict().items()}


def test_names_the_row_whose_value_is_no_number(state):
    rows = make_rows(16)
    rows["features"][6, 2] = torch.nan

    found = diagnose(state, cut(rows, 0, 16, NUM_PARTS), [1], NUMBERS)

    assert found.rows == [106]
    assert found.is_exact
    assert str(found) == "row 106: features holds nan"


def test_names_rows_whose_own_loss_is_infinite(state):
    @dataclass(frozen=True)
    class Dividing(ContractTask):
        def loss(self, outputs, batch):
            return (outputs.sum() * 0 + 1 / batch["label"]).mean()

    state = build_state(Dividing(), seed=0, num_steps=1)
    rows = make_rows(16)
    rows["label"][:] = 1
    rows["label"][[9, 10]] = 0
    before = bits(state)

    found = diagnose(state, cut(rows, 0, 16, NUM_PARTS), [2], NUMBERS)

    assert str(found) == "rows 109, 110: the loss of each alone is inf"
    assert bits(state) == before


def test_a_task_that_cannot_take_a_row_alone_does_not_hide_the_divergence(state):
    @dataclass(frozen=True)
    class Together(ContractTask):
        def loss(self, outputs, batch):
            if len(outputs) == 1:
                raise IndexError("expected two rows or more")
            return super().loss(outputs, batch)

    state = build_state(Together(), seed=0, num_steps=1)

    found = diagnose(state, cut(make_rows(16), 0, 16, NUM_PARTS), [3], NUMBERS)

    assert found.rows == [112, 113, 114, 115]
    assert not found.is_exact


def test_names_the_micro_batch_where_no_row_alone_is_to_blame(state):
    found = diagnose(state, cut(make_rows(16), 0, 16, NUM_PARTS), [3], NUMBERS)

    assert found.rows == [112, 113, 114, 115]
    assert not found.is_exact
    assert "weights may have run away" in str(found)


def test_weights_that_ran_away_blame_no_row(state):
    with torch.no_grad():
        state.module[0].weight.fill_(torch.nan)
    rows = make_rows(53)
    batch = GlobalBatch.of(53, batch_size=53, num_parts=2, read=lambda part, num: rows_of(rows, part, num))

    found = diagnose(state, batch, [0, 1], np.arange(53))

    assert len(found.rows) == MAX_ROWS
    assert not found.is_exact
    assert "weights may have run away" in str(found)


def rows_of(rows, part, num):
    edges = [53 * edge // num for edge in (part, part + 1)]
    return {name: column[edges[0] : edges[1]] for name, column in rows.items()}


def test_a_member_without_bad_micro_batches_finds_nothing(state):
    assert diagnose(state, cut(make_rows(16), 0, 16, NUM_PARTS), [], NUMBERS) is None
