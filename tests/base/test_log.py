import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import (
    ConfigError,
    ConflictError,
    SchemaError,
    SegmentLog,
    SegmentReader,
    StorageFullError,
    UnsupportedError,
)
from shoal.base import (
    log as log_module,
)

SCHEMA = pa.schema([("row", pa.int64())])
NEVER_S = 3600.0


def rows(first: int, count: int) -> pa.RecordBatch:
    return pa.record_batch([pa.array(range(first, first + count), pa.int64())], schema=SCHEMA)


def read_rows(folder: Path) -> list[int]:
    return [row for _, batch in SegmentReader(folder).read() for row in batch.column("row").to_pylist()]


def test_append_returns_the_first_rows_number(tmp_path: Path):
    with SegmentLog(tmp_path, SCHEMA) as log:
        assert [log.append(rows(0, 3)), log.append(rows(3, 2)), log.num_rows] == [0, 3, 5]


def test_sync_makes_rows_readable_in_order(tmp_path: Path):
    with SegmentLog(tmp_path, SCHEMA, commit_every_s=NEVER_S) as log:
        for first in range(0, 100, 10):
            log.append(rows(first, 10))
        assert read_rows(tmp_path) == []

        assert log.sync() == 100

        assert read_rows(tmp_path) == list(range(100))


def test_group_commit_comes_by_itself(tmp_path: Path):
    with SegmentLog(tmp_path, SCHEMA, commit_every_s=0.01) as log:
        log.append(rows(0, 1))

        found = list(SegmentReader(tmp_path).read(wait_s=30))

    assert [(first, batch.num_rows) for first, batch in found] == [(0, 1)]


def test_small_batches_become_one_message(tmp_path: Path):
    with SegmentLog(tmp_path, SCHEMA, commit_every_s=NEVER_S) as log:
        for row in range(50):
            log.append(rows(row, 1))
        log.sync()

        assert [batch.num_rows for _, batch in SegmentReader(tmp_path).read()] == [50]


def test_segments_are_cut_at_exactly_the_asked_size(tmp_path: Path):
    with SegmentLog(tmp_path, SCHEMA, rows_per_segment=10) as log:
        log.append(rows(0, 25))
        log.sync()

        assert [int(path.stem) for path in SegmentReader(tmp_path).sealed()] == [0, 10]
        assert read_rows(tmp_path) == list(range(25))


def test_seal_gives_an_arrow_file_and_the_log_goes_on(tmp_path: Path):
    with SegmentLog(tmp_path, SCHEMA) as log:
        log.append(rows(0, 3))
        sealed = log.seal()
        log.append(rows(3, 1))

        assert sealed is not None
        assert pa.ipc.open_file(sealed).read_all().column("row").to_pylist() == [0, 1, 2]
        assert log.seal() != sealed
        assert log.seal() is None
    assert read_rows(tmp_path) == [0, 1, 2, 3]


def test_log_continues_after_close(tmp_path: Path):
    with SegmentLog(tmp_path, SCHEMA) as first:
        first.append(rows(0, 3))
    with SegmentLog(tmp_path, SCHEMA) as second:
        assert second.append(rows(3, 2)) == 3
        assert second.log_id == first.log_id
        second.close()

    assert read_rows(tmp_path) == list(range(5))


def test_logs_have_ids_of_their_own(tmp_path: Path):
    with SegmentLog(tmp_path / "a", SCHEMA) as a, SegmentLog(tmp_path / "b", SCHEMA) as b:
        assert len(a.log_id) == 6
        assert a.log_id != b.log_id


def test_second_writer_is_refused(tmp_path: Path):
    with SegmentLog(tmp_path, SCHEMA), pytest.raises(ConflictError, match="another writer"):
        SegmentLog(tmp_path, SCHEMA)

    SegmentLog(tmp_path, SCHEMA).close()


def test_other_columns_are_refused_by_name(tmp_path: Path):
    other = pa.schema([("row", pa.int32())])
    with SegmentLog(tmp_path, SCHEMA) as log, pytest.raises(SchemaError, match="'row'"):
        log.append(pa.record_batch([pa.array([1], pa.int32())], schema=other))

    with pytest.raises(SchemaError, match="'row'"):
        SegmentLog(tmp_path, other)
    SegmentLog(tmp_path, SCHEMA).close()


def test_dictionary_columns_are_refused(tmp_path: Path):
    with pytest.raises(UnsupportedError, match="dictionary"):
        SegmentLog(tmp_path, pa.schema([("s", pa.dictionary(pa.int8(), pa.string()))]))


@pytest.mark.parametrize("bad", [{"rows_per_segment": 0}, {"commit_every_s": 0}])
def test_bad_settings_are_refused(tmp_path: Path, bad: dict[str, float]):
    with pytest.raises(ConfigError, match="must be"):
        SegmentLog(tmp_path, SCHEMA, **bad)


