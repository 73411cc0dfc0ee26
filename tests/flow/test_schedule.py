"""Whatever the graph, every node runs once, after what it needs, within the processors there are."""

from hypothesis import given
from hypothesis import strategies as st

from shoal.flow.definition import Definition
from shoal.flow.graph import Graph
from shoal.flow.schedule import Schedule


def _graph(needs, cpus=None):
    graph = Graph()
    pendings = []
    for index, wanted in enumerate(needs):
        step = Definition(function=_work, cpus=cpus[index] if cpus else 1)
        pendings.append(graph.add(step, {"inputs": [pendings[need] for need in wanted]}))
    return graph.nodes


def _work(inputs):
    return inputs


@st.composite
def graphs(draw):
    size = draw(st.integers(1, 12))
    needs = [draw(st.sets(st.integers(0, max(0, index - 1)), max_size=3)) if index else set() for index in range(size)]
    return [sorted(wanted) for wanted in needs]


@given(graphs(), st.data())
def test_every_node_runs_once_after_its_needs_within_the_processors(needs, data):
    cpus = data.draw(st.lists(st.sampled_from([0.5, 1, 2, 5]), min_size=len(needs), max_size=len(needs)))
    schedule = Schedule(_graph(needs, [*cpus]), capacity=2)
    ahead = 16 if set(cpus) == {1} else 1
    done, running = [], []

    while not schedule.is_over:
        for index in schedule.take_ready():
            schedule.allow(index)
        running += schedule.start()
        assert len(running) == 1 or sum(cpus[index] for index in running) <= 2 * ahead
        index = running.pop(data.draw(st.integers(0, len(running) - 1)))
        assert set(needs[index]) <= set(done)
        schedule.succeed(index)
        done.append(index)

    assert sorted(done) == list(range(len(needs)))


@given(graphs(), st.data())
def test_a_failure_ends_what_needs_it_and_nothing_else(needs, data):
    schedule = Schedule(_graph(needs), capacity=4)
    failing = data.draw(st.integers(0, len(needs) - 1))
    expected = {failing}
    for index, wanted in enumerate(needs):
        if expected & set(wanted):
            expected.add(index)
    done, lost = set(), set()

    while not schedule.is_over:
        for index in schedule.take_ready():
            schedule.allow(index)
        for index in schedule.start():
            if index == failing:
                lost |= set(schedule.fail(index))
            else:
                schedule.succeed(index)
                done.add(index)

    assert lost == expected
    assert done == set(range(len(needs))) - expected


def test_a_result_is_dropped_when_the_last_who_needs_it_has_run():
    schedule = Schedule(_graph([[], [0], [0], [1, 2]]), capacity=4, returned=[3])

    assert [schedule.succeed(index) for index in range(4)] == [[], [], [0], [1, 2]]


def test_a_step_that_wants_more_than_there_is_runs_alone():
    schedule = Schedule(_graph([[], []], [8, 1]), capacity=2)
    for index in schedule.take_ready():
        schedule.allow(index)

    assert schedule.start() == [0]
    schedule.succeed(0)
    assert schedule.start() == [1]


def test_steps_that_take_little_get_more_threads():
    assert Schedule(_graph([[]] * 20, [0.25] * 20), capacity=2).num_threads == 8
    assert Schedule(_graph([[]] * 20), capacity=2).num_threads == 2
    assert Schedule(_graph([]), capacity=2).num_threads == 1
