"""A graph is built from calls in order, and a pending result can be handed on and nothing else."""

import operator
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from shoal.base import InputError
from shoal.flow.graph import Graph, active_graph, filled, pendings, recording
from shoal.flow.steps import step


@step
def one():
    return 1


@step
def take(value):
    return value


@dataclass(frozen=True)
class Pair:
    left: object
    right: object


class Named(NamedTuple):
    left: object
    right: object


@pytest.fixture
def graph():
    graph = Graph()
    with recording(graph):
        yield graph


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: [1, x],
        lambda x: (x, 2),
        lambda x: {"a": {"b": [x]}},
        lambda x: Pair(1, x),
        lambda x: Named(x, 1),
    ],
    ids=["alone", "list", "tuple", "dict", "dataclass", "named tuple"],
)
def test_a_result_is_found_and_filled_in_wherever_it_stands(graph, wrap):
    pending = one()
    take(wrap(pending))

    assert graph.nodes[1].needs == (0,)
    assert [found.index for found in pendings(wrap(pending))] == [0]
    assert filled(wrap(pending), lambda index: f"result {index}") == wrap("result 0")


def test_a_step_called_often_is_numbered(graph):
    one()
    take(1)
    take(2)

    assert graph.names() == ["one", "take[0]", "take[1]"]


@pytest.mark.parametrize(
    "look",
    [
        *(bool, iter, len, operator.index, float),
        *(lambda x: x["a"], lambda x: x.name, lambda x: x + 1, lambda x: 1 + x, lambda x: x < 1, lambda x: 1 in x),
    ],
)
def test_looking_into_a_result_says_what_to_do(graph, look):
    with pytest.raises(InputError, match="cannot look into the result of step 'one' while the flow is built") as caught:
        look(one())

    assert "hand it to another step" in caught.value.next_step


def test_outside_of_recording_there_is_no_graph():
    assert active_graph() is None
