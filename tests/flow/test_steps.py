"""A step is the plain function outside a flow, and a node of the graph inside."""

import subprocess
import sys

import pytest

from shoal.base import InputError
from shoal.flow.graph import Graph, Pending, recording
from shoal.flow.steps import Step, step


@step
def double(x, *more, factor=2, **named):
    """Double it."""
    return x * factor


def test_outside_a_flow_a_step_is_its_function():
    assert double(4) == 8
    assert (double.__name__, double.__doc__) == ("double", "Double it.")


def test_inside_a_flow_a_call_is_noted():
    graph = Graph()
    with recording(graph):
        result = double(4, 5, factor=3, other=6)

    assert isinstance(result, Pending)
    assert graph.nodes[0].arguments == {"x": 4, "more": (5,), "factor": 3, "named": {"other": 6}}


def test_a_call_that_does_not_fit_names_the_signature():
    with recording(Graph()), pytest.raises(InputError, match=r"missing a required argument: 'x'.*double\(x"):
        double()


def test_settings_are_taken():
    @step(memo=False, cpus=2, version="b", ignore=["x"])
    def set_up(x):
        return x

    taken = set_up.definition
    assert isinstance(set_up, Step)
    assert (taken.memo, taken.cpus, taken.version, taken.ignore) == (False, 2, "b", frozenset({"x"}))


def test_defining_steps_loads_no_weight():
    program = "import sys; from shoal.flow import File, flow, step; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert not {"torch", "sqlalchemy", "alembic", "numpy", "pyarrow", "shoal.flow.engine"} & set(loaded)
