import itertools
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.base import CorruptError, SchemaError
from shoal.data import Profile

Rows = dict[str, np.ndarray]


def profile_of(*parts: Rows | pa.RecordBatch) -> Profile:
    profile = Profile()
    for part in parts:
        profile.update(part)
    return profile


@given(cuts=st.lists(st.integers(0, 300), max_size=6), order=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=25)
def test_any_cut_merged_in_any_order_gives_the_same_bytes(cuts: list[int], order: object) -> None:
    rng = np.random.default_rng(len(cuts))
    rows = {
        "x": rng.normal(size=300).astype(np.float32) * np.float32(10.0) ** rng.integers(-30, 30, 300),
        "tensor": rng.normal(size=(300, 3, 2)),
        "label": rng.integers(0, 2_000, 300),
        "name": np.array([f"n{value}" for value in rng.integers(0, 2_000, 300)], dtype=object),
    }
    borders = [0, *sorted(cuts), 300]
    parts = [profile_of({name: values[a:b] for name, values in rows.items()}) for a, b in itertools.pairwise(borders)]

    order.shuffle(parts)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    middle = len(parts) // 2
    left, right = profile_of(), profile_of()
    for part in parts[:middle]:
        left = left.merge(part)
    for part in parts[middle:]:
        right = part.merge(right)

    assert right.merge(left).to_bytes() == profile_of(rows).to_bytes()


def test_survives_the_way_to_bytes_and_back(make_rows: Callable[..., Rows]) -> None:
    profile = profile_of(make_rows(100))

    back = Profile.from_bytes(profile.to_bytes())

    assert back == profile
    assert back.columns["label"].categories == profile.columns["label"].categories
    assert back.columns["image"].mean == profile.columns["image"].mean
    assert back.num_rows == 100


def test_arrow_and_arrays_give_the_same(
    make_rows: Callable[..., Rows], to_batch: Callable[[Rows], pa.RecordBatch]
) -> None:
    rows = make_rows(100)

    assert profile_of(to_batch(rows)) == profile_of(rows)


def test_tensors_give_pooled_values_and_one_mean_and_deviation_per_row() -> None:
    images = np.array([[[0, 10], [20, 30]], [[5, 5], [5, 5]]], np.uint8)

    columns = profile_of({"image": images}).columns

    assert (columns["image"].count, columns["image"].num_rows, columns["image"].values_per_row) == (8, 2, 4)
    assert (columns["image.mean"].minimum, columns["image.mean"].maximum) == (5.0, 15.0)
    assert columns["image.std"].minimum == 0.0
    assert columns["image.std"].maximum == pytest.approx(images[0].std())


def test_nulls_are_counted_and_not_valued() -> None:
    batch = pa.RecordBatch.from_pydict({"x": pa.array([1, None, 3]), "t": pa.array(["a", None, None])})

    columns = profile_of(batch).columns

    assert (columns["x"].count, columns["x"].nulls, columns["x"].mean) == (2, 1, 2.0)
    assert (columns["t"].categories, columns["t"].nulls) == ({"a": 1}, 2)


def test_masks_of_a_loaders_batch_count_as_nulls() -> None:
    batch = {"x": np.array([1.0, 0.0, 3.0]), "x_mask": np.array([True, False, True])}

    columns = profile_of(batch).columns

    assert list(columns) == ["x"]
    assert (columns["x"].count, columns["x"].nulls) == (2, 1)


def test_blobs_are_profiled_by_length() -> None:
    batch = pa.RecordBatch.from_pydict({"b": pa.array([b"abc", None, b"x"], pa.binary())})

    columns = profile_of(batch).columns

    assert (columns["b.length"].mean, columns["b.length"].nulls) == (2.0, 1)


def test_booleans_are_categories() -> None:
    assert profile_of({"ok": np.array([True, True, False])}).columns["ok"].categories == {"True": 2, "False": 1}


def test_select_keeps_a_column_with_what_derives_from_it(make_rows: Callable[..., Rows]) -> None:
    chosen = profile_of(make_rows(10)).select(["image"])

    assert sorted(chosen.columns) == ["image", "image.mean", "image.std"]
    assert chosen.num_rows == 10


def test_refuses_columns_of_different_lengths() -> None:
    with pytest.raises(SchemaError, match="'b': 2"):
        profile_of({"a": np.zeros(3), "b": np.zeros(2)})


def test_refuses_a_column_that_changes_its_kind() -> None:
    with pytest.raises(SchemaError, match="column 'a' was number"):
        profile_of({"a": np.zeros(3)}, {"a": np.array(["x"], dtype=object)})


@pytest.mark.parametrize("data", [b"", b"ARROW1\0\0garbage", b"\0" * 100])
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptError, match="cannot read a profile"):
        Profile.from_bytes(data)


def test_a_cut_profile_is_refused(make_rows: Callable[..., Rows]) -> None:
    data = profile_of(make_rows(20)).to_bytes()

    with pytest.raises(CorruptError):
        Profile.from_bytes(data[: len(data) // 2])
