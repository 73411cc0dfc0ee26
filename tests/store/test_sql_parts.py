import pytest

from shoal.base import ConflictError, ManualClock, StorageFullError
from shoal.store.sql_parts import SqlParts


def test_database_is_closed_whatever_the_runs_answer(home, monkeypatch):
    parts = SqlParts(home / "store.db", home=home, clock=ManualClock())
    run = parts.runs.start(kind="train", name="n", config={})
    run.metric("loss", 1.0, 0)

    def full(*_args):
        raise StorageFullError("cannot write", next_step="free space")

    monkeypatch.setattr("shoal.store.runs.write_points", full)
    with pytest.raises(StorageFullError):
        parts.close()

    with pytest.raises(ConflictError):
        parts.metrics.names(run.id)