def test_closed_log_takes_nothing(tmp_path: Path):
    log = SegmentLog(tmp_path, SCHEMA)
    log.close()
    log.close()

    with pytest.raises(ConflictError, match="closed"):
        log.append(rows(0, 1))


def test_threads_lose_and_mix_nothing(tmp_path: Path):
    first_rows: list[tuple[int, int]] = []

    def write(writer: int) -> None:
        for number in range(50):
            value = (writer * 50 + number) * 3
            first_rows.append((log.append(rows(value, 3)), value))

    with SegmentLog(tmp_path, SCHEMA, rows_per_segment=100, commit_every_s=0.001) as log:
        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    found = read_rows(tmp_path)
    assert len(found) == 600
    for row, value in first_rows:
        assert found[row : row + 3] == [value, value + 1, value + 2]


def test_tensors_and_metadata_are_kept(tmp_path: Path):
    kind = pa.fixed_shape_tensor(pa.uint8(), [2, 3])
    schema = pa.schema([("image", kind)], metadata={b"shoal": b'{"model":"fashion"}'})
    images = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    batch = pa.record_batch([pa.FixedShapeTensorArray.from_numpy_ndarray(images)], schema=schema)

    with SegmentLog(tmp_path, schema) as log:
        log.append(batch.slice(0, 1))
        log.append(batch.slice(1))
        path = log.seal()

    table = pa.ipc.open_file(path).read_all()
    assert table.schema.equals(schema, check_metadata=True)
    assert (table.column("image").combine_chunks().to_numpy_ndarray() == images).all()


def disk_full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "full")


def test_full_disk_keeps_rows_until_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = os.pwrite
    with SegmentLog(tmp_path, SCHEMA, rows_per_segment=4, commit_every_s=NEVER_S) as log:
        log.append(rows(0, 3))
        log.sync()
        monkeypatch.setattr(os, "pwrite", disk_full)
        for first in (3, 6):
            log.append(rows(first, 3))
            with pytest.raises(StorageFullError, match="free some space"):
                log.sync()
        assert isinstance(log.failure, StorageFullError)

        monkeypatch.setattr(os, "pwrite", real)
        assert log.sync() == 9

        assert log.failure is None
    assert read_rows(tmp_path) == list(range(9))


def test_group_commit_tries_again_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real, calls = os.pwrite, []

    def full_twice(descriptor: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        return disk_full() if len(calls) < 3 else real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full_twice)
    with SegmentLog(tmp_path, SCHEMA, commit_every_s=0.01) as log:
        log.append(rows(0, 5))

        assert [batch.num_rows for _, batch in SegmentReader(tmp_path).read(wait_s=30)] == [5]


def test_full_disk_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(log_module, "_BACKLOG_BYTES", 1000)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", disk_full)
    with SegmentLog(tmp_path, SCHEMA, commit_every_s=NEVER_S) as log:
        for _ in range(3):
            log.append(rows(log.num_rows, 50))
        before = log.num_rows

        for _ in range(2):
            with pytest.raises(StorageFullError):
                log.append(rows(before, 50))

        assert log.num_rows == before
        monkeypatch.setattr(os, "pwrite", real)


WRITER = """
    import os, signal, sys
    import pyarrow as pa
    from shoal.base import SegmentLog
    schema = pa.schema([("row", pa.int64())])
    log = SegmentLog(sys.argv[1], schema, commit_every_s=3600, rows_per_segment=100)
    for first in range(0, 250, 10):
        log.append(pa.record_batch([pa.array(range(first, first + 10), pa.int64())], schema=schema))
        if first == 210:
            log.sync()
"""


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    code = textwrap.dedent(WRITER) + "os.kill(os.getpid(), signal.SIGKILL)"
    died = subprocess.run([sys.executable, "-c", code, str(folder)], check=False)
    assert died.returncode == -signal.SIGKILL
    return folder


@pytest.fixture
def killed_log(killed_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(killed_once, tmp_path / "log")


def tear(data: bytes) -> bytes:
    return data[:-3]


def scribble(data: bytes) -> bytes:
    return data + b"\xff\xff\xff\xff\x99garbage"


@pytest.mark.parametrize(("damage", "kept"), [(bytes, 220), (scribble, 220), (tear, 200)])
def test_killed_writers_synced_rows_survive(killed_log: Path, damage: Callable[[bytes], bytes], kept: int):
    last = sorted(killed_log.glob("*.arrow"))[-1]
    last.write_bytes(damage(last.read_bytes()))
    (killed_log / ".00000000000000000200.arrow.abc.tmp").touch()

    with SegmentLog(killed_log, SCHEMA) as log:
        assert log.append(rows(kept, 5)) == kept

    assert read_rows(killed_log) == list(range(kept + 5))
    assert SegmentReader(killed_log).sealed() == sorted(killed_log.glob("*.arrow"))
    assert not list(killed_log.glob(".*.tmp"))
