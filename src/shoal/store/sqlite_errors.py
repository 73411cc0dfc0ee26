"""What SQLite's errors mean for a user of the store."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shoal.base import ConflictError, CorruptError, ShoalError, StorageFullError

# A writer holds the file for milliseconds; whoever waits this long has met a stuck process, not a busy one.
BUSY_TIMEOUT_S = 30.0


@contextmanager
def report_sqlite_errors(path: Path, *, wrapped_in: type[Exception] = sqlite3.Error) -> Iterator[None]:
    """Turn what goes wrong in the block into shoal's errors, where they say more; others pass as they are.

    Args:
        path: the database, for the message.
        wrapped_in: SQLAlchemy's error where its calls are in the block; the driver's own is its attribute `orig`.

    Raises:
        StorageFullError: no room.
        ConflictError: another process kept the database to itself for `BUSY_TIMEOUT_S`.
        CorruptError: the file is damaged or no database.
    """
    try:
        yield
    except wrapped_in as error:
        if (known := _translate(getattr(error, "orig", error), path)) is None:
            raise
        raise known from error


def _translate(error: object, path: Path) -> ShoalError | None:
    # The low byte is the primary code; the rest tells kinds of it apart.
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StorageFullError(
            f"cannot write {path}: the disk is full; nothing was written", next_step=f"free space in {path.parent}"
        )
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return ConflictError(
            f"cannot use {path}: another process has kept it locked for {BUSY_TIMEOUT_S:.0f} s",
            next_step="find the stuck process and stop it, then try again",
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return CorruptError(
            f"cannot read the store {path}: {error}", next_step="restore the file from a copy, or name another store"
        )
    return None
