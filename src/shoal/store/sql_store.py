"""The store on SQL: its parts are made at the first use, so that opening loads no database library."""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from shoal.base import Clock, ConflictError

if TYPE_CHECKING:
    from shoal.store.base import Alerts, Artifacts, Labels, Lineage, Memo, Metrics, Models, Runs
    from shoal.store.records import Change
    from shoal.store.sql_parts import SqlParts


class SqlStore:
    """The interface `Store` on one SQLite file and the home folder around it."""

    def __init__(self, path: Path, *, home: Path, clock: Clock) -> None:
        self._path = path
        self._home = home
        self._clock = clock
        self._lock = threading.Lock()
        self._made: SqlParts | None = None
        self._closed = False

    @property
    def home(self) -> Path:
        """The folder that holds runs and artifacts."""
        return self._home

    @property
    def url(self) -> str:
        """What `shoal.store.open` takes to open the same store."""
        return f"sqlite:///{self._path}"

    @property
    def runs(self) -> "Runs":
        """The runs."""
        return self._parts.runs

    @property
    def metrics(self) -> "Metrics":
        """The runs' curves."""
        return self._parts.metrics

    @property
    def artifacts(self) -> "Artifacts":
        """Content by digest."""
        return self._parts.artifacts

    @property
    def lineage(self) -> "Lineage":
        """What came from what."""
        return self._parts.lineage

    @property
    def models(self) -> "Models":
        """The registry."""
        return self._parts.models

    @property
    def alerts(self) -> "Alerts":
        """The alerts."""
        return self._parts.alerts

    @property
    def memo(self) -> "Memo":
        """Kept results of steps."""
        return self._parts.memo

    @property
    def labels(self) -> "Labels":
        """Labels of predictions."""
        return self._parts.labels

    def changes(self, since: int) -> "Iterator[Change]":
        """What happened after sequence number `since`, in commit order, up to now."""
        from shoal.store.changes import read_changes

        return read_changes(self._parts.database, since)

    def last_change(self) -> int:
        """The newest sequence number, 0 in a new store."""
        from shoal.store.changes import last_change

        return last_change(self._parts.database)

    def close(self) -> None:
        """Flush open runs and let go of the files."""
        with self._lock:
            self._closed = True
            made, self._made = self._made, None
        if made is not None:
            made.close()

    @property
    def _parts(self) -> "SqlParts":
        # Read without the lock first: it is asked for at every call, and never changes back before `close`.
        made = self._made
        if made is not None:
            return made
        with self._lock:
            if self._closed:
                raise ConflictError(f"cannot use the store {self._path}: it was closed", next_step="open it again")
            if self._made is None:
                from shoal.store.sql_parts import SqlParts

                self._made = SqlParts(self._path, home=self._home, clock=self._clock)
            return self._made

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
