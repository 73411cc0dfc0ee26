"""Plain functions joined into a graph: memoised by what they depend on, run in parallel, resumed after any death."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.base import File as File
    from shoal.flow.flows import Flow as Flow
    from shoal.flow.flows import flow as flow
    from shoal.flow.outcome import FlowRun as FlowRun
    from shoal.flow.outcome import StepOutcome as StepOutcome
    from shoal.flow.outcome import StepPlan as StepPlan
    from shoal.flow.steps import Step as Step
    from shoal.flow.steps import step as step

__all__ = ["File", "Flow", "FlowRun", "Step", "StepOutcome", "StepPlan", "flow", "step"]

__getattr__ = lazy_face(
    __name__,
    {
        "File": "handles",
        "Flow": "flows",
        "FlowRun": "outcome",
        "Step": "steps",
        "StepOutcome": "outcome",
        "StepPlan": "outcome",
        "flow": "flows",
        "step": "steps",
    },
)
