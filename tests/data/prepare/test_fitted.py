import pickle

import numpy as np
import pytest

from shoal.base import CorruptError, InputError, SchemaError, UnsupportedError
from shoal.data import FittedPreparation
from shoal.data.prepare import Cast, Concatenate, Preparation, Standardise
from shoal.data.prepare.fitted import FittedOn


@pytest.fixture(scope="module")
def fitted(rentals_preparation, make_rentals):
    found = rentals_preparation.fit([make_rentals(4_000)])
    return found.with_source(FittedOn(address="/data/rentals@1", digest="b3:1", num_rows=4_000))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_graph_gives_the_same_bits_on_real_batches(fitted, make_rentals, assert_same_bits, seed):
    batch = make_rentals(257, seed)

    prepared = assert_same_bits(fitted, batch)

    assert prepared["features"].shape == (257, 10)
    assert prepared["label"] is batch["label"]


def test_a_row_alone_is_prepared_as_in_a_batch(fitted, make_rentals):
    batch = make_rentals(50, seed=3)
    whole = fitted.apply(batch)

    for index in (0, 17, 49):
        alone = fitted.apply({name: values[index : index + 1] for name, values in batch.items()})
        assert all(alone[name].tobytes() == whole[name][index : index + 1].tobytes() for name in whole if name != "x")


def test_the_schema_tells_what_comes_out(fitted, make_rentals):
    prepared = fitted.apply(make_rentals(5))

    assert list(prepared) == list(fitted.output_schema.names)
    for column in fitted.output_schema.columns:
        assert (prepared[column.name].dtype, prepared[column.name].shape[1:]) == (column.numpy_dtype, column.shape)


def test_json_brings_it_back(fitted):
    found = FittedPreparation.from_json(fitted.to_json())

    assert found == fitted
    assert found.digest == fitted.digest
    assert found.to_json() == fitted.to_json()
    assert found.fitted_on.address == "/data/rentals@1"


def test_the_digest_tells_rows_and_numbers_apart_but_not_places(fitted):
    moved = fitted.with_source(FittedOn(address="/elsewhere@1", digest="b3:1", num_rows=4_000))
    other = fitted.with_source(FittedOn(address="/data/rentals@1", digest="b3:2", num_rows=4_000))

    assert moved.digest == fitted.digest != other.digest


def test_a_changed_number_is_found(fitted):
    text = fitted.to_json()

    with pytest.raises(CorruptError, match="was changed: its digest is"):
        FittedPreparation.from_json(text.replace('"upper": 8', '"upper": 9'))
    for damaged in (text[:200], "{}[", '{"format": 1}'):
        with pytest.raises(CorruptError, match="cannot read a preparation"):
            FittedPreparation.from_json(damaged)


def test_a_later_format_asks_for_a_newer_shoal(fitted):
    with pytest.raises(UnsupportedError, match=r"of format 2: this shoal reads 1.*newer shoal"):
        FittedPreparation.from_json(fitted.to_json().replace('"format": 1', '"format": 2'))


def test_a_part_takes_only_what_it_needs(fitted, make_rentals, assert_same_bits):
    part = fitted.select(["features", "label"])
    batch = make_rentals(9)
    needed = {name: batch[name] for name in batch if name.removesuffix("_mask") in part.input_schema.names}

    found = assert_same_bits(part, needed)

    assert set(part.input_schema.names) == {"age", "distance", "city", "duration", "is_member", "label"}
    assert set(found) == {"features", "label"}
    assert found["features"].tobytes() == fitted.apply(batch)["features"].tobytes()


def test_an_unknown_part_is_refused(fitted):
    with pytest.raises(SchemaError, match="no column 'age'; the columns are label"):
        fitted.select(["age"])


def test_a_missing_column_is_named(fitted, make_rentals):
    batch = make_rentals(3)
    del batch["duration"]

    with pytest.raises(InputError, match="column 'duration' is missing"):
        fitted.apply(batch)


def test_a_column_that_passes_may_be_absent(fitted, make_rentals):
    batch = make_rentals(3)
    del batch["label"]

    assert "label" not in fitted.apply(batch)


def test_a_mask_that_passes_stays():
    batch = {"a": np.arange(3.0), "b": np.arange(3), "b_mask": np.array([True, False, True])}

    fitted = Preparation({"a": [Standardise()]}).fit([batch])

    assert set(fitted.apply(batch)) == {"a", "b", "b_mask"}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [Cast()], "v": Concatenate(["a", "b"])}, "'v' concatenates 'b', which is not prepared"),
        ({"a": [Cast()], "b": Concatenate(["a"])}, "two columns would be called 'b'"),
    ],
)
def test_vectors_that_make_no_sense_are_refused(columns, message):
    with pytest.raises(SchemaError, match=message):
        Preparation(columns).fit([{"a": np.arange(3), "b": np.arange(3)}])


def test_it_travels_to_workers(fitted, make_rentals):
    batch = make_rentals(10)
    fitted.apply(batch)

    found = pickle.loads(pickle.dumps(fitted))

    assert found == fitted
    assert found.apply(batch)["features"].tobytes() == fitted.apply(batch)["features"].tobytes()
