import pytest

from shoal.serve.links.messages import (
    CannotListen,
    Configure,
    Listening,
    ModelPlan,
    Plan,
    Problem,
    Serving,
    Sync,
    Synced,
    Wish,
    WishDone,
    encode_message,
    read_for_front,
    read_from_front,
)

PLAN = Plan(3, {"m": ModelPlan({"1": "/1", "2": "/2"}, {"2": 0.8, "1": 0.2})})


@pytest.mark.parametrize("message", [Configure(0, "key", PLAN), PLAN, Sync(4), WishDone("a1", 404, "no", "look")])
def test_the_front_reads_what_the_supervisor_wrote(message):
    assert read_for_front(encode_message(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        Listening(8080),
        CannotListen("taken", "another"),
        Serving(3, {"m": {"2": 1.0}}, [Problem("m", "1", "broken", "mend it")]),
        Synced(4, "full"),
        Wish("a1", "load", "m"),
    ],
)
def test_the_supervisor_reads_what_the_front_wrote(message):
    assert read_from_front(encode_message(message)) == message


def test_the_main_version_stays_first_on_the_way():
    assert list(read_for_front(encode_message(PLAN)).models["m"].shares) == ["2", "1"]
