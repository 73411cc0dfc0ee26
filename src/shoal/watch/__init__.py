"""Watching a served model: drift of its traffic by exact profiles, alerts, late labels and the accuracy they show."""

from typing import TYPE_CHECKING

from shoal.base import lazy_face

if TYPE_CHECKING:
    from shoal.watch.alerts import Action as Action
    from shoal.watch.alerts import AlertPolicy as AlertPolicy
    from shoal.watch.alerts import AlertState as AlertState
    from shoal.watch.alerts import decide as decide
    from shoal.watch.comparison import ColumnDrift as ColumnDrift
    from shoal.watch.comparison import DriftReport as DriftReport
    from shoal.watch.comparison import compare as compare
    from shoal.watch.following import Watcher as Watcher
    from shoal.watch.following import Window as Window
    from shoal.watch.labels import label as label
    from shoal.watch.labels import label_many as label_many
    from shoal.watch.quality import Quality as Quality
    from shoal.watch.quality import accuracy as accuracy
    from shoal.watch.quality import accuracy_by_version as accuracy_by_version
    from shoal.watch.quality import labelled_rows as labelled_rows

__all__ = [
    "Action",
    "AlertPolicy",
    "AlertState",
    "ColumnDrift",
    "DriftReport",
    "Quality",
    "Watcher",
    "Window",
    "accuracy",
    "accuracy_by_version",
    "compare",
    "decide",
    "label",
    "label_many",
    "labelled_rows",
]
__getattr__ = lazy_face(
    __name__,
    {
        "Action": "alerts",
        "AlertPolicy": "alerts",
        "AlertState": "alerts",
        "ColumnDrift": "comparison",
        "DriftReport": "comparison",
        "Quality": "quality",
        "Watcher": "following",
        "Window": "following",
        "accuracy": "quality",
        "accuracy_by_version": "quality",
        "compare": "comparison",
        "decide": "alerts",
        "label": "labels",
        "label_many": "labels",
        "labelled_rows": "quality",
    },
)
