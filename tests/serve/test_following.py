import threading
from types import SimpleNamespace

import pytest

from shoal.base import ConflictError
from shoal.serve.following import Follower
from shoal.serve.messages import ModelPlan


class Registry:
    """One model whose production version the test moves."""

    def __init__(self):
        self.version, self.sequence, self.canary, self.failures = 1, 0, None, 0
        self.get_failures = 0
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
        assert address == "m@production"
        return SimpleNamespace(version=self.version, path=f"/{self.version}")

    def canary_of(self, name):
        return self.canary


class Plans:
    """Keeps what the follower plans."""

    def __init__(self):
        self.sent, self.came = [], threading.Semaphore(0)
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
