"""The change stream: one line per change, written in the transaction of what it tells."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from sqlalchemy import Connection, Row, func, insert, select

from shoal.base import Json, decode, encode
from shoal.store.database import Database
from shoal.store.records import Change, ChangeKind
from shoal.store.schema import changes
from shoal.store.times import from_us, to_us

_PAGE_ROWS = 1000


def tell(connection: Connection, kind: ChangeKind, subject: str, fields: Mapping[str, Json], time: datetime) -> None:
    """Append a line within the caller's transaction; writers take turns, so numbers grow in commit order."""
    row = {"kind": kind, "subject": subject, "fields": encode(fields).decode(), "time_us": to_us(time)}
    connection.execute(insert(changes), row)


def read_changes(database: Database, since: int) -> Iterator[Change]:
    """Yield the lines after number `since`, page by page, so that no transaction stays open while the caller works."""
    query = select(changes).where(changes.c.sequence > since).order_by(changes.c.sequence).limit(_PAGE_ROWS)
    while True:
        with database.read() as connection:
            rows = connection.execute(query).all()
        yield from map(_change, rows)
        if len(rows) < _PAGE_ROWS:
            return
        since = rows[-1].sequence
        query = query.where(changes.c.sequence > since)


def last_change(database: Database) -> int:
    """The newest line's number; 0 when there is none."""
    with database.read() as connection:
        return connection.execute(select(func.max(changes.c.sequence))).scalar() or 0


def _change(row: Row[tuple[object, ...]]) -> Change:
    return Change(
        sequence=row.sequence,
        kind=row.kind,
        subject=row.subject,
        fields=decode(row.fields),
        time=from_us(row.time_us),
    )
