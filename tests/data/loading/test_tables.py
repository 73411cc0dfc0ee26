import numpy as np
import pytest

from shoal.data import Column
from shoal.data.loading.pieces import Piece
from shoal.data.loading.tables import FixedTables, tables_for

STARTS = np.array([0, 3, 5])
ROWS = np.array([4, 0, 5, 2, 3])
PLACES = np.array([1, 0, 2, 0, 1], np.int32)


def fixed(values: np.ndarray) -> Piece:
    return Piece(kind="fixed", dtype=values.dtype, values=values.reshape(len(values), -1).view(np.uint8))


def test_a_column_stored_alike_everywhere_stays_uniform() -> None:
    tables = tables_for(Column(name="x", dtype="int64"), STARTS)

    for stretch in range(3):
        tables.put(stretch, fixed(np.arange(3)))

    assert tables.is_uniform
    assert tables.number == np.int64


def test_rows_stored_in_several_types_or_not_at_all_become_one() -> None:
    tables = tables_for(Column(name="x", dtype="int64", nullable=True), STARTS)
    assert isinstance(tables, FixedTables)
    nothing = np.zeros(1, np.uint8)
    tables.put(0, fixed(np.array([1, -2, 3], np.int8)))
    tables.put(1, Piece(kind="absent", dtype=np.dtype(np.uint8), values=nothing, valid=nothing))
    tables.put(2, fixed(np.array([2**40])))
    out = np.full(5, 77, np.int64)

    tables.gather_mixed(ROWS, PLACES, out)

    assert not tables.is_uniform
    assert out.tolist() == [0, 1, 2**40, 3, 0]


def test_bits_become_booleans() -> None:
    tables = tables_for(Column(name="x", dtype="bool"), STARTS)
    assert isinstance(tables, FixedTables)
    for stretch, bits in enumerate([0b1010, 0b01, 0b1]):
        tables.put(
            stretch,
            Piece(kind="bits", dtype=np.dtype(np.uint8), values=np.array([bits], np.uint8), first_bit=stretch == 0),
        )
    out = np.empty(5, np.bool_)

    tables.gather_mixed(ROWS, PLACES, out)

    assert out.tolist() == [False, True, True, True, True]


@pytest.mark.parametrize("dtype", ["int64", "string"])
def test_addresses_are_those_of_the_rows(dtype: str) -> None:
    tables = tables_for(Column(name="x", dtype=dtype), STARTS)
    arrays = [np.arange(4, dtype=np.int64 if dtype == "int64" else np.int32) for _ in range(3)]
    for stretch, values in enumerate(arrays):
        items = np.zeros(9, np.uint8)
        piece = fixed(values) if dtype == "int64" else Piece(
            kind="variable", dtype=items.dtype, values=values, items=items
        )  # fmt: skip
        tables.put(stretch, piece)

    ((found, num_bytes),) = tables.addresses(ROWS, PLACES)

    local = ROWS - STARTS[PLACES]
    expected = [arrays[place][row:].__array_interface__["data"][0] for place, row in zip(PLACES, local, strict=True)]
    assert found.tolist() == expected
    assert num_bytes == 8
