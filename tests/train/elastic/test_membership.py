"""The policy alone: whatever happens in whatever order, members are neither lost nor doubled, and the run goes on."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import ConfigError
from shoal.train.elastic.membership import (
    Came,
    GiveUp,
    Gone,
    Heard,
    Kill,
    Look,
    Membership,
    NotStarted,
    Publish,
    Rules,
    Start,
)
from shoal.train.reports import Apart, Beat, Finished, Ready, Steps, Warm

RULES = Rules(least=1, most=3)


def steps(last):
    return Steps(epoch=0, first_step=last, losses=[0.5], rows=4, seconds=0.1, wait_s=0.0)


class World:
    """Workers as they may behave, and a clock; `act` has the membership decide and does what it says."""

    def __init__(self, rules=RULES, started_with=0):
        self.members = Membership(rules=rules, started_with=started_with, num_asked=0 if started_with else rules.most)
        self.now = 100.0
        self.unborn = 0 if started_with else rules.most
        self.next_number = started_with
        self.alive = dict.fromkeys(range(started_with), "in")
        # Dead, and nobody has said so yet.
        self.unseen = []
        self.buried = set()
        self.published = []
        self.gave_up = None
        self.step = 0
        if started_with:
            self.published.append(Publish(0, tuple(range(started_with)), True, True, True))
            self.unready = set(self.alive)
        else:
            self.unready = set()

    def act(self, event):
        for action in self.members.decide(event, self.now):
            match action:
                case Publish():
                    self.check(action)
                    self.published.append(action)
                    self.unready = set(action.numbers)
                case Start():
                    self.unborn += action.num
                case Kill():
                    assert action.number not in self.buried
                    self.buried.add(action.number)
                    if action.number in self.alive:
                        del self.alive[action.number]
                        self.unseen.append(action.number)
                case GiveUp():
                    self.gave_up = action
            assert self.unborn + len(self.members.seats) <= self.members.rules.most

    def check(self, publish):
        assert publish.generation == (self.published[-1].generation + 1 if self.published else 0)
        assert len(set(publish.numbers)) == len(publish.numbers) >= self.members.rules.least
        assert not set(publish.numbers) & self.buried
        # Whoever took part and is not known to be dead takes part, in the same order, before all newcomers.
        stayed = [
            number for number in (self.published[-1].numbers if self.published else ()) if number not in self.buried
        ]
        assert list(publish.numbers[: len(stayed)]) == stayed
        # Who still waits for the others of a generation would not hear that they have gone on.
        assert not (publish.planned and self.unready)
        if self.published and len(stayed) < len(self.published[-1].numbers):
            assert not publish.planned

    def come(self, _):
        if self.unborn:
            self.unborn -= 1
            number, self.next_number = self.next_number, self.next_number + 1
            self.alive[number] = "starting"
            self.act(Came(number, "here"))

    def warm(self, pick):
        found = [number for number, status in self.alive.items() if status == "starting"]
        if found:
            number = found[pick % len(found)]
            self.alive[number] = "warm"
            self.act(Heard(number, Warm()))

    def ready(self, pick):
        found = sorted(self.unready & set(self.alive))
        if found:
            number = found[pick % len(found)]
            self.unready.discard(number)
            self.act(Heard(number, Ready(generation=self.published[-1].generation, step=self.step)))

    def train(self, _):
        if self.published and not self.unready and set(self.published[-1].numbers) <= set(self.alive):
            self.step += 1
            self.act(Heard(self.published[-1].numbers[0], steps(self.step)))

    def die(self, pick):
        if self.alive:
            number = sorted(self.alive)[pick % len(self.alive)]
            del self.alive[number]
            self.unseen.append(number)

    def see_death(self, pick):
        if self.unseen:
            number = self.unseen.pop(pick % len(self.unseen))
            self.buried.add(number)
            self.act(Gone(number, f"worker {number} died"))

    def look(self, pick):
        self.now += pick % 3
        for number, status in list(self.alive.items()):
            phase = "warming" if status == "starting" else "waiting"
            self.act(Heard(number, Beat(step=self.step, phase=phase, for_s=0.0)))
        self.act(Look())

    def part(self, pick):
        found = [number for number, status in self.alive.items() if status == "in"]
        if found and self.published:
            self.act(Heard(found[pick % len(found)], Apart(generation=self.published[-1].generation)))

    def fail_to_start(self, _):
        if self.unborn:
            self.unborn -= 1
            self.act(NotStarted(1, "no room"))

    def settle(self):
        """Let everything happen that is under way, and nothing bad."""
        for _ in range(200):
            while self.unseen:
                self.see_death(0)
            for happen in (self.come, self.warm, self.ready, self.train):
                happen(0)
            self.look(1)


HAPPENINGS = ("come", "warm", "ready", "train", "die", "see_death", "look", "part", "fail_to_start")


@given(
    st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 9)), max_size=80),
    st.integers(1, 3),
    st.booleans(),
)
@settings(max_examples=400, deadline=None)
def test_no_sequence_of_events_loses_doubles_or_strands_a_member(happenings, least, knows_first):
    rules = Rules(least=least, most=3, retries=10_000)
    world = World(rules, started_with=3 if knows_first else 0)

    for name, pick in happenings:
        getattr(world, name)(pick)
    world.settle()

    assert world.gave_up is None
    assert set(world.published[-1].numbers) == set(world.alive)
    assert len(world.alive) == rules.most
    assert not world.unready


@given(st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 9)), max_size=80), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_a_run_gives_up_only_after_losses_without_a_step_in_between(happenings, retries):
    world = World(Rules(most=3, retries=retries), started_with=3)
    losses = 0

    for name, pick in happenings:
        before = len(world.members.seats), world.step
        getattr(world, name)(pick)
        if world.step > before[1]:
            losses = 0
        losses += name in ("see_death", "fail_to_start", "part")
        if world.gave_up is not None:
            break

    if world.gave_up is not None:
        assert losses > retries
        assert world.gave_up.losses == retries + 1


def begun(rules=RULES):
    """Three workers in generation 0, one step done."""
    world = World(rules, started_with=rules.most)
    for number in range(rules.most):
        world.act(Came(number, "here"))
    for number in range(rules.most):
        world.ready(number)
    world.ready(0)
    world.ready(0)
    world.train(0)
    return world


def test_survivors_meet_at_once_and_another_is_started():
    world = begun()

    world.die(1)
    world.see_death(0)

    assert world.published[-1] == Publish(1, (0, 2), planned=False, from_checkpoint=False, one_host=True)
    assert world.unborn == 1


def test_a_newcomer_joins_by_a_planned_change():
    world = begun()
    world.die(1)
    world.see_death(0)
    world.ready(0)
    world.ready(0)

    world.come(0)
    world.warm(0)

    assert world.published[-1] == Publish(2, (0, 2, 3), planned=True, from_checkpoint=False, one_host=True)


def test_a_second_newcomer_waits_until_the_first_has_met_the_others():
    world = begun()
    for _ in range(2):
        world.die(1)
        world.see_death(0)
    world.ready(0)
    for happen in (world.come, world.come, world.warm, world.warm):
        happen(0)
    assert world.published[-1].numbers == (0, 3)

    world.ready(0)
    world.ready(0)

    assert world.published[-1].numbers == (0, 3, 4)


def test_below_the_least_all_wait_for_replacements():
    world = begun(Rules(least=3, most=3))
    world.die(1)
    world.see_death(0)
    assert len(world.published) == 1

    world.come(0)
    world.warm(0)

    assert world.published[-1].numbers == (0, 2, 3)
    assert not world.published[-1].planned


def test_when_all_are_gone_newcomers_begin_with_the_checkpoint():
    world = begun()
    for _ in range(3):
        world.die(0)
        world.see_death(0)

    world.come(0)
    world.warm(0)

    assert world.published[-1].from_checkpoint


def test_newcomers_that_die_at_once_are_started_ever_later():
    world = begun(Rules(most=3, retries=100))
    waits = []
    world.die(2)
    world.see_death(0)
    for _ in range(8):
        world.come(0)
        world.die(9 if len(world.alive) < 3 else 2)
        world.see_death(0)
        began = world.now
        while not world.unborn:
            world.now += 0.25
            for number in list(world.alive):
                world.act(Heard(number, Beat(step=1, phase="waiting", for_s=0)))
            world.act(Look())
        waits.append(world.now - began)
        world.train(0)
        world.ready(0)
        world.ready(0)

    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_silence_is_death():
    world = begun()
    for _ in range(11):
        world.now += 1
        for number in (0, 2):
            world.act(Heard(number, Beat(step=1, phase="waiting", for_s=0)))
        world.act(Look())

    assert 1 in world.buried
    assert world.published[-1].numbers == (0, 2)


def test_a_supervisor_that_slept_blames_nobody():
    world = begun()

    world.now += 3600
    world.act(Look())

    assert not world.buried


@pytest.mark.parametrize("phase", ["computing", "validating"])
def test_a_step_or_a_validation_batch_without_end_is_a_hang(phase):
    world = begun()

    world.act(Heard(2, Beat(step=1, phase=phase, for_s=601)))

    assert 2 in world.buried


def test_waiting_for_others_is_no_hang():
    world = begun()

    world.act(Heard(2, Beat(step=1, phase="waiting", for_s=5000)))

    assert not world.buried


def test_workers_that_lost_each_other_meet_again():
    world = begun()

    world.act(Heard(0, Apart(generation=0)))
    world.now += 2
    world.act(Look())

    assert world.published[-1] == Publish(1, (0, 1, 2), planned=False, from_checkpoint=False, one_host=True)


def test_workers_that_cannot_meet_again_go_on_without_the_newest():
    world = begun()

    for generation in range(2):
        world.act(Heard(0, Apart(generation=generation)))
        world.now += 2
        world.act(Look())

    assert world.published[-1] == Publish(2, (0, 1), planned=False, from_checkpoint=False, one_host=True)
    assert 2 in world.buried


def test_workers_that_never_find_each_other_are_called_again():
    world = begun()
    world.die(1)
    world.see_death(0)

    for _ in range(601):
        world.now += 1
        for number in (0, 2):
            world.act(Heard(number, Beat(step=1, phase="waiting", for_s=0)))
        world.act(Look())

    assert world.published[-1] == Publish(2, (0, 2), planned=False, from_checkpoint=False, one_host=True)


def test_losses_together_count_once_and_the_first_is_named():
    world = begun(Rules(most=3, retries=1))
    world.die(0)
    world.die(0)
    world.see_death(0)
    world.see_death(0)
    assert world.gave_up is None

    world.now += 5
    world.die(0)
    world.see_death(0)

    assert world.gave_up == GiveUp(0, "worker 0 died", 2)


def test_where_nobody_can_be_added_the_run_goes_on_smaller_to_the_end():
    world = begun(Rules(most=3, retries=10))
    world.die(0)
    world.see_death(0)
    world.act(NotStarted(1, "given processes", for_good=True))
    world.unborn = 0
    assert world.gave_up is None
    world.now += 100

    world.die(0)
    world.see_death(0)
    world.die(0)
    world.see_death(0)

    assert world.gave_up is not None


def test_after_the_end_nothing_is_decided():
    world = begun()
    world.act(Heard(0, Finished(step=9)))

    world.die(1)
    world.see_death(0)

    assert len(world.published) == 1
    assert world.unborn == 0


@pytest.mark.parametrize("wrong", [{"retries": -1}, {"heartbeat_s": 0}, {"step_timeout_s": -1.0}])
def test_impossible_rules_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Rules(most=1, **wrong)
