import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import NotFoundError, SegmentLog, SegmentReader, log_reader

IMAGE = pa.fixed_shape_tensor(pa.uint8(), [2, 2])
SCHEMA = pa.schema([("row", pa.int64()), ("image", IMAGE)])
NEVER_S = 3600.0


def rows(first: int, count: int) -> pa.RecordBatch:
    numbers = np.arange(first, first + count)
    images = np.broadcast_to(numbers[:, None, None], (count, 2, 2)).astype(np.uint8)
    return pa.record_batch([pa.array(numbers), pa.FixedShapeTensorArray.from_numpy_ndarray(images)], schema=SCHEMA)


@pytest.fixture
def log(tmp_path: Path):
    with SegmentLog(tmp_path, SCHEMA, rows_per_segment=10, commit_every_s=NEVER_S) as log:
        yield log


def fill(log: SegmentLog, *counts: int) -> None:
    for count in counts:
        log.append(rows(log.num_rows, count))
        log.sync()


@pytest.mark.parametrize("since", range(26))
def test_reads_from_any_row_on(log: SegmentLog, since: int):
    fill(log, 4, 3, 9, 7, 1)

    found = list(SegmentReader(log.folder).read(since))

    assert [row for _, batch in found for row in batch.column("row").to_pylist()] == list(range(since, 24))
    assert [first for first, _ in found] == [batch.column("row")[0].as_py() for _, batch in found]


def test_one_reader_follows_a_growing_log(log: SegmentLog):
    reader = SegmentReader(log.folder)
    seen: list[int] = []
    for count in (1, 5, 5, 3, 12, 2):
        fill(log, count)

        for first, batch in reader.read(len(seen)):
            assert first == len(seen)
            seen.extend(batch.column("row").to_pylist())

        assert seen == list(range(log.num_rows))
        assert reader.num_rows == log.num_rows


def test_going_on_reads_only_what_is_new(log: SegmentLog, monkeypatch: pytest.MonkeyPatch):
    fill(log, 1, 1, 1)
    reader = SegmentReader(log.folder)
    list(reader.read())
    offsets = []
    scan = log_reader.scan
    monkeypatch.setattr(
        log_reader, "scan", lambda path, schema, offset: offsets.append(offset) or scan(path, schema, offset)
    )

    fill(log, 1)
    assert [first for first, _ in reader.read(3)] == [3]

    assert offsets[0] > log_reader.STREAM_START


def test_reader_survives_the_writers_recovery(log: SegmentLog):
    fill(log, 3, 3)
    reader = SegmentReader(log.folder)
    assert reader.num_rows == 6

    log.close()
    with SegmentLog(log.folder, SCHEMA) as second:
        fill(second, 2)

        assert [batch.num_rows for _, batch in reader.read(1)] == [2, 3, 2]


def test_waits_for_a_first_batch(log: SegmentLog):
    timer = threading.Timer(0.05, fill, (log, 2))
    timer.start()

    found = list(SegmentReader(log.folder).read(wait_s=30))

    timer.join()
    assert [batch.num_rows for _, batch in found] == [2]


def test_wait_ends_when_nothing_comes(log: SegmentLog):
    assert list(SegmentReader(log.folder).read(wait_s=0.01)) == []


def test_row_has_plain_values_and_arrays(log: SegmentLog):
    fill(log, 12)

    row = SegmentReader(log.folder).row(11)

    assert row["row"] == 11
    assert row["image"].tolist() == [[11, 11], [11, 11]]
    assert row["image"].dtype == np.uint8


def test_located_row_is_found_by_plain_arrow(log: SegmentLog):
    fill(log, 25)
    log.seal()

    path, inside = SegmentReader(log.folder).locate(23)

    assert pa.ipc.open_file(path).read_all().column("row")[inside].as_py() == 23


@pytest.mark.parametrize("row", [-1, 5, 99])
def test_row_that_is_not_there_is_not_found(log: SegmentLog, row: int):
    fill(log, 5)

    with pytest.raises(NotFoundError, match="5 committed rows"):
        SegmentReader(log.folder).locate(row)
    with pytest.raises(NotFoundError, match="5 committed rows"):
        SegmentReader(log.folder).row(row)


def test_sealed_lists_only_finished_files(log: SegmentLog):
    fill(log, 25)
    reader = SegmentReader(log.folder)
    assert len(reader.sealed()) == 2

    log.seal()

    assert len(reader.sealed()) == 3


def test_empty_log_reads_as_nothing(log: SegmentLog):
    reader = SegmentReader(log.folder)

    assert reader.num_rows == 0
    assert list(reader.read()) == []
    assert reader.sealed() == []


def test_folder_without_a_log_is_not_found(tmp_path: Path):
    with pytest.raises(NotFoundError, match=r"log\.json"):
        SegmentReader(tmp_path)
