"""Training: a task says what, a strategy says how, a runtime says where, and neither of the last two changes a bit."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.train.base import GlobalBatch as GlobalBatch
    from shoal.train.base import Group as Group
    from shoal.train.base import PeerLostError as PeerLostError
    from shoal.train.base import Position as Position
    from shoal.train.base import Stepper as Stepper
    from shoal.train.base import Strategy as Strategy
    from shoal.train.base import TrainState as TrainState
    from shoal.train.checkpoint import Checkpoint as Checkpoint
    from shoal.train.checkpoint import open_checkpoint as open_checkpoint
    from shoal.train.collective import Collective as Collective
    from shoal.train.journal import Progress as Progress
    from shoal.train.metrics import Mean as Mean
    from shoal.train.metrics import Metric as Metric
    from shoal.train.metrics import accuracy as accuracy
    from shoal.train.session import Result as Result
    from shoal.train.task import Task as Task
    from shoal.train.training import fit as fit
    from shoal.train.training import resume as resume

__all__ = [
    "Checkpoint",
    "Collective",
    "GlobalBatch",
    "Group",
    "Mean",
    "Metric",
    "PeerLostError",
    "Position",
    "Progress",
    "Result",
    "Stepper",
    "Strategy",
    "Task",
    "TrainState",
    "accuracy",
    "fit",
    "open_checkpoint",
    "resume",
]

__getattr__ = lazy_face(
    __name__,
    {
        "Checkpoint": "checkpoint",
        "Collective": "collective",
        "GlobalBatch": "base",
        "Group": "base",
        "Mean": "metrics",
        "Metric": "metrics",
        "PeerLostError": "base",
        "Position": "base",
        "Progress": "journal",
        "Result": "session",
        "Stepper": "base",
        "Strategy": "base",
        "Task": "task",
        "TrainState": "base",
        "accuracy": "metrics",
        "fit": "training",
        "open_checkpoint": "checkpoint",
        "resume": "training",
    },
)
