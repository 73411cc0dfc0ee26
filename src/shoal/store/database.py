"""The SQLite file behind a store: transactions for many threads and processes, and the group commit."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from shoal.base import ConflictError
from shoal.store.group_commit import GroupCommit
from shoal.store.sqlite_errors import BUSY_TIMEOUT_S, report_sqlite_errors


class Database:
    """One open database file; all methods are safe from any thread.

    Writers take turns: threads by a lock, processes by SQLite's. Readers see the last commit and wait for nobody.
    A commit survives the death of any process at once, and a power cut after the next group commit, or at once where
    `write(durable=True)` is asked for.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = _make_engine(path)
        self._writer = self._engine.execution_options(shoal_writes=True)
        # SQLite lets a second writer sleep and try again; between threads a lock hands over without the sleep.
        self._turn = threading.Lock()
        self._group_commit = GroupCommit(self.sync)
        self._closed = False

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database until the block ends."""
        self._check_open()
        with report_sqlite_errors(self._path, wrapped_in=DBAPIError), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[Connection]:
        """Give a connection whose writes all happen when the block ends, or none of them if it raises.

        Raises:
            ConflictError: another process kept the database to itself for 30 s.
            StorageFullError: no room; nothing was written.
        """
        self._check_open()
        with report_sqlite_errors(self._path, wrapped_in=DBAPIError), self._turn, self._writer.begin() as connection:
            yield connection
        if durable:
            self.sync()
        else:
            self._group_commit.soon()

    def sync(self) -> None:
        """Make every commit so far survive a power cut.

        In WAL mode a commit is complete once its frames are in the log file, and that file is only written to the disk
        at a checkpoint unless someone asks; asking by `synchronous=FULL` would do it at every single commit.
        """
        try:
            descriptor = os.open(f"{self._path}-wal", os.O_RDONLY)
        except FileNotFoundError:
            return  # the last checkpoint has moved everything into the database and synced that
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Finish the group commit and close all connections."""
        if not self._closed:
            self._closed = True
            try:
                self._group_commit.close()
            finally:
                self._engine.dispose()

    def _check_open(self) -> None:
        if self._closed:
            raise ConflictError(f"cannot use the store {self._path}: it was closed", next_step="open it again")


def _make_engine(path: Path) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": BUSY_TIMEOUT_S},
        pool_size=8,
        max_overflow=-1,  # a thread that writes inside another's read must never wait for a connection
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: sqlite3.Connection, _record: object) -> None:
    # The driver would begin transactions by itself, and too late to hold the write lock from the first read on.
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    # IMMEDIATE: a transaction that reads first and then writes would otherwise fail when another wrote in between.
    writes = connection.get_execution_options().get("shoal_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
