"""Members decide alike, whatever they have missed, and what was decided can be done again to the same bits."""

from dataclasses import dataclass, replace

import pytest
import torch
from tests.train.conftest import SmallTask
from torch import nn

import shoal.store
import shoal.train
from shoal.base import ConfigError
from shoal.testing.strategy import ThreadGroup, make_state
from shoal.train.base import Position, StepOutcome
from shoal.train.batch_size.governor import Adapting, Fixed, Pace, Recorded, make_governor, momentum_of
from shoal.train.batch_size.settings import AdaptiveBatch
from shoal.train.checkpoint import newest_checkpoint
from shoal.train.group.solo import Solo
from shoal.train.reports import Resized
from shoal.train.session import replayed_schedule

SETTINGS = AdaptiveBatch(min=8, max=32, every_steps=2)
PACE = Pace(accumulate=1, num_rows=10_000, first_size=8)
# A batch of 8 in parts of 2: signal 1, and a variance of 40 for a row.
OUTCOME = StepOutcome(loss=1.0, part_square=21.0, whole_square=6.0)


@dataclass(frozen=True)
class Plain(SmallTask):
    """Without batch normalisation, which refuses micro-batches of one row."""

    def build(self):
        return nn.Sequential(nn.Linear(5, self.width), nn.ReLU(), nn.Dropout(0.4), nn.Linear(self.width, 3))


def adapting(state, group, notes=None, settings=SETTINGS, pace=PACE):
    note = (lambda _: None) if notes is None else notes.append
    return Adapting(settings, pace, state, group, num_parts=4, note=note)


