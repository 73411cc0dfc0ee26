import datetime
import json
from pathlib import Path

import pyarrow as pa

from shoal.data.quality.refusals import Refusals, refused_rows, rows_as_text


def test_rows_are_kept_in_a_file_and_counted_by_what_they_broke(tmp_path: Path) -> None:
    refusals = Refusals(tmp_path / "refused")

    refusals.add(["{}"], ["expected more"], ["a.csv"], [7])
    refusals.count("x: more", 1)
    path = refusals.close()

    assert [batch.to_pylist() for batch in refused_rows(path)] == [
        [{"row": "{}", "reason": "expected more", "source": "a.csv", "position": 7}]
    ]
    assert refusals.num_rows == 1


def test_without_a_file_rows_are_only_counted() -> None:
    refusals = Refusals()

    refusals.add(["{}"], ["r"], ["s"], [1])
    refusals.count("x", 3)

    assert (refusals.num_rows, refusals.close()) == (3, None)


def test_what_another_process_refused_is_added(tmp_path: Path) -> None:
    theirs, ours = Refusals(tmp_path / "theirs"), Refusals(tmp_path / "ours")
    theirs.add(["{}"], ["r"], ["s"], [1])
    theirs.count("x", 1)

    ours.count("x", 1)
    ours.merge(theirs.counts, theirs.close())

    assert ours.num_rows == 2
    assert [batch.num_rows for batch in refused_rows(ours.close())] == [1]


def test_forgetting_all_begins_anew(tmp_path: Path) -> None:
    refusals = Refusals(tmp_path / "refused")
    refusals.add(["old"], ["r"], ["s"], [1])
    refusals.reset()

    refusals.add(["new"], ["r"], ["s"], [1])

    (batch,) = refused_rows(refusals.close())
    assert batch.column("row").to_pylist() == ["new"]


def test_any_row_becomes_json() -> None:
    batch = pa.RecordBatch.from_pydict(
        {
            "t": ["ü"],
            "b": pa.array([b"\xff"], pa.binary()),
            "f": [float("nan")],
            "w": pa.array([datetime.datetime(2020, 1, 2)], pa.timestamp("us")),
            "l": [[1, 2]],
        }
    )

    (text,) = rows_as_text(batch)

    assert json.loads(text) == {"t": "ü", "b": "/w==", "f": "nan", "w": "2020-01-02T00:00:00", "l": [1, 2]}
