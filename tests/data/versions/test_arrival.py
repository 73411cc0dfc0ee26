from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.data import Column, Schema
from shoal.data.versions.arrival import arrival_digest

SCHEMA = Schema(
    (
        Column(name="n", dtype="int64", nullable=True),
        Column(name="flag", dtype="bool"),
        Column(name="text", dtype="string", nullable=True),
        Column(name="list", dtype="float32", is_list=True),
        Column(name="point", dtype="float32", shape=(2,)),
    )
)


def make_batch(num_rows: int = 20) -> pa.RecordBatch:
    numbers = np.arange(num_rows)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(numbers, mask=numbers % 5 == 0),
            pa.array(numbers % 2 == 0),
            pa.array([None if i % 7 == 3 else "x" * i for i in range(num_rows)]),
            pa.array([[float(i)] * (i % 3) for i in range(num_rows)], pa.list_(pa.float32())),
            pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(2 * num_rows, dtype=np.float32).reshape(-1, 2)),
        ],
        schema=SCHEMA.arrow(),
    )


@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 20), max_size=4))
def test_how_rows_are_cut_does_not_count(cuts: list[int]) -> None:
    batch = make_batch()
    borders = [0, *sorted(cuts), 20]
    parts = [batch.slice(start, stop - start) for start, stop in pairwise(borders)]

    assert arrival_digest(parts, SCHEMA, "n") == arrival_digest([batch], SCHEMA, "n")


@pytest.mark.parametrize(
    "change",
    [
        lambda batch: batch.slice(0, 19),
        lambda batch: batch.set_column(0, "n", pa.array(np.arange(20))),
        lambda batch: batch.set_column(1, "flag", pa.array([True] * 20)),
        lambda batch: batch.set_column(2, "text", pa.array(["x"] * 20)),
        lambda batch: batch.set_column(3, "list", pa.array([[1.0]] * 20, pa.list_(pa.float32()))),
    ],
)
def test_every_column_counts(change: Callable[[pa.RecordBatch], pa.RecordBatch]) -> None:
    batch = make_batch()

    assert arrival_digest([change(batch)], SCHEMA, None) != arrival_digest([batch], SCHEMA, None)


def test_what_places_the_rows_counts() -> None:
    assert arrival_digest([make_batch()], SCHEMA, "n") != arrival_digest([make_batch()], SCHEMA, None)
