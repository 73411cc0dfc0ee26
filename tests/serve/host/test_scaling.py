from dataclasses import replace

import pytest

from shoal.serve.host.scaling import LoadWatch, ScalingState, decide
from shoal.serve.links.messages import Pulse

CALM = ScalingState(
    least=1,
    most=8,
    replicas=2,
    able=2,
    utilisation=0.5,
    num_open=1,
    pressed_s=0.0,
    roomy_s=0.0,
    idle_s=0.0,
    sleep_after_s=60.0,
)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, 2),
        ({"pressed_s": 0.5, "utilisation": 1.0}, 2),
        ({"pressed_s": 1.0, "utilisation": 1.0}, 3),
        ({"pressed_s": 1.0, "utilisation": 1.0, "replicas": 6, "able": 6}, 8),
        # Requests wait although replicas are not that busy, as when they come in bunches.
        ({"pressed_s": 1.0, "utilisation": 0.3}, 3),
        # What was started before cannot help yet.
        ({"pressed_s": 9.0, "utilisation": 1.0, "able": 1}, 2),
        ({"roomy_s": 29.0}, 2),
        ({"roomy_s": 30.0}, 1),
        ({"roomy_s": 30.0, "least": 2}, 2),
        ({"replicas": 1, "able": 1, "roomy_s": 99.0}, 1),
        ({"replicas": 9, "able": 9}, 8),
        ({"replicas": 1, "least": 3}, 3),
    ],
)
def test_replicas_follow_the_load(changes, wanted):
    assert decide(replace(CALM, **changes)) == wanted


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"idle_s": 59.0}, 1),
        ({"idle_s": 60.0}, 0),
        ({"idle_s": 60.0, "num_open": 1}, 1),
        ({"idle_s": 60.0, "least": 1}, 1),
        # What was woken for a new version must load it first.
        ({"idle_s": 60.0, "able": 0}, 1),
        ({"replicas": 0, "able": 0, "idle_s": 999.0}, 0),
        ({"replicas": 0, "able": 0, "num_open": 1}, 1),
        # The cold start is under way.
        ({"replicas": 1, "able": 0, "num_open": 500, "pressed_s": 5.0}, 1),
    ],
)
def test_a_server_may_sleep_until_somebody_asks(changes, wanted):
    asleep = replace(CALM, least=0, num_open=0, replicas=1, able=1, utilisation=0.0)

    assert decide(replace(asleep, **changes)) == wanted


@pytest.fixture
def watch():
    return LoadWatch(least=0, most=4, target_s=0.01, sleep_after_s=60.0)


def pulse(busy_s=0.0, *, wait_s=0.0, num_open=0, num_able=2):
    return Pulse(busy_s, wait_s, num_open, num_able)


def test_utilisation_is_of_all_fronts_over_all_replicas(watch):
    for second in range(30):
        state = watch.look({0: pulse(0.4 * second), 1: pulse(0.8 * second)}, 2, 1.0)

    assert state.utilisation == pytest.approx(0.6, abs=0.01)
    assert (state.pressed_s, state.roomy_s, state.idle_s) == (0.0, 0.0, 0.0)


def test_pressure_must_last(watch):
    for _ in range(3):
        watch.look({0: pulse(wait_s=0.05, num_open=9)}, 2, 0.5)
    state = watch.look({0: pulse(wait_s=0.05, num_open=9)}, 2, 0.5)

    assert state.pressed_s == 2.0
    assert watch.look({0: pulse(num_open=9)}, 2, 0.5).pressed_s == 0.0


def test_a_front_that_was_started_again_counts_from_zero(watch):
    watch.look({0: pulse(100.0)}, 2, 0.5)

    assert watch.look({0: pulse(0.0)}, 2, 0.5).utilisation < 1.0


def test_idle_ends_with_the_first_request(watch):
    idle = watch.look({0: pulse()}, 1, 70.0)

    assert idle.idle_s == 70.0
    assert watch.look({0: pulse(num_open=1)}, 1, 0.5).idle_s == 0.0


def test_a_change_begins_a_new_count(watch):
    watch.look({0: pulse()}, 3, 100.0)
    watch.note_change()

    state = watch.look({0: pulse()}, 2, 0.5)

    assert (state.roomy_s, state.idle_s) == (0.5, 0.5)


def test_load_that_comes_and_goes_makes_few_changes(watch):
    busy_s, replicas, changes = 0.0, 1, []
    for second in range(600):
        # Twenty seconds of work for two replicas, twenty of none.
        busy_s += min(1.9, replicas) if second % 40 < 20 else 0.0
        waits = 0.5 if second % 40 < 20 and replicas < 2 else 0.0
        wanted = decide(watch.look({0: pulse(busy_s, wait_s=waits, num_able=replicas)}, replicas, 1.0))
        if wanted != replicas:
            watch.note_change()
            changes.append(second)
        replicas = wanted

    assert len(changes) <= 2
