import numpy as np
import pyarrow as pa
import pytest

from shoal.base import SchemaError
from shoal.data.schema import schema_from_arrow
from shoal.data.storage import reordering as gathering
from shoal.data.storage.reordering import Places, gather_rows


def test_places_number_rows_through_all_batches() -> None:
    places = Places.of(np.array([4, 0, 2]), [2, 0, 3])

    assert (places.part.tolist(), places.row.tolist()) == ([2, 0, 2], [2, 0, 0])


def test_rows_come_in_the_given_order_from_several_batches() -> None:
    batches = [
        pa.RecordBatch.from_pydict({"x": [1, None], "t": ["a", "b"]}),
        pa.RecordBatch.from_pydict({"x": [3], "t": [None]}),
    ]
    batches[1] = batches[1].cast(batches[0].schema)

    columns = schema_from_arrow(batches[0].schema).columns
    found = gather_rows(batches, columns, Places.of(np.array([2, 1, 0]), [2, 1]))

    assert [array.to_pylist() for array in found] == [[3, None, 1], [None, "b", "a"]]


def test_more_text_than_a_shard_can_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_MAX_TEXT", 3)
    batch = pa.RecordBatch.from_pydict({"t": ["ab", "cd"]})

    with pytest.raises(SchemaError, match="'t': its values in one shard exceed"):
        gather_rows([batch], schema_from_arrow(batch.schema).columns, Places.of(np.arange(2), [2]))
