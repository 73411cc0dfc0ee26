from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import ConflictError
from shoal.data import Dataset, Preparation, ingest, prepare
from shoal.data import open as open_dataset

Rows = dict[str, np.ndarray]


def test_the_same_append_changes_nothing_however_it_is_cut(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    rows = make_rows(60, seed=1)
    grown = dataset.append(rows, num_shards=1)

    for num_shards in (1, 2, 5):
        assert grown.append(rows, num_shards=num_shards).version == 2
    assert dataset.append(rows, num_shards=3).version == 2
    assert len(grown.manifest.arrivals) == 1


def test_the_same_append_is_known_again_after_other_changes(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    rows = make_rows(60, seed=1)
    newest = dataset.append(rows, num_shards=1).append(make_rows(5, seed=2)).reshard(num_shards=2)

    assert newest.append(rows, num_shards=4).version == 4


def test_other_rows_in_the_same_number_are_added(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    grown = dataset.append(make_rows(60, seed=1)).append(make_rows(60, seed=2))

    assert (grown.version, grown.num_rows) == (3, 620)


def test_who_insists_on_a_version_is_told_that_it_moved(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    grown = dataset.append(make_rows(5, seed=1), expect=1)

    with pytest.raises(ConflictError, match="its newest version is 2") as caught:
        dataset.append(make_rows(5, seed=2), expect=1)

    assert "diff" in caught.value.next_step
    assert grown.append(make_rows(5, seed=2), expect=2).version == 3


def test_a_refused_append_leaves_only_what_the_next_collection_takes(
    dataset: Dataset, make_rows: Callable[..., Rows]
) -> None:
    dataset.append(make_rows(5, seed=1))

    with pytest.raises(ConflictError):
        dataset.append(make_rows(5, seed=2), expect=1)

    assert open_dataset(dataset.path).num_rows == 505


def test_an_append_to_changed_columns_keeps_their_order_and_ids(dataset: Dataset) -> None:
    evolved = dataset.evolve(add={"city": "string"})
    newer = ingest({"city": np.array(["Oslo"], dtype=object), "label": np.arange(1)}, dataset.path)

    assert [column.id for column in newer.schema.columns] == [evolved.schema["city"].id, evolved.schema["label"].id]


def prepared(folder: Path, *operators: object) -> Dataset:
    made = ingest({"n": np.arange(20, dtype=np.int32), "x": np.arange(20.0), "y": np.arange(20)}, folder)
    return made.prepare(Preparation({"n": list(operators), "x": [prepare.Standardise()]}))  # type: ignore[arg-type]  # operators


N, X, Y = pa.array([1], pa.int32()), pa.array([1.0]), pa.array([1])


@pytest.mark.parametrize(
    ("rows", "is_kept"),
    [
        ({"n": N, "x": X, "y": Y}, True),
        ({"n": N, "x": X, "y": Y, "new": Y}, True),
        ({"n": Y, "x": X, "y": Y}, False),
        ({"n": pa.nulls(1, N.type), "x": X, "y": Y}, False),
        ({"n": N, "y": Y}, False),
        ({"n": N, "x": X, "y": pa.nulls(1, Y.type)}, False),
    ],
)
def test_a_preparation_stays_while_it_fits(tmp_path: Path, rows: dict[str, pa.Array], is_kept: bool) -> None:
    dataset = prepared(tmp_path / "d", prepare.Standardise())

    grown = dataset.append(pa.table(rows), evolve=True)

    assert (grown.preparation is not None) == is_kept
    assert len(list(grown.loader(batch_size=8, format="numpy"))) == 3


def test_a_preparation_that_fills_rows_without_a_value_stays(tmp_path: Path) -> None:
    dataset = prepared(tmp_path / "d", prepare.Impute(), prepare.Standardise())

    grown = dataset.append(pa.table({"n": pa.nulls(1, N.type), "x": X, "y": Y}), evolve=True)

    assert grown.preparation == dataset.preparation
    batches = list(grown.loader(batch_size=21, format="numpy"))
    assert not np.isnan(batches[0]["n"]).any()
