import numpy as np
import pyarrow as pa
import pytest

from shoal.base import InputError
from shoal.data.prepare.batches import Batches

ARROW = pa.record_batch({"n": pa.array([1, None, 3]), "t": pa.array(["a", "b", None]), "unused": pa.array([1, 2, 3])})


def test_arrays_say_their_own_types():
    batch = {
        "n": np.zeros(2, np.int8),
        "n_mask": np.ones(2, bool),
        "t": np.array(["a", None], object),
        "u": np.array(["a", "b"]),
        "b": np.array([b"1", None], object),
        "at": np.zeros(2, "datetime64[us]"),
        "image": np.zeros((2, 3, 4), np.uint8),
    }

    columns = Batches([batch]).schema.columns

    assert [(each.name, each.dtype, each.shape, each.nullable) for each in columns] == [
        ("n", "int8", (), True),
        ("t", "string", (), False),
        ("u", "string", (), False),
        ("b", "binary", (), False),
        ("at", "timestamp", (), False),
        ("image", "uint8", (3, 4), False),
    ]


def test_arrow_becomes_arrays_of_what_was_asked_for():
    (found,) = Batches([ARROW]).read(["n", "t"])

    assert found["n"].tolist() == [1, 0, 3]
    assert found["n_mask"].tolist() == [True, False, True]
    assert found["t"].tolist() == ["a", "b", None]
    assert set(found) == {"n", "n_mask", "t", "t_mask"}


def test_a_list_is_read_as_often_as_needed():
    batches = Batches([ARROW, ARROW])

    assert [len(list(batches.read(["n"]))) for _ in range(3)] == [2, 2, 2]


def test_an_iterator_is_read_once():
    batches = Batches(iter([ARROW, ARROW]))

    assert len(list(batches.read(["n"]))) == 2
    with pytest.raises(InputError, match=r"cannot read the batches 2 times.*give a dataset or a list"):
        list(batches.read(["n"]))


def test_a_dataset_is_read_as_it_is(dataset):
    batches = Batches(dataset)

    assert batches.schema == dataset.schema
    assert sum(len(batch["label"]) for batch in batches.read(["label"])) == 500


def test_no_rows_and_strange_values_are_refused():
    with pytest.raises(InputError, match="on no rows"):
        Batches([])
    with pytest.raises(InputError, match="column 'x' holds dict"):
        Batches([{"x": np.array([{}], object)}])
