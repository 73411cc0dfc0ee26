"""A run counts what it reused and what it computed."""

from shoal.flow import FlowRun, StepOutcome


def test_outcomes_are_counted():
    outcomes = tuple(
        StepOutcome(name=str(index), key=None, reused=index < 2, seconds=0.0, reason="") for index in range(5)
    )

    run = FlowRun(value=None, outcomes=outcomes)

    assert (run.num_reused, run.num_run) == (2, 3)
