import errno
import os
import random
from pathlib import Path

import pyarrow as pa
import pytest

from shoal.base import StorageFullError
from shoal.base.segment import GrowingSegment, list_segments, open_sealed, recover, scan, segment_path

SCHEMA = pa.schema([("row", pa.int64()), ("text", pa.string())], metadata={b"shoal": b"{}"})


def rows(first: int, count: int) -> pa.RecordBatch:
    numbers = list(range(first, first + count))
    return pa.record_batch([pa.array(numbers), pa.array([f"row {number}" for number in numbers])], schema=SCHEMA)


def scanned(path: Path) -> list[int]:
    return [row for batch, _ in scan(path, SCHEMA) for row in batch.column("row").to_pylist()]


@pytest.fixture
def growing(tmp_path: Path) -> GrowingSegment:
    segment = GrowingSegment(segment_path(tmp_path, 0), SCHEMA)
    for first in (0, 10, 20):
        segment.write(rows(first, 10))
        segment.flush()
    return segment


def test_segments_are_listed_in_row_order(tmp_path: Path):
    for first in (100, 7, 0):
        segment_path(tmp_path, first).touch()
    (tmp_path / "log.json").touch()
    (tmp_path / ".00000000000000000000.arrow.x.tmp").touch()

    assert [first for first, _ in list_segments(tmp_path)] == [0, 7, 100]


def test_growing_segment_is_readable_but_not_sealed(growing: GrowingSegment):
    assert scanned(growing.path) == list(range(30))
    assert open_sealed(growing.path) is None


def test_scan_continues_from_an_offset(growing: GrowingSegment):
    _, behind_first = next(scan(growing.path, SCHEMA))

    assert next(scan(growing.path, SCHEMA, behind_first))[0].column("row")[0].as_py() == 10


def test_finished_segment_is_a_plain_arrow_file(growing: GrowingSegment):
    growing.finish()

    with pa.ipc.open_file(growing.path) as reader:
        assert reader.schema.equals(SCHEMA, check_metadata=True)
        assert reader.read_all().column("row").to_pylist() == list(range(30))


def test_cut_at_any_byte_keeps_exactly_the_complete_batches(growing: GrowingSegment, tmp_path: Path):
    growing.finish()
    whole = growing.path.read_bytes()
    ends = [behind for _, behind in scan(growing.path, SCHEMA)]

    for cut in random.Random(0).sample(range(len(whole)), 60) + ends:
        path = segment_path(tmp_path, 1)
        path.write_bytes(whole[:cut])
        num_complete = sum(end <= cut for end in ends)

        assert recover(path, SCHEMA) == 10 * num_complete
        assert path.exists() == (num_complete > 0)
        if num_complete:
            assert scanned(path) == list(range(10 * num_complete))
            assert open_sealed(path) is not None


def test_garbage_behind_the_last_batch_is_dropped(growing: GrowingSegment):
    with growing.path.open("ab") as file:
        file.write(random.Random(0).randbytes(500))

    assert recover(growing.path, SCHEMA) == 30


def test_zeros_behind_the_last_batch_are_dropped(growing: GrowingSegment):
    with growing.path.open("ab") as file:
        file.write(bytes(4096))

    assert recover(growing.path, SCHEMA) == 30


def test_recovering_a_sealed_segment_changes_nothing(growing: GrowingSegment):
    growing.finish()
    before = growing.path.read_bytes()

    assert recover(growing.path, SCHEMA) == 30
    assert growing.path.read_bytes() == before


def test_data_that_ends_with_the_magic_word_is_not_taken_for_sealed(growing: GrowingSegment):
    with growing.path.open("ab") as file:
        file.write(b"\x00" * 10 + b"ARROW1")

    assert open_sealed(growing.path) is None
    assert recover(growing.path, SCHEMA) == 30


def test_failing_disk_is_not_taken_for_a_torn_tail(growing: GrowingSegment, monkeypatch: pytest.MonkeyPatch):
    def fail(_: object) -> None:
        raise OSError(errno.EIO, "the disk failed")

    monkeypatch.setattr(pa.ipc, "read_message", fail)

    with pytest.raises(OSError, match="the disk failed"):
        recover(growing.path, SCHEMA)


def test_write_that_failed_halfway_is_done_again(growing: GrowingSegment, monkeypatch: pytest.MonkeyPatch):
    durable = growing.path.read_bytes()
    real = os.pwrite

    def half(descriptor: int, data: bytes, offset: int) -> int:
        real(descriptor, data[: len(data) // 2], offset)
        raise OSError(errno.ENOSPC, "full")

    growing.write(rows(30, 10))
    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(StorageFullError, match=str(growing.path)):
        growing.flush()
    assert growing.path.read_bytes() == durable

    monkeypatch.setattr(os, "pwrite", real)
    growing.flush()

    assert scanned(growing.path) == list(range(40))


def test_footer_that_failed_is_written_by_the_next_try(growing: GrowingSegment, monkeypatch: pytest.MonkeyPatch):
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(StorageFullError):
        growing.finish()
    monkeypatch.setattr(os, "fsync", real)

    growing.finish()

    assert open_sealed(growing.path) is not None
