import pyarrow as pa
import pytest

from shoal.base import InputError
from shoal.data.sources.dtypes import INSTANT, declared_types, dtype_text, joined_schema, joined_type

WHOLE, PART, TEXT, NONE = pa.int64(), pa.float64(), pa.string(), pa.null()


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        (WHOLE, WHOLE, WHOLE),
        (NONE, WHOLE, WHOLE),
        (WHOLE, NONE, WHOLE),
        (WHOLE, PART, PART),
        (PART, WHOLE, PART),
        (INSTANT, TEXT, TEXT),
        (pa.list_(WHOLE), pa.list_(PART), pa.list_(PART)),
        (pa.struct([("a", WHOLE)]), pa.struct([("a", PART), ("b", TEXT)]), pa.struct([("a", PART), ("b", TEXT)])),
    ],
    ids=str,
)
def test_the_narrowest_type_that_holds_both(first: pa.DataType, second: pa.DataType, joined: pa.DataType) -> None:
    assert joined_type(first, second) == joined


def test_what_nothing_holds_is_the_mixed_type_or_the_first() -> None:
    assert joined_type(WHOLE, TEXT) == WHOLE
    assert joined_type(pa.bool_(), WHOLE, TEXT) == TEXT


def test_columns_of_both_in_their_order() -> None:
    first, second = pa.schema([("a", WHOLE), ("b", NONE)]), pa.schema([("c", TEXT), ("b", PART)])

    assert joined_schema(first, second) == pa.schema([("a", WHOLE), ("b", PART), ("c", TEXT)])


def test_names_and_types_can_be_declared() -> None:
    assert declared_types({"a": "timestamp", "b": pa.int8()}) == {"a": INSTANT, "b": pa.int8()}
    assert declared_types(None) == {}


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"dtypes\['a'\]='number' must be one of int8, .*timestamp"):
        declared_types({"a": "number"})


def test_types_are_called_by_their_names_here() -> None:
    kinds = [pa.float64(), pa.float16(), pa.int8(), INSTANT, pa.date32()]

    assert [dtype_text(kind) for kind in kinds] == ["float64", "float16", "int8", "timestamp", "date32[day]"]
