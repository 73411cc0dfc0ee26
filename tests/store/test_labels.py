from datetime import UTC, datetime

import pytest

from shoal.base import InputError
from shoal.store import Label

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_corrections_keep_what_was_believed(store):
    store.labels.put("fashion@1.abc.0", 7, NOON)
    store.labels.put("fashion@1.abc.0", 3, NOON)

    with store._parts.database.read() as connection:
        values = connection.exec_driver_sql("SELECT value FROM labels ORDER BY sequence").scalars().all()

    assert values == ["7", "3"]


def test_batch_is_one_change_per_model(store):
    ids = ["a@1.abc.0", "b@1.abc.0", "a@2.abc.1"]
    store.labels.put_many(Label(prediction_id=id, value=1, time=NOON) for id in ids)

    assert [(change.subject, change.fields) for change in store.changes(0)] == [
        ("a", {"num_labels": 2}),
        ("b", {"num_labels": 1}),
    ]


def test_time_without_zone_is_refused(store):
    with pytest.raises(InputError, match="no zone"):
        store.labels.put("fashion@1.abc.0", 7, datetime(2026, 3, 1))


def test_null_is_a_label(store):
    store.labels.put("fashion@1.abc.0", None, NOON)

    assert store.labels.get(["fashion@1.abc.0"]) == {"fashion@1.abc.0": None}
    assert store.labels.get([]) == {}
