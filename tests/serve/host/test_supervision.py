import socket
import threading
from pathlib import Path

import pytest

from shoal.base import ConfigError, ServeError
from shoal.runtime import Exited, Member, Report, Started
from shoal.serve.host.course import Outcome
from shoal.serve.host.settings import ServeSettings
from shoal.serve.host.supervision import Supervision
from shoal.serve.links.messages import (
    CannotListen,
    Configure,
    Listening,
    ModelPlan,
    Problem,
    Pulse,
    Serving,
    Synced,
    Wish,
    WishDone,
    encode_message,
    read_for_front,
)

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


def say(supervision, *messages, rank=0):
    for message in messages:
        supervision._on_front(Report(Member("front", rank), encode_message(message)))


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
    supervision._start_processes = lambda: say(supervision, Listening(4711), Serving(1, {"m": {"1": 1.0}}, []))

    supervision.start({"m": one()})

    assert supervision.shares() == {"m": {"1": 1.0}}


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (CannotListen("cannot listen on port 1", "another"), "cannot listen on port 1; next: another"),
        (Serving(1, {}, [Problem("m", "1", "broken", "mend it")]), "cannot serve m@1: broken; next: mend it"),
        (Serving(1, {}, []), "was not loaded within"),
        (Serving(1, {"m": {"1": 1.0}}, []), "was not loaded within"),
    ],
)
def test_start_tells_why_it_cannot(supervision, message, complaint):
    supervision._start_processes = lambda: say(supervision, message)

    with pytest.raises(ServeError, match=complaint):
        supervision.start({"m": one()})


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
        supervision.start({"m": one()})


@pytest.fixture
def pair(tmp_path):
    """A supervision of two fronts."""
    supervision = Supervision(ServeSettings(port=0, start_s=0.05, fronts=2), None, tmp_path)
    supervision._front = supervision._replicas = Service()
    yield supervision
    supervision.stop()


def reach(supervision, rank, generation=1, version="1"):
    say(supervision, Listening(1), Serving(generation, {"m": {version: 1.0}}, []), rank=rank)


def test_a_start_waits_for_every_front(pair):
    pair._start_processes = lambda: reach(pair, 0)

    with pytest.raises(ServeError, match="was not loaded within"):
        pair.start({"m": one()})


def test_fronts_that_share_a_port_have_it_before_they_start(pair):
    pair._start_processes = lambda: [reach(pair, rank) for rank in (0, 1)]

    pair.start({"m": one()})
    pair._on_front(Started(Member("front", 1), 1))

    assert pair._front.sent[-1].port > 0


def test_a_port_that_cannot_be_reserved_is_a_clear_error(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        supervision = Supervision(ServeSettings(port=port, fronts=2), None, tmp_path)

        with pytest.raises(ServeError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            supervision.start({"m": one()})


def test_waiting_is_for_all_fronts_that_are_there(pair):
    pair.send_plan("m", one())
    reach(pair, 0)
    reach(pair, 1, version="0")
    wanted = {"m": {"1": 1.0}}

    assert not pair.wait_until(lambda shares: shares == wanted, lambda _: True, 0.0)
    pair._on_front(Exited(Member("front", 1), 1, None, 9, None))
    assert pair.wait_until(lambda shares: shares == wanted, lambda _: True, 0.0)


def test_a_sync_waits_for_no_front_that_died(pair):
    for rank in (0, 1):
        reach(pair, rank)

    def send(rank, message):
        if rank == 0:
            say(pair, Synced(read_for_front(message).number, None), rank=0)
        else:
            pair._on_front(Exited(Member("front", 1), 1, None, 9, None))

    pair._front.send = send

    pair.sync(1.0)


def test_a_pulse_is_for_the_keeper(pair):
    say(pair, Pulse(0.0, 0.0, 0, 2), rank=1)

    assert pair._keeper._pulses[1].num_able == 2


def test_wishes_are_handed_on_and_answered(pair):
    heard = []
    wish = Wish("a1", "load", "m")

    say(pair, wish, rank=1)
    pair.on_wish = lambda rank, wish: heard.append((rank, wish))
    say(pair, wish, rank=1)
    pair.answer_wish(1, WishDone("a1", 200))

    assert heard == [(1, wish)]
    assert pair._front.sent[-1] == WishDone("a1", 200)


def test_a_plan_is_waited_for_until_it_is_reached_or_failed_or_too_late(pair):
    def outcome(name, generation, *, is_wanted=True):
        return pair.wait_for_plan(name, generation, is_wanted=is_wanted, timeout_s=0.0)

    planned = pair.send_plan("m", one())

    assert outcome("m", planned) is None
    for rank in (0, 1):
        reach(pair, rank)
    assert outcome("m", planned) == Outcome()
    dropped = pair.drop_plan("m")
    assert outcome("m", dropped, is_wanted=False) is None
    assert outcome("m", planned) == Outcome(is_overtaken=True)
