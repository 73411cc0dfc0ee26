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
    from shoal.train.batch_size.settings import AdaptiveBatch as AdaptiveBatch
    from shoal.train.callbacks import Callback as Callback
    from shoal.train.callbacks import Moment as Moment
    from shoal.train.checkpoint import Checkpoint as Checkpoint
    from shoal.train.checkpoint import open_checkpoint as open_checkpoint
    from shoal.train.collective import Collective as Collective
    from shoal.train.early_stopping import EarlyStopping as EarlyStopping
    from shoal.train.journal import Progress as Progress
    from shoal.train.metrics import Mean as Mean
    from shoal.train.metrics import Metric as Metric
    from shoal.train.metrics import accuracy as accuracy
    from shoal.train.observing.breakdown import Part as Part
    from shoal.train.observing.breakdown import breakdown as breakdown
    from shoal.train.observing.live import Live as Live
    from shoal.train.observing.live import live as live
    from shoal.train.replaying import Replay as Replay
    from shoal.train.replaying import replay as replay
    from shoal.train.schedules import Schedule as Schedule
    from shoal.train.session import Result as Result
    from shoal.train.task import Task as Task
    from shoal.train.training import fit as fit
    from shoal.train.training import resume as resume

__all__ = [
    "AdaptiveBatch",
    "Callback",
    "Checkpoint",
    "Collective",
    "EarlyStopping",
    "GlobalBatch",
    "Group",
    "Live",
    "Mean",
    "Metric",
    "Moment",
    "Part",
    "PeerLostError",
    "Position",
    "Progress",
    "Replay",
    "Result",
    "Schedule",
    "Stepper",
    "Strategy",
    "Task",
    "TrainState",
    "accuracy",
    "breakdown",
    "fit",
    "live",
    "open_checkpoint",
    "replay",
    "resume",
]

__getattr__ = lazy_face(
    __name__,
    {
        "AdaptiveBatch": "batch_size.settings",
        "Callback": "callbacks",
        "Checkpoint": "checkpoint",
        "Collective": "collective",
        "EarlyStopping": "early_stopping",
        "GlobalBatch": "base",
        "Group": "base",
        "Live": "observing.live",
        "Mean": "metrics",
        "Metric": "metrics",
        "Moment": "callbacks",
        "Part": "observing.breakdown",
        "PeerLostError": "base",
        "Position": "base",
        "Progress": "journal",
        "Replay": "replaying",
        "Result": "session",
        "Schedule": "schedules",
        "Stepper": "base",
        "Strategy": "base",
        "Task": "task",
        "TrainState": "base",
        "accuracy": "metrics",
        "breakdown": "observing.breakdown",
        "fit": "training",
        "live": "observing.live",
        "open_checkpoint": "checkpoint",
        "replay": "replaying",
        "resume": "training",
    },
)
