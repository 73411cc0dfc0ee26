"""Brings a store's tables to what this shoal writes; alembic is imported only where there is something to do."""

import sqlite3
from contextlib import closing
from pathlib import Path

from shoal.base import UnsupportedError, file_lock
from shoal.store.sqlite_errors import BUSY_TIMEOUT_S, report_sqlite_errors

# In order; the last is what the code is written for. A test compares the list with the files in `migrations/versions`.
REVISIONS = ("0001", "0002")


def bring_up_to_date(path: Path, *, target: str = REVISIONS[-1]) -> None:
    """Make the database at `path`, or carry an older one forward; a current one costs one plain query.

    Of several processes one does the work and the others wait. It is one transaction: killed in the middle, the store
    is what it was before.

    Raises:
        UnsupportedError: a newer shoal has written this store.
        CorruptError: the file is no database.
    """
    if _is_at(path, target):
        return
    # Asked again under the lock: whoever waited for it finds the work done.
    with file_lock(path.with_name(f".{path.name}.migration.lock")):
        if not _is_at(path, target):
            _migrate(path, target)


def read_revision(path: Path) -> str | None:
    """The schema's revision; None where there is no database, or an empty one."""
    if not path.exists():
        return None
    with report_sqlite_errors(path), closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if found else None
    return str(row[0]) if row else None


def _is_at(path: Path, target: str) -> bool:
    revision = read_revision(path)
    if revision is not None and revision not in REVISIONS:
        raise UnsupportedError(
            f"cannot open the store {path}: its schema is {revision}, this shoal knows up to {REVISIONS[-1]}",
            next_step="upgrade shoal: a newer one has written this store",
        )
    return revision is not None and revision >= target


def _migrate(path: Path, target: str) -> None:
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import URL, NullPool, create_engine, event
    from sqlalchemy.exc import DBAPIError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    engine = create_engine(
        URL.create("sqlite", database=str(path)), poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT_S}
    )
    # Left alone, the driver would commit before each CREATE TABLE and a kill would leave half a schema.
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with report_sqlite_errors(path), closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as plain:
        # The mode belongs to the file, and inside a transaction the change would be ignored without a word.
        plain.execute("PRAGMA journal_mode = WAL")
    with report_sqlite_errors(path, wrapped_in=DBAPIError), engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, target)
