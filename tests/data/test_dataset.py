import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shoal.base import (
    ConfigError,
    CorruptError,
    InputError,
    SchemaError,
    ShardMissingError,
    UnsupportedError,
)
from shoal.data import Dataset, ingest

Rows = dict[str, np.ndarray]
RowKey = Callable[[Rows], list[tuple[object, ...]]]


def test_holds_exactly_the_rows_that_came_in(dataset: Dataset, make_rows: Callable[..., Rows], row_key: RowKey) -> None:
    assert row_key(dataset.arrays()) == row_key(make_rows(500))


def test_knows_itself(dataset: Dataset) -> None:
    assert (dataset.name, dataset.version, dataset.num_rows, len(dataset.shards)) == ("clicks", 1, 500, 4)
    assert dataset.address == f"{dataset.path}@1"
    assert dataset.sources[0].num_rows == 500
    assert [str(column) for column in dataset.schema.columns] == [
        "image: uint8[4, 3]",
        "label: int64",
        "weight: float32",
        "user: string",
    ]


@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=4))
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sides_of_a_split_are_all_rows_once(dataset: Dataset, row_key: RowKey, cuts: list[int]) -> None:
    fractions = [cut / sum(cuts) for cut in cuts[:-1]]

    parts = dataset.split(*fractions, 1 - sum(fractions)) if fractions else dataset.split(1.0)

    arrays = [part.arrays() for part in parts]
    joined = {name: np.concatenate([found[name] for found in arrays]) for name in arrays[0]}
    assert row_key(joined) == row_key(dataset.arrays())
    assert [len(found["label"]) for found in arrays] == [part.num_rows for part in parts]


def test_no_row_changes_sides_when_rows_are_appended(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    grown = dataset.append(make_rows(300, seed=1)).append(make_rows(200, seed=2))

    for before, after in zip(dataset.split(0.7, 0.2, 0.1), grown.split(0.7, 0.2, 0.1), strict=True):
        old, new = set(before.arrays(["user"])["user"]), set(after.arrays(["user"])["user"])

        assert old < new
        assert not any(user.startswith("user-0-") for user in new - old)


def test_a_split_of_a_split_works(dataset: Dataset) -> None:
    outer, rest = dataset.split(0.5, 0.5)
    inner = outer.split(0.5, 0.5)

    assert sum(part.num_rows for part in inner) == outer.num_rows
    assert inner[0].digest == dataset.split(0.25)[0].digest
    assert set(inner[1].arrays(["user"])["user"]).isdisjoint(rest.arrays(["user"])["user"])


def test_thirds_leave_no_gap(dataset: Dataset) -> None:
    parts = dataset.split(1 / 3, 1 / 3, 1 / 3)

    assert parts[-1].hash_range[1] == 2**64


@pytest.mark.parametrize("fractions", [(), (0.0,), (-0.5, 0.5), (0.6, 0.6)])
def test_impossible_fractions_are_refused(dataset: Dataset, fractions: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="at most 1"):
        dataset.split(*fractions)


def test_a_split_by_another_key_is_refused(dataset: Dataset) -> None:
    with pytest.raises(UnsupportedError, match="by 'user': its rows are placed by 'content'"):
        dataset.split(0.5, 0.5, key="user")


def test_take_gives_rows_by_number_in_any_order(dataset: Dataset) -> None:
    everything = dataset.arrays()
    rows = np.array([499, 0, 250, 250, 3])

    taken = dataset.take(rows)

    assert all(np.array_equal(taken[name], everything[name][rows]) for name in everything)
    assert dataset.row(250)["user"] == everything["user"][250]


def test_batches_come_in_storage_order_without_the_hash(dataset: Dataset) -> None:
    part = dataset.split(0.6)[0]

    batches = list(part.batches(columns=["label"], batch_rows=50))

    assert max(batch.num_rows for batch in batches) == 50
    assert batches[0].schema.names == ["label"]
    assert pa.Table.from_batches(batches)["label"].to_pylist() == part.arrays(["label"])["label"].tolist()


def test_batches_of_all_shards_have_the_schema_of_the_dataset(dataset: Dataset, make_rows: Callable[..., Rows]) -> None:
    rows = make_rows(40, seed=1)
    rows["user"][7] = None
    grown = dataset.append(rows)

    schemas = {str(batch.schema) for batch in grown.batches()}

    assert schemas == {str(grown.schema.arrow())}
    assert [column.nullable for column in grown.schema.columns] == [False, False, False, True]
    assert grown.arrays()["user_mask"].sum() == 539


def test_polars_reads_it_as_an_arrow_stream(dataset: Dataset) -> None:
    frame = pl.DataFrame(dataset)

    assert frame.height == 500
    assert frame["user"].n_unique() == 500


def test_an_unknown_column_is_named(dataset: Dataset) -> None:
    with pytest.raises(SchemaError, match="no column 'imgae'"):
        dataset.take(np.array([0]), ["imgae"])


def test_the_profile_of_a_part_is_that_of_its_rows(dataset: Dataset) -> None:
    parts = dataset.split(0.3, 0.7)

    assert parts[0].profile.num_rows == parts[0].num_rows
    assert parts[0].profile.merge(parts[1].profile) == dataset.profile


def test_verify_reads_everything_again(dataset: Dataset) -> None:
    dataset.verify()
    path = dataset.shard_path(dataset.shards[3])
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)

    with pytest.raises(CorruptError, match=path.name):
        dataset.verify()


