from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shoal.base import ConflictError, InputError, SchemaError, StorageFullError
from shoal.data import Dataset, Profile, ingest
from shoal.data import open as open_dataset
from shoal.data.versions.evolution import evolved_profile
from shoal.data.versions.manifest import load_manifest

Rows = dict[str, np.ndarray]


def table(dataset: Dataset) -> pa.Table:
    return pa.Table.from_batches(dataset.batches()).sort_by("x" if "x" in dataset.schema.names else "y")


@pytest.fixture
def small(tmp_path: Path) -> Dataset:
    rows = {"x": np.arange(20, dtype=np.int32), "f": np.arange(20, dtype=np.float32) / 4, "n": np.arange(20)}
    return ingest({**rows, "p": np.arange(40, dtype=np.float32).reshape(20, 2)}, tmp_path / "small", num_shards=2)


def shard_files(dataset: Dataset) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (dataset.path / "shards").iterdir()}


def test_an_added_column_is_null_in_old_rows_and_filled_in_new_ones(small: Dataset) -> None:
    before = shard_files(small)

    evolved = small.evolve(add={"city": "string", "place": "float32[2]", "tags": "int64[any]"})

    assert shard_files(evolved) == before
    assert (evolved.version, evolved.manifest.change) == (2, "evolve")
    assert [str(column) for column in evolved.schema.columns[-3:]] == [
        "city: string or null",
        "place: float32[2] or null",
        "tags: int64[any] or null",
    ]
    assert table(evolved)["city"].null_count == 20
    assert table(evolved)["place"].null_count == 20
    assert "city" not in small.schema.names


def test_old_and_new_rows_are_read_together(small: Dataset) -> None:
    evolved = small.evolve(add={"city": "string"}, rename={"x": "y"}, widen={"n": "float64", "f": "float64"})

    grown = evolved.append(
        {
            "y": np.array([20], np.int32),
            "f": np.array([0.1]),
            "n": np.array([0.5]),
            "p": np.ones((1, 2), np.float32),
            "city": np.array(["Oslo"], dtype=object),
        }
    )

    read = table(grown)
    assert read["y"].to_pylist() == list(range(21))
    assert read["n"].to_pylist() == [*map(float, range(20)), 0.5]
    assert read["f"].to_pylist() == [*(index / 4 for index in range(20)), 0.1]
    assert read["city"].to_pylist() == [None] * 20 + ["Oslo"]
    assert len(grown.manifest.layouts) == 2
    assert open_dataset(grown.path).manifest == load_manifest(grown.path)


def test_a_widened_tensor_keeps_its_values(small: Dataset) -> None:
    evolved = small.evolve(widen={"p": "float64"})

    found = np.concatenate([batch.column("p").to_numpy_ndarray() for batch in evolved.batches()])
    assert found.dtype == np.float64
    assert sorted(found[:, 0].tolist()) == list(range(0, 40, 2))


def test_names_may_change_places(small: Dataset) -> None:
    swapped = small.evolve(rename={"x": "n", "n": "x"}, widen={"x": "int64"})

    assert [column.name for column in swapped.schema.columns] == ["n", "f", "x", "p"]
    assert table(swapped)["x"].to_pylist() == list(range(20))
    assert swapped.digest != small.digest


def test_a_dropped_column_is_gone_and_comes_back_empty(small: Dataset) -> None:
    again = small.evolve(drop=["n"]).evolve(add={"n": "int64"})

    assert table(again)["n"].null_count == 20
    both = small.evolve(drop=["n"], add={"n": "int64"})
    assert table(both)["n"].null_count == 20