def steps(governor, state, num_steps, seconds=lambda rows: 0.01 + rows * 1e-6):
    """Do so many steps with gradients of the same noise; the sizes they had."""
    sizes = []
    for _ in range(num_steps):
        size = governor.begin_step()
        outcome = replace(OUTCOME, part_square=1 + 40 / (size / 4), whole_square=1 + 40 / size)
        governor.end_step(outcome, [size // 4] * 4, seconds(size))
        state.position = replace(state.position, step=state.position.step + 1, row=state.position.row + size)
        sizes.append(size)
    return sizes


def test_grows_where_a_step_costs_the_same_for_any_size(task):
    state = make_state(task)

    sizes = steps(adapting(state, Solo()), state, 12)

    assert sizes[0] == 8
    assert sizes[-1] == 32
    assert 1 < state.extras["batch_size"]["lr_factor"] < 4


def test_stays_small_where_rows_are_all_that_costs(task):
    state = make_state(task)

    sizes = steps(adapting(state, Solo()), state, 20, seconds=lambda rows: rows * 1e-3)

    assert sizes[-5:] == [8] * 5


def test_members_whose_clocks_differ_decide_alike(task):
    slow = {0: 0.01, 1: 0.5, 2: 3e-5}

    def member(group):
        state = make_state(task)
        sizes = steps(
            adapting(state, group), state, 20, seconds=lambda rows: slow[group.rank] * (1 + group.rank * rows)
        )
        return sizes, state.extras["batch_size"]

    first, *others = ThreadGroup(3).run(member)

    assert len(set(first[0])) > 1
    assert others == [first, first]


def test_whoever_missed_the_last_decision_takes_it_over(task):
    """A member may die in the exchange of times: some of the others have decided then, and some have not."""
    ahead, behind = make_state(task), make_state(task)
    for state in (ahead, behind):
        steps(adapting(state, Solo()), state, 2)
    adapting(ahead, Solo()).begin_step()
    assert ahead.extras["batch_size"]["decided"] == 2 > behind.extras["batch_size"]["decided"]

    def member(group):
        state = [behind, ahead][group.rank]
        adapting(state, group)
        return state.extras

    first, second = ThreadGroup(2).run(member)

    assert first["batch_size"]["decided"] == 2
    assert first == second


def test_times_of_another_number_of_workers_are_forgotten_and_the_noise_is_not(task):
    state = make_state(task)
    steps(adapting(state, Solo()), state, 6)
    before = state.extras["batch_size"]
    assert before["timed"]

    def member(group):
        own = make_state(task)
        own.extras["batch_size"] = dict(before)
        adapting(own, group)
        return own.extras["batch_size"]

    for after in ThreadGroup(2).run(member):
        assert after["timed"] == []
        assert (after["rows"], after["noise"], after["workers"]) == (before["rows"], before["noise"], 2)


def test_the_first_step_of_a_size_is_not_timed(task):
    state, notes = make_state(task), []
    cold = []

    def seconds(rows):
        is_cold = rows not in cold
        cold.append(rows)
        return 100.0 if is_cold else 0.01

    steps(adapting(state, Solo(), notes), state, 12, seconds=seconds)

    assert {time for _, time in state.extras["batch_size"]["timed"]} == {0.01}


def test_a_change_is_noted_with_the_first_step_done_with_it(task):
    state, notes = make_state(task), []
    governor = adapting(state, Solo(), notes)

    steps(governor, state, 2)
    governor.begin_step()
    assert [note.step for note in notes] == [0]
    governor.end_step(OUTCOME, [2] * 4, 0.01)

    assert [(note.step, note.size) for note in notes] == [(0, 8), (2, 16)]
    assert notes[1].facts.keys() == {"noise_rows", "rows_per_s", "worth"}


def test_a_batch_of_one_part_tells_nothing_of_the_noise(task):
    state = make_state(task)
    governor = adapting(state, Solo())

    governor.begin_step()
    governor.end_step(OUTCOME, [0, 0, 0, 2], 0.01)

    assert state.extras["batch_size"]["noise"]["weight"] == 0


def test_accumulated_batches_count_as_one_step(task):
    state = make_state(task)
    governor = adapting(state, Solo(), pace=Pace(accumulate=2, num_rows=10_000, first_size=8))

    for _ in range(3):
        size = governor.begin_step()
        governor.end_step(OUTCOME, [size * 2 // 8] * 8, 0.01)
        state.position = replace(state.position, step=state.position.step + 1)

    assert state.extras["batch_size"]["timed"] == [[8, 0.01]]
    assert state.extras["batch_size"]["ticks"] == 2


@pytest.mark.parametrize(
    ("scaling", "optimizer", "expected"),
    [
        ("auto", torch.optim.Adam, "root"),
        ("auto", torch.optim.SGD, "full"),
        ("sqrt", torch.optim.SGD, "root"),
        ("none", torch.optim.SGD, "none"),
    ],
)
def test_the_rate_is_scaled_as_suits_the_optimiser(task, scaling, optimizer, expected):
    state = make_state(task)
    state.optimizers[:] = [optimizer(state.module.parameters(), lr=0.1)]

    governor = adapting(state, Solo(), settings=replace(SETTINGS, scaling=scaling))
    steps(governor, state, 3)

    factor = state.extras["batch_size"]["lr_factor"]
    worth = state.extras["batch_size"]["why"]["worth"] * state.extras["batch_size"]["rows"] / 8
    assert worth > 1
    assert factor == pytest.approx({"full": worth, "root": worth**0.5, "none": 1.0}[expected])


def test_recorded_sizes_hold_from_their_steps_on(task):
    state, notes = make_state(task), []
    governor = Recorded([(0, 8, 1.0), (2, 16, 1.5), (3, 12, 1.2)], PACE, state, notes.append)

    assert steps(governor, state, 5) == [8, 8, 16, 12, 12]
    assert [(note.step, note.size, note.lr_factor) for note in notes] == [(0, 8, 1.0), (2, 16, 1.5), (3, 12, 1.2)]
    assert not governor.measures_noise


def test_a_plan_says_which_governor(make_plan, task):
    def made(**changes):
        return make_governor(make_plan(**changes), make_state(task), Solo(), num_rows=53, note=lambda _: None)

    assert isinstance(made(), Fixed)
    assert isinstance(made(batch_size=SETTINGS), Adapting)
    assert isinstance(made(batch_size=SETTINGS, schedule=((0, 8, 1.0),)), Recorded)


def test_one_virtual_worker_cannot_measure(make_plan):
    with pytest.raises(ConfigError, match="num_virtual=1"):
        make_plan(batch_size=SETTINGS, num_parts=1)

    make_plan(batch_size=SETTINGS, num_parts=1, accumulate=2)


# ---- in a worker, and in whole runs -------------------------------------------------------------------------------


def test_a_worker_that_adapts_does_again_what_it_told(work, tmp_path):
    adapted = work(batch_size=SETTINGS, epochs=6, task=Plain(), folder=tmp_path / "first")
    changes = tuple((told.step, told.size, told.lr_factor) for told in adapted.of(Resized))
    assert len({size for _, size, _ in changes}) > 1

    again = work(schedule=changes, epochs=6, task=Plain(), folder=tmp_path / "second")

    assert again.of(Resized) == [replace(told, facts={}) for told in adapted.of(Resized)]
    assert weights(tmp_path / "first") == weights(tmp_path / "second")


def test_an_interrupted_run_goes_on_with_its_size_and_tells_it_again(work, tmp_path):
    def stop(line, step):
        if step == 7:
            line.stopping.set()

    first = work(batch_size=SETTINGS, epochs=6, task=Plain(), on_step=stop)
    checkpoint = newest_checkpoint(tmp_path / "checkpoints")
    second = work(batch_size=SETTINGS, epochs=6, task=Plain(), checkpoint=checkpoint)

    last, new = first.of(Resized)[-1], second.of(Resized)[0]
    assert new.step == 7
    # It may be the step at which the size is thought over.
    assert new.size == last.size or checkpoint.position.step - last.step >= SETTINGS.every_steps


def weights(folder):
    import hashlib

    checkpoint = newest_checkpoint(folder)
    return hashlib.sha256((checkpoint.path / "model.safetensors").read_bytes()).hexdigest()


def digest(model):
    return [tensor.numpy().tobytes() for tensor in model.state_dict().values()]


@pytest.mark.slow
def test_a_run_that_adapted_while_a_worker_died_is_replayed_on_one_worker(datasets, tmp_path):
    import os
    import signal
    import time

    class Kill(shoal.train.Callback):
        everywhere = True

        def on_step(self, moment):
            time.sleep(0.002)
            if moment.rank == 1 and moment.step == 9:
                os.kill(os.getpid(), signal.SIGKILL)

    data = shoal.data.open(str(datasets[0].path))
    with shoal.store.open(tmp_path / ".shoal") as store:
        settings = {"epochs": 10, "store": store, "seed": 3}
        first = shoal.train.fit(
            Plain(), data, batch_size=SETTINGS, workers=2, callbacks=[Kill()], retries=5, **settings
        )
        schedule = replayed_schedule(store, first.run)
        second = shoal.train.fit(Plain(), data, replay=first.run, workers=1, **settings)

        assert len({size for _, size, _ in schedule}) > 1
        assert replayed_schedule(store, second.run) == schedule
        assert first.steps == second.steps
        assert digest(first.model) == digest(second.model)


def test_what_all_workers_lost_is_not_replayed(tmp_path):
    with shoal.store.open(tmp_path / ".shoal") as store:
        config = {"batch_size": {"fields": {"min": 8}}, "schedule": []}
        run = store.runs.start(kind="train", name="t", config=config, code="", dataset=None, environment={})
        with run:
            for step, size in ((0, 8), (4, 16), (9, 32), (6, 16), (8, 24)):
                run.event("batch_size", step=step, size=size, lr_factor=1.0)

        assert replayed_schedule(store, run.id) == [(0, 8, 1.0), (4, 16, 1.0), (8, 24, 1.0)]


def test_the_position_alone_never_decides(task):
    """A checkpoint of another generation, with nothing measured since: the next steps are as before."""
    state = make_state(task)
    state.position = Position(step=100, row=400)

    assert steps(adapting(state, Solo()), state, 2) == [8, 8]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda params: torch.optim.SGD(params, lr=0.1), 0.0),
        (lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.8), 0.8),
        (lambda params: torch.optim.AdamW(params, betas=(0.95, 0.99)), 0.95),
        (lambda params: torch.optim.Adagrad(params), 0.0),
    ],
    ids=["sgd", "momentum", "adamw", "adagrad"],
)
def test_momentum_is_that_of_the_optimiser(task, make, expected):
    assert momentum_of([make(task.build().parameters())]) == expected