def test_a_flipped_byte_is_found_by_the_first_batch_that_needs_the_shard(dataset: Dataset) -> None:
    path = dataset.shard_path(dataset.shards[0])
    data = bytearray(path.read_bytes())
    data[600] ^= 0x40
    path.write_bytes(data)

    with pytest.raises(CorruptError, match=path.name):
        list(dataset.loader(batch_size=64, format="numpy"))


def test_a_missing_shard_is_named(dataset: Dataset) -> None:
    path = dataset.shard_path(dataset.shards[0])
    path.unlink()

    with pytest.raises(ShardMissingError, match=path.name):
        dataset.arrays()


def test_travels_to_another_process_after_use(dataset: Dataset) -> None:
    part = dataset.split(0.5)[0]
    part.arrays()

    back = pickle.loads(pickle.dumps(part))

    assert back == part
    assert np.array_equal(back.arrays(["label"])["label"], part.arrays(["label"])["label"])


def test_nulls_come_as_zeros_with_a_mask(tmp_path: Path) -> None:
    table = pa.table({"x": pa.array([1.5, None, 2.5]), "ok": pa.array([True, None, False])})

    arrays = ingest(table, tmp_path / "b").arrays()

    assert sorted(arrays["x"][arrays["x_mask"]].tolist()) == [1.5, 2.5]
    assert arrays["x"][~arrays["x_mask"]].tolist() == [0.0]
    assert arrays["ok_mask"].sum() == 2


def test_refuses_an_unknown_cache(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="cache='ssd'"):
        dataset.loader(batch_size=4, cache="ssd")  # type: ignore[arg-type]  # what a user may write


def test_with_the_memory_cache_a_loader_needs_the_files_no_more(dataset: Dataset) -> None:
    loader = dataset.loader(batch_size=50, shuffle=True, format="numpy", cache="memory")
    expected = [batch["label"].tolist() for batch in dataset.loader(batch_size=50, shuffle=True, format="numpy")]

    for shard in dataset.shards:
        dataset.shard_path(shard).unlink()

    assert [batch["label"].tolist() for batch in loader] == expected


@pytest.mark.parametrize("batch_rows", [0, -1])
def test_batches_have_rows(dataset: Dataset, batch_rows: int) -> None:
    with pytest.raises(InputError, match=f"batch_rows={batch_rows}"):
        dataset.batches(batch_rows=batch_rows)


@pytest.mark.parametrize("rows", [np.arange(500) % 2 == 0, np.array([1.5])])
def test_rows_are_taken_by_their_numbers_alone(dataset: Dataset, rows: np.ndarray) -> None:
    with pytest.raises(InputError, match="expected whole numbers"):
        dataset.take(rows)


def test_a_column_whose_name_a_batch_needs_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    table = pa.table({"x": pa.array([1, None]), "x_mask": pa.array([1, 2])})

    with pytest.raises(SchemaError, match="'x_mask' beside"):
        ingest(table, tmp_path / "clash")

    assert not (tmp_path / "clash").exists()
