from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import SchemaError, SegmentLog, UnsupportedError
from shoal.data import Dataset, Profile, ingest

Rows = dict[str, np.ndarray]
RowKey = Callable[[Rows], list[tuple[object, ...]]]


def test_append_keeps_the_old_version_and_joins_the_statistics(
    dataset: Dataset, make_rows: Callable[..., Rows]
) -> None:
    grown = dataset.append(make_rows(100, seed=1))

    both = Profile()
    both.update(make_rows(500))
    both.update(make_rows(100, seed=1))
    assert (grown.version, grown.num_rows, dataset.num_rows) == (2, 600, 500)
    assert grown.profile == both
    assert [fact.num_rows for fact in grown.sources] == [500, 100]


def test_the_same_append_again_changes_nothing(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    grown = dataset.append(make_rows(100, seed=1))

    assert dataset.append(make_rows(100, seed=1)) == grown


def test_append_refuses_other_columns(dataset: Dataset) -> None:
    with pytest.raises(SchemaError, match="the columns differ"):
        dataset.append({"label": np.zeros(3)})


def test_a_part_cannot_be_appended_to(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    with pytest.raises(UnsupportedError, match="a part of a dataset"):
        dataset.split(0.5)[0].append(make_rows(5))


@pytest.fixture
def segments(tmp_path: Path) -> list[Path]:
    """Two sealed segments of a log, each of several small batches."""
    schema = pa.schema([("id", pa.string()), ("score", pa.list_(pa.float32(), 2))])
    log = SegmentLog(tmp_path / "log", schema)
    sealed = []
    for segment in range(2):
        for batch in range(3):
            ids = [f"{segment}.{batch}.{row}" for row in range(4)]
            scores = pa.array([[row, batch] for row in range(4)], pa.list_(pa.float32(), 2))
            log.append(pa.RecordBatch.from_arrays([pa.array(ids), scores], schema=schema))
        sealed.append(log.seal())
    log.close()
    return [path for path in sealed if path is not None]


def test_sealed_log_segments_become_a_dataset_without_a_copy(segments: list[Path], tmp_path: Path) -> None:
    dataset = Dataset.create_from_segments(tmp_path / "predictions", segments)

    arrays = dataset.arrays()
    assert arrays["id"].tolist() == [f"{s}.{b}.{r}" for s in range(2) for b in range(3) for r in range(4)]
    assert arrays["score"].shape == (24, 2)
    assert dataset.shard_path(dataset.shards[0]).stat().st_ino == segments[0].stat().st_ino
    assert dataset.profile.num_rows == 24


def test_segments_that_are_in_already_change_nothing(segments: list[Path], tmp_path: Path) -> None:
    first = Dataset.create_from_segments(tmp_path / "predictions", segments[:1])

    second = first.adopt(segments)

    assert (second.version, second.num_rows) == (2, 24)
    assert second.adopt(segments) == second


def test_a_segment_given_twice_is_adopted_once(segments: list[Path], tmp_path: Path) -> None:
    dataset = Dataset.create_from_segments(tmp_path / "predictions", [*segments, segments[0]])

    assert (dataset.num_rows, dataset.profile.num_rows) == (24, 24)
    assert dataset.arrays()["id"][0] == "0.0.0"


def test_rows_in_order_of_arrival_cannot_be_split_until_they_are_ingested(segments: list[Path], tmp_path: Path) -> None:
    dataset = Dataset.create_from_segments(tmp_path / "predictions", segments)

    with pytest.raises(UnsupportedError, match="order of arrival") as caught:
        dataset.split(0.5, 0.5)

    assert "shoal.data.ingest" in caught.value.next_step
    assert sum(part.num_rows for part in ingest(dataset, tmp_path / "hashed").split(0.5, 0.5)) == 24


def test_loaders_shuffle_segments_like_any_shard(segments: list[Path], tmp_path: Path) -> None:
    dataset = Dataset.create_from_segments(tmp_path / "predictions", segments)

    ids = [value for batch in dataset.loader(batch_size=5, shuffle=True, format="numpy") for value in batch["id"]]

    assert sorted(ids) == sorted(dataset.arrays(["id"])["id"])
    assert ids != dataset.arrays(["id"])["id"].tolist()


def test_an_unsealed_or_missing_segment_is_named(tmp_path: Path) -> None:
    torn = tmp_path / "torn.arrow"
    torn.write_bytes(b"ARROW1\0\0")

    for path in (torn, tmp_path / "absent.arrow"):
        with pytest.raises(Exception, match=path.name):
            Dataset.create_from_segments(tmp_path / "predictions", [path])

    assert not (tmp_path / "predictions").exists()
