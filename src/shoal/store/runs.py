"""Runs and their events in SQL tables."""

import os
import platform
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Row, insert, select, update

import shoal
from shoal.base import Clock, Json, Ref, decode, encode
from shoal.store.changes import tell
from shoal.store.database import Database
from shoal.store.metrics import write_points
from shoal.store.recording import Run
from shoal.store.records import MetricPoint, RunEnd, RunEvent, RunRecord
from shoal.store.run_ids import check_run, run_id, run_number
from shoal.store.schema import run_events, runs
from shoal.store.times import from_us, to_us


class SqlRuns:
    """The interface `Runs` on SQL tables, and the sink of the runs it starts."""

    def __init__(self, database: Database, *, home: Path, link: Callable[[Ref, Ref, str], None], clock: Clock) -> None:
        self._database = database
        self._folder = home / "runs"
        self._link = link
        self._clock = clock
        self._lock = threading.Lock()
        # Held until closed, so that a run whose variable is gone still writes its last points.
        self._open: set[Run] = set()

    def start(
        self,
        *,
        kind: str,
        name: str,
        config: Json,
        code: str | None = None,
        dataset: Ref | None = None,
        parent: str | None = None,
        environment: Mapping[str, Json] | None = None,
    ) -> Run:
        """Begin a run under the next number and make its folder."""
        now = self._clock.now()
        row = {
            "kind": kind,
            "name": name,
            "status": "running",
            "config": encode(config).decode(),
            "code": code,
            "dataset": None if dataset is None else encode(dataset).decode(),
            "environment": encode({**_environment(), **(environment or {})}).decode(),
            "started_us": to_us(now),
        }
        with self._database.write() as connection:
            row["parent"] = None if parent is None else check_run(connection, parent)
            created = connection.execute(insert(runs), row).inserted_primary_key
            assert created is not None
            id = run_id(created[0])
            tell(connection, "run.started", id, {"kind": kind, "name": name}, now)
            # Before the commit: whoever sees the run finds its folder.
            self._place(id).mkdir(parents=True, exist_ok=True)
        return self._record(id)

    def resume(self, id: str) -> Run:
        """Take up a run again under its own number."""
        now = self._clock.now()
        with self._database.write() as connection:
            number = check_run(connection, id)
            again = {"status": "running", "finished_us": None, "error": None}
            connection.execute(update(runs).where(runs.c.number == number), again)
            tell(connection, "run.resumed", id, {}, now)
            self._place(id).mkdir(parents=True, exist_ok=True)
        return self._record(id)

    def get(self, id: str) -> RunRecord:
        """The run's record."""
        with self._database.read() as connection:
            number = check_run(connection, id)
            return _run_record(connection.execute(select(runs).where(runs.c.number == number)).one())

    def events(self, id: str) -> list[RunEvent]:
        """What happened in the run, in order."""
        query = select(run_events).where(run_events.c.run == run_number(id)).order_by(run_events.c.sequence)
        with self._database.read() as connection:
            check_run(connection, id)
            rows = connection.execute(query).all()
        return [RunEvent(run=id, kind=row.kind, fields=decode(row.fields), time=from_us(row.time_us)) for row in rows]

    def list(self, kind: str | None = None, status: str | None = None, limit: int = 100) -> list[RunRecord]:
        """The newest runs first."""
        query = select(runs).order_by(runs.c.number.desc()).limit(limit)
        if kind is not None:
            query = query.where(runs.c.kind == kind)
        if status is not None:
            query = query.where(runs.c.status == status)
        with self._database.read() as connection:
            return [_run_record(row) for row in connection.execute(query)]

    def write(self, run_id: str, notes: Sequence[MetricPoint | RunEvent]) -> None:
        """Write a run's points and events in one transaction."""
        # The run was checked when it began and nothing deletes runs: no look-up on the busiest path of the store.
        points = [note for note in notes if isinstance(note, MetricPoint)]
        events = [note for note in notes if isinstance(note, RunEvent)]
        number = run_number(run_id)
        with self._database.write() as connection:
            write_points(connection, number, points)
            _write_events(connection, number, events)

    def finish(self, run_id: str, status: RunEnd, error: str | None, time: datetime) -> None:
        """Write how the run ended; durable, as nobody will write it again."""
        end = {"status": status, "error": error, "finished_us": to_us(time)}
        with self._database.write(durable=True) as connection:
            connection.execute(update(runs).where(runs.c.number == run_number(run_id)), end)
            tell(connection, "run.finished", run_id, {"status": status}, time)

    def link(self, source: Ref, target: Ref, relation: str) -> None:
        """Write an edge of the lineage."""
        self._link(source, target, relation)

    def forget(self, run: Run) -> None:
        """Let go of a run that was closed."""
        with self._lock:
            self._open.discard(run)

    def close(self) -> None:
        """Flush and close the runs that are still open; their status stays "running"."""
        with self._lock:
            still_open = [*self._open]
        # Outside the lock: closing a run calls back into `forget`.
        for run in still_open:
            run.close()

    def _record(self, id: str) -> Run:
        run = Run(id, self._place(id), sink=self, clock=self._clock)
        with self._lock:
            self._open.add(run)
        return run

    def _place(self, id: str) -> Path:
        return self._folder / id


def _write_events(connection: Connection, number: int, events: Sequence[RunEvent]) -> None:
    rows = [
        {"run": number, "kind": event.kind, "fields": encode(event.fields).decode(), "time_us": to_us(event.time)}
        for event in events
    ]
    if rows:
        connection.execute(insert(run_events), rows)


def _run_record(row: Row[tuple[object, ...]]) -> RunRecord:
    return RunRecord(
        id=run_id(row.number),
        kind=row.kind,
        name=row.name,
        status=row.status,
        config=decode(row.config),
        code=row.code,
        dataset=None if row.dataset is None else decode(row.dataset, type=Ref),
        parent=None if row.parent is None else run_id(row.parent),
        started=from_us(row.started_us),
        finished=None if row.finished_us is None else from_us(row.finished_us),
        error=row.error,
        environment=decode(row.environment),
    )


def _environment() -> dict[str, Json]:
    return {
        "shoal": shoal.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
