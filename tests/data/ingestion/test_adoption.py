from pathlib import Path

import pyarrow as pa
import pytest

from shoal.base import SegmentLog, SegmentReader, SourceError, digest_file
from shoal.data.ingestion.adoption import adopt_segments


@pytest.fixture
def segment(tmp_path: Path) -> Path:
    path = tmp_path / "segment.arrow"
    batch = pa.RecordBatch.from_pydict({"x": [1, 2, None]})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return path


def test_a_file_of_others_is_copied_and_may_change_later(segment: Path, tmp_path: Path) -> None:
    manifest = adopt_segments(tmp_path / "b", [segment, segment])
    segment.write_bytes(b"")

    (shard,) = manifest.shards
    stored = tmp_path / "b" / "shards" / shard.file_name
    assert digest_file(stored) == shard.digest
    assert (shard.num_rows, shard.order, manifest.columns[0].nullable) == (3, "arrival", True)


def test_a_sealed_segment_of_a_log_is_linked_and_can_no_longer_be_written(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"x": [1, 2, 3]})
    with SegmentLog(tmp_path / "log", batch.schema) as log:
        log.append(batch)
        sealed = log.seal()
        assert sealed is not None
        manifest = adopt_segments(tmp_path / "b", [sealed])
        log.append(batch)

    stored = tmp_path / "b" / "shards" / manifest.shards[0].file_name
    assert stored.stat().st_ino == sealed.stat().st_ino
    assert not sealed.stat().st_mode & 0o222
    assert SegmentReader(tmp_path / "log").num_rows == 6


def test_a_file_in_the_datasets_own_folder_is_linked(segment: Path, tmp_path: Path) -> None:
    part = tmp_path / "b" / ".parts" / "0.arrow"
    part.parent.mkdir(parents=True)
    segment.rename(part)

    manifest = adopt_segments(tmp_path / "b", [part])

    assert (tmp_path / "b" / "shards" / manifest.shards[0].file_name).stat().st_ino == part.stat().st_ino


def test_what_is_in_already_changes_nothing(segment: Path, tmp_path: Path) -> None:
    first = adopt_segments(tmp_path / "b", [segment])

    assert adopt_segments(tmp_path / "b", [segment]) == first


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"ARROW1 and no more")])
def test_a_file_that_is_missing_or_unfinished_is_named(segment: Path, tmp_path: Path, damage: object) -> None:
    damage(segment)  # type: ignore[operator]  # a small function

    with pytest.raises(SourceError, match=r"segment\.arrow"):
        adopt_segments(tmp_path / "b", [segment])

    assert not (tmp_path / "b").exists()
