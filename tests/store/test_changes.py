import pytest

from shoal.base import ConflictError
from shoal.store import changes as changes_module


def test_change_and_its_thing_are_one_write(store, monkeypatch):
    """Where the line cannot be written, the thing has not happened."""
    monkeypatch.setattr("shoal.store.alerts.tell", lambda *_: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        store.alerts.record("drift", "fashion", {})

    assert store.alerts.list() == []
    assert store.last_change() == 0


def test_reader_holds_no_transaction_while_it_works(store, monkeypatch):
    monkeypatch.setattr(changes_module, "_PAGE_ROWS", 2)
    for subject in "abc":
        store.alerts.record("drift", subject, {})

    stream = store.changes(0)
    next(stream)

    assert store._parts.database._engine.pool.checkedout() == 0
    assert [change.subject for change in stream] == ["b", "c"]


def test_page_that_is_just_full_ends_well(store, monkeypatch):
    monkeypatch.setattr(changes_module, "_PAGE_ROWS", 2)
    for subject in "abcd":
        store.alerts.record("drift", subject, {})

    assert [change.subject for change in store.changes(0)] == ["a", "b", "c", "d"]


def test_closed_store_tells_nothing(store):
    store.close()

    with pytest.raises(ConflictError):
        store.last_change()
