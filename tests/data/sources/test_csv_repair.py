import pyarrow as pa
import pyarrow.csv
import pytest

from shoal.data.sources.csv_repair import find_faults
from shoal.data.sources.dtypes import dtype_text

NAMES = ("x", "t")


def read(data: bytes, schema: pa.Schema, amiss: list[pa.csv.InvalidRow] | None) -> pa.Table:
    def skip(row: pa.csv.InvalidRow) -> str:
        if amiss is None:
            return "error"
        amiss.append(row)
        return "skip"

    return pa.csv.read_csv(
        pa.BufferReader(data),
        pa.csv.ReadOptions(column_names=NAMES, use_threads=False),
        pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        pa.csv.ConvertOptions(column_types=schema, include_columns=schema.names),
    )


def faults_of(data: bytes, kind: pa.DataType) -> dict[int, str]:
    _, faults = find_faults(data, b",", pa.schema([("x", kind), ("t", pa.string())]), NAMES, read)
    return {index: reason for index, (reason, _) in faults.items()}


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (pa.int64(), b"-5", b"5.5"),
        (pa.int8(), b"127", b"128"),
        (pa.float32(), b"1e5", b"1e5e"),
        (pa.float64(), b"nan", b"1..5"),
        (pa.bool_(), b"true", b"yes"),
        (pa.timestamp("us"), b"2024-01-01 10:00:00.5", b"2024-13-01"),
    ],
    ids=str,
)
def test_finds_the_value_that_does_not_fit(kind: pa.DataType, good: bytes, bad: bytes) -> None:
    found = faults_of(b"\n".join([good + b",a", b",a", b"NULL,a", bad + b",a", good + b",a"]) + b"\n", kind)

    assert found == {3: f"column 'x' is {bad.decode()!r}, expected {dtype_text(kind)}"}


def test_finds_all_faults_of_a_block_at_once() -> None:
    data = b'1,a\n\n2\n3,"b\nc"\nx,d\n4,\xff\n5,e,f\n6,"never\n7,g\n'

    found = faults_of(data, pa.int64())

    assert sorted(found) == [1, 3, 4, 5, 6]
    assert found[1] == "it has 1 values, expected 2"
    assert found[5] == "it has 3 values, expected 2"
    assert found[6] == "a quoted value begins here and never ends"


def test_a_type_is_called_by_its_name_here() -> None:
    assert faults_of(b"1..5,a\n", pa.float64()) == {0: "column 'x' is '1..5', expected float64"}
