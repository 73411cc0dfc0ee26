import pytest

from shoal.serve.fronts.picture import forget, pulse_of, serving_of, view_of
from shoal.serve.links.channel import Key, Loaded
from shoal.serve.links.messages import Problem

ONE, OTHER = Key("m", "1"), Key("m", "2")


@pytest.fixture
def busy_house(house):
    link = house.link(1)
    link.busy_s = 0.25
    return house, link


def test_the_view_holds_what_each_replica_has_or_cannot_have(busy_house):
    house, link = busy_house
    link.failed.add(OTHER)

    view = view_of(house.models, house.dispatcher, {Key("m", "3"): 9.0})

    assert view.loaded == {1: {ONE}}
    assert view.asked == {1: {OTHER, Key("m", "3")}}
    assert view.shares == {"m": {"1": 1.0}}


def test_what_nobody_has_or_wants_is_forgotten(busy_house, interface):
    house, _ = busy_house
    house.models.add(Loaded("m", "2", "/2", interface, [(1, 0.001)], "unknown"))

    forget(house.models, house.dispatcher)

    assert house.models.versions.keys() == {ONE}


def test_the_pulse_counts_replicas_that_are_gone_too(busy_house):
    house, _ = busy_house

    pulse = pulse_of(house.dispatcher, 1.5)

    assert (pulse.busy_s, pulse.num_open, pulse.num_able) == (1.75, 0, 1)


def test_the_supervisor_is_told_shares_problems_and_replicas(busy_house):
    house, _ = busy_house
    problem = Problem("m", "2", "broken", "mend it")

    told = serving_of(house.models, house.dispatcher, {"m@2": problem})

    assert told.shares == {"m": {"1": 1.0}}
    assert told.problems == [problem]
    assert told.replicas == [(1, 1)]
