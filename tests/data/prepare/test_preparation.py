import numpy as np
import pytest

from shoal.base import InputError, SchemaError
from shoal.data import Preparation
from shoal.data.prepare import Bucketise, Cast, Clip, Standardise

BATCH = {"a": np.array([1.0, 3.0]), "b": np.array([5, 6]), "c": np.array(["x", "y"], object)}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, {"a", "b", "c"}), ({"keep": ["c"]}, {"a", "c"}), ({"keep": []}, {"a"}), ({"drop": ["c"]}, {"a", "b"})],
)
def test_other_columns_pass_as_asked(settings, expected):
    fitted = Preparation({"a": [Cast()]}, **settings).fit([BATCH])

    assert set(fitted.apply(BATCH)) == set(fitted.output_schema.names) == expected


@pytest.mark.parametrize("settings", [{"columns": {"z": [Cast()]}}, {"columns": {}, "keep": ["z"]}])
def test_an_unknown_column_is_named(settings):
    with pytest.raises(SchemaError, match="no column 'z' to prepare, keep or drop; the columns are a, b, c"):
        Preparation(**settings).fit([BATCH])


def test_keep_and_drop_exclude_each_other():
    with pytest.raises(InputError, match="were both given"):
        Preparation({}, keep=["a"], drop=["b"])


def test_a_class_is_no_operator():
    with pytest.raises(InputError, match=r"column 'a' has .*Standardise.*write the operators as values"):
        Preparation({"a": [Standardise]})


def test_a_wrong_declaration_costs_no_pass():
    class Unread(list):
        num_reads = 0

        def __iter__(self):
            self.num_reads += 1
            return super().__iter__()

    batches = Unread([BATCH])

    with pytest.raises(SchemaError, match="column 'c' of type string"):
        Preparation({"a": [Standardise()], "c": [Clip(0, 1)]}).fit(batches)

    assert batches.num_reads == 1  # to see the columns


def test_an_iterator_does_not_serve_for_two_passes():
    preparation = Preparation({"a": [Standardise(), Bucketise(num_buckets=2)]})

    with pytest.raises(InputError, match="they come from an iterator"):
        preparation.fit(iter([BATCH]))
    assert preparation.fit([BATCH]).apply(BATCH)["a"].dtype == np.int64


def test_a_preparation_of_nothing_passes_all():
    assert Preparation({}).fit([BATCH]).apply(BATCH) == BATCH


def test_the_declaration_is_kept_as_json(rentals_preparation):
    found = rentals_preparation.to_json()

    assert found["columns"][0]["operators"][0] == {
        "operator": "impute",
        "strategy": "median",
        "value": None,
        "indicator": True,
    }
    assert found["columns"][-1]["concatenate"][:2] == ["age", "age_missing"]


@pytest.mark.parametrize("argument", ["keep", "drop"])
def test_one_name_is_no_list_of_names(argument):
    with pytest.raises(InputError, match=f"{argument}='vip' must be a list of names"):
        Preparation({}, **{argument: "vip"})
