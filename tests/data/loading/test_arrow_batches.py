import numpy as np
import pytest

from shoal.base import InputError
from shoal.data import Column, Schema
from shoal.data.loading.arrow_batches import ArrowFormat, as_record_batch
from shoal.data.loading.packed import Packed, pack

SCHEMA = Schema(
    (
        Column(name="image", dtype="uint8", shape=(2, 2)),
        Column(name="weight", dtype="float32", nullable=True),
        Column(name="text", dtype="string"),
        Column(name="tags", dtype="int16", is_list=True),
        Column(name="when", dtype="timestamp"),
    )
)


def arrays() -> dict[str, object]:
    return {
        "image": np.arange(12, dtype=np.uint8).reshape(3, 2, 2),
        "weight": np.array([0.5, 0, 1.5], np.float32),
        "weight_mask": np.array([True, False, True]),
        "text": pack(["a", "", "übel"], SCHEMA["text"]),
        "tags": Packed(np.array([1, 2, 3], np.int16), np.array([0, 2, 2, 3])),
        "when": np.array([1, 2, 3]),
    }


def test_arrow_batches_are_the_columns_as_they_are_stored() -> None:
    batch = ArrowFormat(SCHEMA, {})(arrays())

    assert batch.schema.types == SCHEMA.arrow().types
    assert batch.column("weight").to_pylist() == [0.5, None, 1.5]
    assert batch.column("text").to_pylist() == ["a", "", "übel"]
    assert batch.column("tags").to_pylist() == [[1, 2], [], [3]]
    batch.validate(full=True)


def test_arrow_takes_what_a_transform_made_and_names_what_it_cannot() -> None:
    arrow = ArrowFormat(SCHEMA, {})

    assert arrow({"image": np.zeros((2, 3), np.float32), "n": [1, 2]}).column("image").type.shape == [3]
    with pytest.raises(InputError, match="'x'"):
        arrow({"x": [object()]})


def test_gathered_rows_keep_their_nulls_in_a_batch_of_the_datasets_own_types() -> None:
    batch = as_record_batch(arrays(), SCHEMA)  # type: ignore[arg-type]  # its arrays are those of a batch

    assert batch.schema == SCHEMA.arrow()
    assert batch.column("weight").to_pylist() == [0.5, None, 1.5]
    assert batch.column("tags").to_pylist() == [[1, 2], [], [3]]
