"""Explaining tells what a run would do and why, and does nothing."""

from shoal.flow import flow, step

_calls = []


@step
def first(x):
    _calls.append(x)
    return x


@step
def second(value, y):
    return value + y


@step(memo=False)
def third(value):
    return value


@flow
def three(x, y):
    return third(second(first(x), y))


def _plan(store, **inputs):
    return [(plan.name, plan.reused, plan.reasons) for plan in three.explain(store=store, **inputs)]


def test_before_the_first_run_there_are_no_results(store):
    _calls.clear()

    assert _plan(store, x=1, y=2) == [
        ("first", False, ("it has no result yet",)),
        ("second", False, ("input value comes from first, which runs",)),
        ("third", False, ("input value comes from second, which runs",)),
    ]
    assert _calls == []


def test_after_a_run_its_results_are_reused(store):
    three.run(store=store, x=1, y=2)

    assert _plan(store, x=1, y=2) == [
        ("first", True, ()),
        ("second", True, ()),
        ("third", False, ("it is not memoised",)),
    ]


def test_what_changed_is_named(store):
    three.run(store=store, x=1, y=2)

    assert _plan(store, x=1, y=3)[1] == ("second", False, ("input y changed",))


def test_a_step_that_would_fail_is_told(store):
    assert "generator" in _plan(store, x=(i for i in ()), y=1)[0][2][0]


def test_the_changed_code_is_named(project, store):
    source = "from shoal.flow import flow, step\nRATE = 1\n@step\ndef work():\n    return RATE\n"
    source += "@flow\ndef working():\n    return work()\n"
    project("steps", steps=source).working.run(store=store)

    (plan,) = project("steps", steps=source.replace("RATE = 1", "RATE = 2")).working.explain(store=store)

    assert plan.reasons == ("steps.RATE changed",)
