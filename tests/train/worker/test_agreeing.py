from dataclasses import replace

import pytest
import torch
from tests.train.worker.test_diary import done

from shoal.testing.strategy import make_state
from shoal.train.group.solo import Solo
from shoal.train.worker.agreeing import agree
from shoal.train.worker.diary import Diary

try:
    from shoal.testing.group import ThreadGroup
except ImportError:
    from shoal.testing.strategy import ThreadGroup


def weights(state):
    return torch.cat([value.flatten().double() for value in state.module.state_dict().values()])


def moved(state, step, by):
    with torch.no_grad():
        for param in state.module.parameters():
            param.add_(by)
    state.position = replace(state.position, step=step)
    return state


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_all_hold_the_state_of_the_most_advanced(task, ahead):
    states = [moved(make_state(task), 5 + (rank == ahead), rank) for rank in range(3)]
    expected = weights(states[ahead]).clone()
    diaries = [Diary() for _ in range(3)]
    diaries[ahead].add(done(6))

    def member(group):
        return agree(states[group.rank], diaries[group.rank], group, checkpoint_step=-1, load=lambda: 1 / 0)

    copied = ThreadGroup(3).run(member)

    assert copied == [rank != ahead for rank in range(3)]
    for state, diary in zip(states, diaries, strict=True):
        assert state.position.step == 6
        assert torch.equal(weights(state), expected)
        assert [steps.first_step for steps in diary.take()] == [6]


def test_who_agrees_already_copies_nothing(task):
    states = [moved(make_state(task), 5, 1) for _ in range(2)]

    copied = ThreadGroup(2).run(
        lambda group: agree(states[group.rank], Diary(), group, checkpoint_step=3, load=lambda: 1 / 0)
    )

    assert copied == [False, False]


def test_a_checkpoint_counts_only_where_it_is_ahead_of_all(task):
    state = moved(make_state(task), 5, 1)

    assert not agree(state, Diary(), Solo(), checkpoint_step=5, load=lambda: 1 / 0)
    assert agree(state, Diary(), Solo(), checkpoint_step=6, load=lambda: moved(state, 6, 1))
    assert state.position.step == 6
