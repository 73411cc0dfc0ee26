import sqlite3
import threading

import pytest
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from shoal.base import ConflictError, ShoalError, StorageFullError
from shoal.store import database as database_module
from shoal.store.database import Database
from shoal.store.schema import artifacts

ROW = {"digest": "b3:1", "kind": "bytes", "size_bytes": 1, "created_us": 0}


def _insert(connection, *digests):
    for digest in digests:
        connection.execute(insert(artifacts), ROW | {"digest": digest})


def _digests(database):
    with database.read() as connection:
        return list(connection.execute(select(artifacts.c.digest)).scalars())


def test_failed_block_writes_nothing(database):
    with pytest.raises(IntegrityError), database.write() as connection:
        _insert(connection, "b3:1", "b3:2", "b3:1")

    assert _digests(database) == []


def test_file_is_in_wal_mode_with_foreign_keys(database):
    with database.read() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]

    assert settings == ["wal", 1, 1]


def test_reader_sees_one_state_and_does_not_wait_for_a_writer(database):
    with database.read() as reader:
        before = reader.execute(select(artifacts)).all()
        with database.write() as writer:
            writer.execute(insert(artifacts), ROW)
        after = reader.execute(select(artifacts)).all()

    assert before == after == []
    assert _digests(database) == ["b3:1"]


def test_transaction_that_reads_first_never_loses_to_another(database, home):
    """A plain BEGIN would fail to upgrade its read when another process wrote in between."""
    other = Database(home / "store.db")
    order = []

    def write_after_reading(using, digest):
        with using.write() as connection:
            count = len(connection.execute(select(artifacts)).all())
            connection.execute(insert(artifacts), ROW | {"digest": digest, "size_bytes": count})
            order.append(count)

    threads = [
        threading.Thread(target=write_after_reading, args=(using, f"b3:{index}"))
        for index in range(20)
        for using in ((database, other)[index % 2],)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()

    assert order == list(range(20))


def test_stuck_writer_is_reported(database, home, monkeypatch):
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.01)
    impatient = Database(home / "store.db")
    stuck = sqlite3.connect(home / "store.db", isolation_level=None)
    stuck.execute("BEGIN IMMEDIATE")

    with pytest.raises(ConflictError, match="kept it locked"), impatient.write():
        pass

    stuck.close()
    impatient.close()


def test_full_disk_writes_nothing_and_is_reported(database):
    with database.write() as connection:
        num_pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {num_pages}")

    with pytest.raises(StorageFullError, match=r"store\.db"), database.write() as connection:
        _insert(connection, *(f"b3:{index:0900}" for index in range(100)))

    assert _digests(database) == []


@pytest.mark.parametrize("durable", [True, False])
def test_commits_are_synced_at_once_or_soon(database, monkeypatch, durable):
    synced = threading.Event()
    monkeypatch.setattr(database_module.os, "fsync", lambda descriptor: synced.set())

    with database.write(durable=durable) as connection:
        connection.execute(insert(artifacts), ROW)

    assert synced.is_set() or not durable
    assert synced.wait(10)


def test_sync_without_a_log_file_has_nothing_to_do(home):
    database = Database(home / "store.db")

    database.sync()
    database.close()


def test_closed_database_refuses(database):
    database.close()

    with pytest.raises(ConflictError, match="it was closed"), database.read():
        pass


def test_a_failed_sync_is_told_at_close_and_the_file_is_let_go(database, home, monkeypatch):
    def fail(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(database_module.os, "fsync", fail)
    with database.write() as connection:
        _insert(connection, "b3:1")

    with pytest.raises(ShoalError, match="Input/output error"):
        database.close()

    assert not (home / "store.db-wal").exists()
