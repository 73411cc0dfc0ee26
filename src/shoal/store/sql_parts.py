"""The parts of the SQL store, put together; importing this file loads the database library."""

from pathlib import Path

from shoal.base import Clock, LocalBlobs
from shoal.store.alerts import SqlAlerts
from shoal.store.artifacts import SqlArtifacts
from shoal.store.database import Database
from shoal.store.labels import SqlLabels
from shoal.store.lineage import SqlLineage
from shoal.store.memo import SqlMemo
from shoal.store.metrics import SqlMetrics
from shoal.store.models import SqlModels
from shoal.store.runs import SqlRuns


class SqlParts:
    """Everything that talks to one database."""

    def __init__(self, path: Path, *, home: Path, clock: Clock) -> None:
        self.database = Database(path)
        self.artifacts = SqlArtifacts(self.database, blobs=LocalBlobs(home / "artifacts"), clock=clock)
        self.lineage = SqlLineage(self.database, clock=clock)
        self.runs = SqlRuns(self.database, home=home, link=self.lineage.link, clock=clock)
        self.metrics = SqlMetrics(self.database)
        self.models = SqlModels(self.database, artifacts=self.artifacts, clock=clock)
        self.alerts = SqlAlerts(self.database, clock=clock)
        self.memo = SqlMemo(self.database, clock=clock)
        self.labels = SqlLabels(self.database, clock=clock)

    def close(self) -> None:
        """Close the open runs, then the database, whatever the runs answer."""
        try:
            self.runs.close()
        finally:
            self.database.close()
