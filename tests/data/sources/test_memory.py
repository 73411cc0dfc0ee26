from collections.abc import Callable

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from shoal.base import SourceError
from shoal.data import Source
from shoal.data.sources.memory import ArraysSource, MemorySource, StreamSource
from shoal.testing import SourceContract

Rows = Callable[[Source], list[dict[str, object]]]


class TestMemorySource(SourceContract):
    @pytest.fixture
    def make_source(self, table: pa.Table) -> Callable[[], Source]:
        return lambda: MemorySource(table.to_batches(), "a table")


class TestStreamSource(SourceContract):
    @pytest.fixture
    def make_source(self, table: pa.Table) -> Callable[[], Source]:
        return lambda: StreamSource(table.to_pandas(), "a frame")


class TestArraysSource(SourceContract):
    @pytest.fixture
    def make_source(self) -> Callable[[], Source]:
        return lambda: ArraysSource({"x": np.arange(20_000), "image": np.zeros((20_000, 2, 3), np.uint8)})


def test_batches_whose_columns_change_are_refused(table: pa.Table) -> None:
    batches = [*table.to_batches(), pa.RecordBatch.from_pydict({"x": [1.5]})]

    with pytest.raises(SourceError, match="found x: double where x: int64, t: string is expected"):
        list(MemorySource(batches, "batches").record_batches())


def test_categories_of_pandas_become_their_values(rows_of: Rows) -> None:
    frame = pd.DataFrame({"c": pd.Categorical(["a", "b", "a"]), "n": pd.array([1, None, 3], "Int8")})

    assert rows_of(StreamSource(frame, "a frame")) == [
        {"c": "a", "n": 1},
        {"c": "b", "n": None},
        {"c": "a", "n": 3},
    ]


def test_categories_and_lists_of_polars_are_kept(rows_of: Rows) -> None:
    frame = pl.DataFrame({"c": ["a", "b"], "l": [[1, 2], []]}, schema_overrides={"c": pl.Categorical})

    assert rows_of(StreamSource(frame, "a frame")) == [{"c": "a", "l": [1, 2]}, {"c": "b", "l": []}]


def test_an_index_without_a_name_is_no_column(rows_of: Rows) -> None:
    frame = pd.DataFrame({"x": [1, 2]}, index=[7, 9])

    assert rows_of(StreamSource(frame, "a frame")) == [{"x": 1}, {"x": 2}]


def test_objects_of_several_types_are_told_with_their_column() -> None:
    frame = pd.DataFrame({"fine": [1, 2], "mixed": [1, "a"]})

    with pytest.raises(SourceError, match="mixed"):
        list(StreamSource(frame, "a frame").record_batches())


def test_durations_are_refused_by_name() -> None:
    frame = pd.DataFrame({"took": pd.to_timedelta([1, 2])})

    with pytest.raises(SourceError, match="column 'took' of a frame: its type duration"):
        list(StreamSource(frame, "a frame").record_batches())


def test_tensors_lists_and_booleans_are_arrays(rows_of: Rows) -> None:
    arrays = {
        "tensor": torch.tensor([[1.5], [2.5]], requires_grad=True),
        "mask": torch.tensor([[True, False], [False, True]]),
        "flag": torch.tensor([True, False]),
        "list": [1, None],
        "words": ["a", "b"],
        "ragged": [[1], [2, 3]],
        "images": [np.zeros((1, 2), np.uint8), np.ones((1, 2), np.uint8)],
    }

    table = pa.Table.from_batches(ArraysSource(arrays).record_batches())

    assert table.schema.field("tensor").type == pa.fixed_shape_tensor(pa.float32(), (1,))
    assert table.schema.field("images").type == pa.fixed_shape_tensor(pa.uint8(), (1, 2))
    assert table.column("mask").combine_chunks().to_numpy_ndarray().tolist() == [[1, 0], [0, 1]]
    assert table.select(["flag", "list", "words", "ragged"]).to_pylist() == [
        {"flag": True, "list": 1, "words": "a", "ragged": [1]},
        {"flag": False, "list": None, "words": "b", "ragged": [2, 3]},
    ]


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        ({"x": torch.zeros(2, dtype=torch.bfloat16)}, "'x', a Tensor"),
        ({"x": [1, "a"]}, "'x', a list"),
        ({"x": np.zeros(3), "y": [1]}, "'y': 1"),
        ({"x": np.float32(1)}, "'x': -1"),
        ({"x": np.zeros(2, complex)}, "array 'x'"),
    ],
)
def test_what_makes_no_column_is_named(arrays: dict[str, object], found: str) -> None:
    with pytest.raises(SourceError, match=found):
        list(ArraysSource(arrays).record_batches())


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (pd.Index(["a", "b"], name="id"), [{"x": 1, "id": "a"}, {"x": 2, "id": "b"}]),
        (pd.RangeIndex(5, 7, name="id"), [{"x": 1, "id": 5}, {"x": 2, "id": 6}]),
        (pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", "l"]), [{"k": "a", "l": 1}, {"k": "b", "l": 2}]),
    ],
)
def test_an_index_with_a_name_is_a_column(rows_of: Rows, index: pd.Index, expected: list[dict[str, object]]) -> None:
    rows = rows_of(StreamSource(pd.DataFrame({"x": [1, 2]}, index=index), "a frame"))

    assert [{**row, **more} for row, more in zip(rows, expected, strict=True)] == rows


@pytest.mark.parametrize("index", [pd.Index(["a", "b"]), pd.Index([0.5, 1.5]), pd.date_range("2024-01-01", periods=2)])
def test_an_index_that_is_data_but_has_no_name_is_refused(index: pd.Index) -> None:
    with pytest.raises(SourceError, match="has no name") as caught:
        list(StreamSource(pd.DataFrame({"x": [1, 2]}, index=index), "a frame").record_batches())

    assert "reset_index()" in caught.value.next_step


def test_an_index_that_bears_the_name_of_a_column_is_refused() -> None:
    frame = pd.DataFrame({"x": [1, 2]}, index=pd.Index([5, 6], name="x"))

    with pytest.raises(SourceError, match="both named 'x'"):
        list(StreamSource(frame, "a frame").record_batches())
