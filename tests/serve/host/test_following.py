import threading
from types import SimpleNamespace

import pytest

from shoal.base import ConflictError, NotFoundError
from shoal.serve.host.following import Follower
from shoal.serve.links.messages import ModelPlan


class Registry:
    """One model whose production version the test moves."""

    def __init__(self):
        self.version, self.sequence, self.canary, self.failures = 1, 0, None, 0
        self.get_failures = 0
        self.asked = ["m@production"]
        self.models = self

    def move(self, version, canary=None):
        self.version, self.canary = version, canary
        self.sequence += 1

    def changes(self, since):
        if self.failures:
            self.failures -= 1
            raise ConflictError("locked", next_step="wait")
        return iter([SimpleNamespace(sequence=self.sequence)] if self.sequence > since else [])

    def get(self, address):
        if self.get_failures:
            self.get_failures -= 1
            raise RuntimeError("database is locked")
        if address not in self.asked:
            raise NotFoundError(f"there is no {address}", next_step="look")
        return SimpleNamespace(version=self.version, path=f"/{self.version}")

    def canary_of(self, name):
        return self.canary


class Plans:
    """Keeps what the follower plans."""

    def __init__(self):
        self.sent, self.came, self.dropped = [], threading.Semaphore(0), []
        self.plan = ModelPlan({"1": "/1"}, {"1": 1.0})
        self.failures = 0

    def plan_of(self, name):
        return self.plan

    def send_plan(self, name, planned):
        if self.failures:
            self.failures -= 1
            raise ConflictError("busy", next_step="wait")
        self.plan = planned
        self.sent.append(planned)
        self.came.release()
        return len(self.sent)

    def drop_plan(self, name, *, keeps_place=False):
        self.dropped.append(name)
        self.plan = None
        return 1

    def wait(self):
        assert self.came.acquire(timeout=20)
        return self.sent[-1]


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def plans():
    return Plans()


@pytest.fixture
def follower(registry, plans):
    follower = Follower(registry, "m", "production", plans, since=0)
    follower.start()
    yield follower
    follower.stop()


def test_what_moves_in_the_registry_is_planned(follower, registry, plans):
    registry.move(2)
    follower.look_now()

    assert plans.wait() == ModelPlan({"2": "/2"}, {"2": 1.0})


def test_a_canary_is_planned_beside(follower, registry, plans):
    registry.move(1, canary=(SimpleNamespace(version=2, path="/2"), 0.25))
    follower.look_now()

    assert plans.wait().shares == {"1": 0.75, "2": 0.25}


def test_a_change_that_changes_nothing_here_plans_nothing(follower, registry, plans):
    registry.move(1)
    follower.look_now()
    registry.move(2)
    follower.look_now()

    plans.wait()
    assert len(plans.sent) == 1


def test_a_registry_that_fails_for_a_while_is_followed_again(follower, registry, plans, caplog):
    registry.failures = 2
    registry.move(3)
    for _ in range(3):
        follower.look_now()

    assert plans.wait().versions == {"3": "/3"}
    assert "cannot follow m" in caplog.text


def test_stopping_twice_is_fine(follower):
    follower.stop()
    follower.stop()


def test_a_change_that_could_not_be_planned_is_not_lost(follower, registry, plans, caplog):
    registry.get_failures = 1
    plans.failures = 1
    registry.move(2)
    for _ in range(3):
        follower.look_now()

    assert plans.wait().versions == {"2": "/2"}
    assert "database is locked" in caplog.text


def test_another_order_of_the_shares_is_another_plan(follower, registry, plans):
    plans.plan = ModelPlan({"1": "/1", "2": "/2"}, {"1": 0.5, "2": 0.5})
    registry.move(2, canary=(SimpleNamespace(version=1, path="/1"), 0.5))
    follower.look_now()

    assert list(plans.wait().shares) == ["2", "1"]


def test_a_model_that_is_unloaded_is_followed_no_more(follower, registry, plans):
    follower.unload("m")
    registry.move(2)
    follower.look_now()
    follower.load("m", "production")

    assert plans.dropped == ["m"]
    assert [planned.versions for planned in plans.sent] == [{"2": "/2"}]
    assert follower.follows("m")


def test_a_model_that_was_loaded_is_followed_too(follower, registry, plans):
    registry.asked = ["m@production", "n"]
    follower.load("n", "")
    registry.move(2)
    follower.look_now()

    plans.wait()
    plans.wait()
    assert [planned.versions for planned in plans.sent] == [{"1": "/1"}, {"2": "/2"}]
    assert follower.follows("n")


def test_one_that_cannot_be_planned_does_not_hold_up_the_others(registry, plans):
    follower = Follower(registry, "gone", "", plans, since=0)
    registry.asked = ["m@production"]
    follower.load("m", "production")
    registry.move(2)

    with pytest.raises(NotFoundError, match="gone"):
        follower._plan_changes()

    assert plans.sent[-1].versions == {"2": "/2"}
