import threading
from pathlib import Path

import pytest

from shoal.base import ConfigError, ServeError
from shoal.runtime import Exited, Member, Report, Started
from shoal.serve.messages import (
    CannotListen,
    Configure,
    Listening,
    ModelPlan,
    Plan,
    Problem,
    Serving,
    Synced,
    encode_message,
    read_for_front,
)
from shoal.serve.settings import ServeSettings
from shoal.serve.supervision import Supervision

FRONT = Member("front", 0)


class Service:
    """A front that says what the test lets it say, and keeps what it is told."""

    restarts = 0

    def __init__(self):
        self.sent = []

    def send(self, rank, message):
        self.sent.append(read_for_front(message))

    def pids(self):
        return {0: 1}

    def stop(self, grace_s=5.0): ...


@pytest.fixture
def supervision(tmp_path):
    supervision = Supervision(ServeSettings(port=0, start_s=0.05), "key", tmp_path)
    supervision._front = supervision._replicas = Service()
    supervision._start_processes = lambda: None
    return supervision


def say(supervision, message):
    supervision._on_front(Report(FRONT, encode_message(message)))


def one(path="/1"):
    return ModelPlan({"1": path}, {"1": 1.0})


def test_a_front_that_starts_is_told_all_it_must_know(supervision):
    supervision.send_plan("m", one())
    say(supervision, Listening(4711))

    supervision._on_front(Started(FRONT, 1))

    told = supervision._front.sent[-1]
    assert isinstance(told, Configure)
    assert (told.port, told.api_key, told.plan.models) == (4711, "key", {"m": one()})


def test_start_ends_when_the_plan_is_reached(supervision):
    supervision._start_processes = lambda: say(supervision, Serving(1, {"m": {"1": 1.0}}, []))

    supervision.start("m", one())

    assert supervision.shares() == {"m": {"1": 1.0}}


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (CannotListen("cannot listen on port 1", "another"), "cannot listen on port 1; next: another"),
        (Serving(1, {}, [Problem("m", "1", "broken", "mend it")]), "cannot serve m@1: broken; next: mend it"),
        (Serving(1, {}, []), "was not loaded within"),
    ],
)
def test_start_tells_why_it_cannot(supervision, message, complaint):
    supervision._start_processes = lambda: say(supervision, message)

    with pytest.raises(ServeError, match=complaint):
        supervision.start("m", one())


def test_a_problem_of_an_earlier_plan_does_not_count(supervision):
    supervision.send_plan("m", one())
    say(supervision, Serving(1, {}, [Problem("m", "1", "broken", "mend it")]))
    supervision.send_plan("m", ModelPlan({"2": "/2"}, {"2": 1.0}))

    assert not supervision.wait_until(lambda _: False, lambda _: True, 0.0)


def test_a_version_never_changes_its_content(supervision):
    supervision.send_plan("m", one())
    supervision.send_plan("m", ModelPlan({"2": "/2"}, {"2": 1.0}))

    with pytest.raises(ConfigError, match="version 1 of m was served from /1, found /other"):
        supervision.send_plan("m", one("/other"))


def test_without_a_front_nothing_is_served(supervision, caplog):
    say(supervision, Serving(0, {"m": {"1": 1.0}}, []))

    supervision._on_front(Exited(FRONT, 1, None, 9, None))

    assert supervision.shares() == {}
    assert "signal 9" in caplog.text


@pytest.mark.parametrize("failure", [None, "disk full"])
def test_sync_returns_when_the_front_has_answered(supervision, failure):
    supervision._front.send = lambda rank, message: say(supervision, Synced(read_for_front(message).number, failure))

    if failure is None:
        supervision.sync(1.0)
    else:
        with pytest.raises(ServeError, match=failure):
            supervision.sync(1.0)


def test_sync_does_not_wait_for_ever(supervision):
    with pytest.raises(ServeError, match="did not sync"):
        supervision.sync(0.0)


def test_processes_get_a_folder_that_is_theirs(supervision, tmp_path):
    assert supervision._folder == Path(tmp_path)


def test_two_plans_arrive_in_the_order_of_their_generations(supervision):
    arrived = []
    other = threading.Thread(target=supervision.send_plan, args=("m", ModelPlan({"2": "/2"}, {"2": 1.0})))

    def send(rank, message):
        if other.ident is None:
            other.start()
            # Long enough to overtake, if that were possible.
            other.join(0.1)
        arrived.append(read_for_front(message).generation)

    supervision._front.send = send
    supervision.send_plan("m", one())
    other.join()

    assert arrived == [1, 2]


def test_a_start_that_took_too_long_tells_what_the_processes_wrote(supervision, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "replica-0.log").write_text("reading a large file\n")

    with pytest.raises(ServeError, match=r"was not loaded within 0\.05 s\nreplica-0 wrote last:\nreading a large file"):
        supervision.start("m", one())


def test_shares_in_another_order_are_not_the_plan(supervision):
    supervision._plan = Plan(1, {"m": ModelPlan({"1": "/1", "2": "/2"}, {"2": 0.5, "1": 0.5})})

    say(supervision, Serving(1, {"m": {"1": 0.5, "2": 0.5}}, []))

    assert not supervision._is_reached()
