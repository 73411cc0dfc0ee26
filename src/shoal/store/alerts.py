"""Alerts in one table."""

from collections.abc import Mapping

from sqlalchemy import Row, insert, select, update

from shoal.base import Clock, Json, NotFoundError, decode, encode
from shoal.store.changes import tell
from shoal.store.database import Database
from shoal.store.records import Alert
from shoal.store.schema import alerts
from shoal.store.times import from_us, to_us


class SqlAlerts:
    """The interface `Alerts` on one table."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def record(self, kind: str, subject: str, fields: Mapping[str, Json]) -> Alert:
        """Open an alert."""
        now = self._clock.now()
        row = {"kind": kind, "subject": subject, "fields": encode(fields).decode(), "opened_us": to_us(now)}
        with self._database.write() as connection:
            created = connection.execute(insert(alerts).returning(alerts), row).one()
            tell(connection, "alert.opened", subject, {"id": created.id, "kind": kind}, now)
        return _alert(created)

    def close(self, id: int) -> Alert:
        """Close it; NotFoundError if there is none of this number."""
        now = self._clock.now()
        with self._database.write() as connection:
            row = connection.execute(select(alerts).where(alerts.c.id == id)).first()
            if row is None:
                raise NotFoundError(
                    f"cannot close alert {id}: there is none", next_step="list them: store.alerts.list()"
                )
            if row.closed_us is None:
                change = update(alerts).where(alerts.c.id == id).values(closed_us=to_us(now)).returning(alerts)
                row = connection.execute(change).one()
                tell(connection, "alert.closed", row.subject, {"id": id, "kind": row.kind}, now)
        return _alert(row)

    def list(self, subject: str | None = None, limit: int = 100) -> list[Alert]:
        """The newest first, open and closed."""
        query = select(alerts).order_by(alerts.c.id.desc()).limit(limit)
        if subject is not None:
            query = query.where(alerts.c.subject == subject)
        with self._database.read() as connection:
            return [_alert(row) for row in connection.execute(query)]


def _alert(row: Row[tuple[object, ...]]) -> Alert:
    return Alert(
        id=row.id,
        kind=row.kind,
        subject=row.subject,
        fields=decode(row.fields),
        opened=from_us(row.opened_us),
        closed=None if row.closed_us is None else from_us(row.closed_us),
    )
