import numpy as np
import pytest

from shoal.base import InputError
from shoal.data.loading.arrow_batches import ArrowFormat, as_record_batch
from shoal.testing.columns import MIXED_SCHEMA, mixed_arrays


def test_arrow_batches_are_the_columns_as_they_are_stored() -> None:
    batch = ArrowFormat(MIXED_SCHEMA, {})(mixed_arrays())

    assert batch.schema.types == MIXED_SCHEMA.arrow().types
    assert batch.column("weight").to_pylist() == [0.5, None, 1.5]
    assert batch.column("text").to_pylist() == ["a", "", "übel"]
    assert batch.column("tags").to_pylist() == [[1, 2], [], [3]]
    batch.validate(full=True)


def test_arrow_takes_what_a_transform_made_and_names_what_it_cannot() -> None:
    arrow = ArrowFormat(MIXED_SCHEMA, {})

    assert arrow({"image": np.zeros((2, 3), np.float32), "n": [1, 2]}).column("image").type.shape == [3]
    with pytest.raises(InputError, match="'x'"):
        arrow({"x": [object()]})


def test_gathered_rows_keep_their_nulls_in_a_batch_of_the_datasets_own_types() -> None:
    batch = as_record_batch(mixed_arrays(), MIXED_SCHEMA)  # type: ignore[arg-type]  # its arrays are those of a batch

    assert batch.schema == MIXED_SCHEMA.arrow()
    assert batch.column("weight").to_pylist() == [0.5, None, 1.5]
    assert batch.column("tags").to_pylist() == [[1, 2], [], [3]]