def test_the_digest_tells_layouts_apart_and_forgets_the_way_there(small: Dataset) -> None:
    there_and_back = small.evolve(rename={"x": "z"}).evolve(rename={"z": "x"})

    assert there_and_back.digest == small.digest
    assert small.evolve(drop=["n"]).digest != small.digest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rename": {"nothing": "b"}}, "no column 'nothing'"),
        ({"drop": ["nothing"]}, "no column 'nothing'"),
        ({"add": {"x": "string"}}, "names must be unique"),
        ({"rename": {"x": "n"}}, "names must be unique"),
        ({"add": {"c": "strin"}}, "cannot make column 'c' of type 'strin'"),
        ({"add": {"c": "string[3]"}}, "cannot make column 'c'"),
        ({"widen": {"n": "int32"}}, "it is not wider"),
        ({"widen": {"f": "float32"}}, "it is not wider"),
        ({"widen": {"x": "float32"}}, "it is not wider"),
        ({"widen": {"x": "string"}}, "only numbers can be widened"),
    ],
)
def test_what_cannot_change_that_way_is_named(small: Dataset, changes: dict, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        small.evolve(**changes)

    assert open_dataset(small.path).version == 1


def test_whole_numbers_too_large_for_a_float_stay_whole(tmp_path: Path) -> None:
    large = ingest({"n": np.array([2**53 + 1, 0])}, tmp_path / "b")

    with pytest.raises(SchemaError, match=r"exact below 2\*\*53"):
        large.evolve(widen={"n": "float64"})


def test_nothing_to_change_and_a_single_name_to_drop_are_refused(small: Dataset) -> None:
    with pytest.raises(InputError, match="nothing is to change"):
        small.evolve()
    with pytest.raises(InputError, match=r"use drop=\['n'\]"):
        small.evolve(drop="n")


def test_the_key_is_renamed_but_neither_dropped_nor_made_a_float(tmp_path: Path) -> None:
    keyed = ingest({"user": np.arange(50, dtype=np.int32), "x": np.arange(50)}, tmp_path / "b", key="user")
    sides = [
        sorted(row["user"] for batch in part.batches() for row in batch.to_pylist()) for part in keyed.split(0.5, 0.5)
    ]

    with pytest.raises(SchemaError, match="its values decide where each row lies"):
        keyed.evolve(drop=["user"])
    with pytest.raises(SchemaError, match="it places the rows"):
        keyed.evolve(widen={"user": "float64"})
    evolved = keyed.evolve(rename={"user": "person"}, widen={"user": "int64"})

    assert evolved.key == "person"
    grown = evolved.append({"person": np.arange(50, 60), "x": np.arange(10)})
    again = grown.append({"person": np.arange(10), "x": np.arange(10) + 100})
    parts = again.split(0.5, 0.5)
    now = [{row["person"] for batch in part.batches() for row in batch.to_pylist()} for part in parts]
    assert [now[0].isdisjoint(now[1]), set(sides[0]) <= now[0], set(sides[1]) <= now[1]] == [True] * 3


def test_who_insists_on_a_version_is_told_that_it_moved(small: Dataset) -> None:
    small.evolve(drop=["n"])

    with pytest.raises(ConflictError, match="its newest version is 2"):
        small.evolve(drop=["f"], expect=1)


def test_statistics_follow_the_columns(small: Dataset) -> None:
    evolved = small.evolve(
        rename={"p": "q"}, add={"city": "string", "blob": "binary"}, widen={"n": "float64"}, drop=["f"]
    )

    profile = evolved.profile
    assert sorted(profile.columns) == ["blob.length", "city", "n", "q", "q.mean", "q.std", "x"] or sorted(
        profile.columns
    ) == ["blob", "city", "n", "q", "q.mean", "q.std", "x"]
    assert profile.columns["city"].nulls == 20
    fresh = Profile()
    for batch in evolved.batches():
        fresh.update(batch)
    assert fresh == profile


def test_an_unchanged_table_has_unchanged_statistics(dataset: Dataset) -> None:
    columns = dataset.schema.columns

    assert evolved_profile(dataset.profile, columns, columns) == dataset.profile


def test_an_append_without_evolve_names_the_call(small: Dataset) -> None:
    rows = {"x": np.arange(2, dtype=np.int32), "city": np.array(["a", "b"], dtype=object)}

    with pytest.raises(SchemaError) as caught:
        small.append(rows)

    assert "append(..., evolve=True)" in caught.value.next_step


def test_an_append_with_evolve_brings_its_columns(small: Dataset, make_rows: Callable[..., Rows]) -> None:
    grown = small.append(
        {"x": np.array([20, 2**40]), "city": np.array(["Oslo", "Rome"], dtype=object)}, evolve=True, num_shards=1
    )

    read = table(grown)
    assert grown.num_rows == 22
    assert read["x"].to_pylist() == [*range(20), 20, 2**40]
    assert read["city"].to_pylist() == [None] * 20 + ["Oslo", "Rome"]
    assert read["n"].to_pylist() == [*range(20), None, None]
    assert grown.profile.columns["city"].nulls == 20
    assert grown.profile.columns["n"].nulls == 2


def test_an_append_finds_its_columns_after_a_rival_renamed_them(small: Dataset) -> None:
    small.evolve(rename={"n": "count"}, add={"city": "string"})

    grown = small.append({name: values[:1] + 50 for name, values in small_rows(small).items()})

    assert grown.version == 3
    assert table(grown)["count"].to_pylist() == [*range(20), 50]
    assert table(grown)["city"].null_count == 21


def small_rows(dataset: Dataset) -> Rows:
    read = table(dataset)
    rows = {name: read[name].to_numpy() for name in ("x", "f", "n")}
    return {**rows, "p": np.zeros((20, 2), np.float32)}


def test_loaders_and_takes_see_old_and_new_rows_alike(small: Dataset) -> None:
    evolved = small.evolve(
        add={"city": "string", "place": "float32[2]"}, rename={"x": "y"}, widen={"n": "float64", "p": "float64"}
    )
    grown = evolved.append(
        {
            "y": np.array([20, 21], np.int32),
            "f": np.array([0.5, 0.25], np.float32),
            "n": np.array([0.5, 1.5]),
            "p": np.full((2, 2), 0.1),
            "city": np.array(["Oslo", "Rome"], dtype=object),
            "place": np.ones((2, 2), np.float32),
        },
        num_shards=1,
    )

    arrays = grown.arrays()
    loaded = list(grown.loader(batch_size=7, format="numpy", shuffle=True))

    order = np.argsort(arrays["y"])
    assert arrays["y"][order].tolist() == list(range(22))
    assert arrays["n"][order].tolist() == [*map(float, range(20)), 0.5, 1.5]
    assert arrays["p"].dtype == np.float64
    assert arrays["p"][order][0].tolist() == [0.0, 1.0]
    assert arrays["place_mask"][order].tolist() == [False] * 20 + [True] * 2
    assert arrays["city_mask"].sum() == 2
    rows = {
        int(y): (float(n), bool(mask))
        for batch in loaded
        for y, n, mask in zip(batch["y"], batch["n"], batch["place_mask"], strict=True)
    }
    assert rows == {
        int(y): (float(n), bool(mask))
        for y, n, mask in zip(arrays["y"], arrays["n"], arrays["place_mask"], strict=True)
    }
    assert grown.take(np.arange(22))["y"].tolist() == arrays["y"].tolist()


def test_a_full_disk_leaves_the_columns_as_they_were(
    small: Dataset, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    with full_disk(500), pytest.raises(StorageFullError):
        small.evolve(drop=["n"])

    assert open_dataset(small.path) == small
    assert small.evolve(drop=["n"]).version == 2
