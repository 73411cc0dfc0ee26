import sqlite3
from contextlib import closing

import pytest

from shoal.base import ConflictError, CorruptError
from shoal.store.sqlite_errors import report_sqlite_errors


def test_damaged_file_is_corrupt(tmp_path):
    path = tmp_path / "store.db"
    path.write_bytes(b"this was never a database" * 100)

    connection = sqlite3.connect(path)
    with pytest.raises(CorruptError, match=r"store\.db.*not a database"), report_sqlite_errors(path):
        connection.execute("SELECT * FROM runs")
    connection.close()


def test_locked_file_is_a_conflict(tmp_path):
    path = tmp_path / "store.db"

    with closing(sqlite3.connect(path)) as first, closing(sqlite3.connect(path, timeout=0)) as second:
        first.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConflictError, match="kept it locked"), report_sqlite_errors(path):
            second.execute("BEGIN IMMEDIATE")


def test_our_own_mistakes_pass_unchanged(tmp_path):
    connection = sqlite3.connect(":memory:")
    with pytest.raises(sqlite3.OperationalError, match="syntax"), report_sqlite_errors(tmp_path):
        connection.execute("SELEKT")
    connection.close()


def test_error_inside_a_wrapper_is_found(tmp_path):
    class WrappedError(Exception):
        orig = sqlite3.OperationalError("database or disk is full")

    WrappedError.orig.sqlite_errorcode = sqlite3.SQLITE_FULL

    with pytest.raises(OSError, match="disk is full"), report_sqlite_errors(tmp_path, wrapped_in=WrappedError):
        raise WrappedError
