"""The compiled parser and Arrow's: the same rows, or none; and no text makes it read beyond what it was given."""

import json
import math
import struct
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shoal.data import compiled
from shoal.data.sources.blocks import Block
from shoal.data.sources.csv import CsvFormat
from shoal.data.sources.jsonl import JsonlFormat
from shoal.data.sources.plain_text import JSON, parse_plain
from shoal.data.sources.records import count_byte, count_lines
from shoal.data.sources.text import CareNeeded, Parsed, TextFormat

needs_compiler = pytest.mark.skipif(compiled.parsing is None, reason="no compiler was at hand")

NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.floats().map(repr),
    st.floats(width=32).map(repr),
    st.from_regex(r"-?[0-9]{0,20}(\.[0-9]{0,20})?([eE][+-]?[0-9]{0,4})?", fullmatch=True),
)
INSTANTS = st.one_of(
    st.datetimes().map(str),
    st.datetimes().map(lambda value: value.isoformat(timespec="milliseconds")),
    st.from_regex(
        r"(19|20)[0-9]{2}-[0-3][0-9]-[0-3][0-9][ T][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{3,9})?Z?", fullmatch=True
    ),
)
WORDS = st.sampled_from(
    ["", "true", "false", "True", "FALSE", "1", "0", "null", "NULL", "NaN", "nan", "NA", "inf", " 1", "+1", "01"]
)
TYPES = [pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("us"), pa.string(), pa.float32(), pa.int32()]


def by_arrow(format: TextFormat, block: Block, schema: pa.Schema, monkeypatch: pytest.MonkeyPatch) -> Parsed | None:
    with monkeypatch.context() as patched:
        patched.setattr(compiled, "parsing", None)
        try:
            return format.parse(block, tuple(schema.names), schema)
        except CareNeeded:
            return None


def check(format: TextFormat, data: bytes, schema: pa.Schema, found: pa.Table | None) -> None:
    # Formats take white space alone for no rows, before they ask any parser.
    if found is None or data.isspace():
        return
    with pytest.MonkeyPatch.context() as patched:
        expected = by_arrow(format, Block(data, 1, count_lines(data)), schema, patched)
    assert expected is not None, data
    assert expected.breaks == ()
    assert found.schema == expected.table.schema
    found.validate(full=True)
    for mine, theirs in zip(found.columns, expected.table.combine_chunks().columns, strict=True):
        assert mine.null_count == theirs.null_count, data
        if pa.types.is_floating(mine.type):
            # Bits, so that the zero with a sign is another one.
            one, other = (column.fill_null(0.5).to_numpy().tobytes() for column in (mine, theirs))
            assert one == other, data
        assert mine.equals(theirs), data


@needs_compiler
@given(data=st.data(), kind=st.sampled_from(TYPES), delimiter=st.sampled_from(",;\t"))
@settings(deadline=None, max_examples=300)
def test_csv_means_what_it_means_to_arrow(data: st.DataObject, kind: pa.DataType, delimiter: str) -> None:
    texts = st.text(st.sampled_from('ab1 é€😀",;\t\r\n'), max_size=6)
    values = data.draw(st.lists(st.tuples(texts, NUMBERS | INSTANTS | WORDS | texts), max_size=6))
    quote = data.draw(st.booleans())
    lines = []
    for text, value in values:
        fields = ['"' + field.replace('"', '""') + '"' if quote else field for field in (text, value)]
        lines.append(delimiter.join(fields))
    content = data.draw(st.sampled_from(["\n", "\r\n"])).join(lines).encode()
    schema = pa.schema([("text", pa.string()), ("value", kind)])
    format = CsvFormat(delimiter=delimiter)

    found = parse_plain(content, count_lines(content), schema, delimiter, [b"NA", b"NULL", b"NaN", b"nan", b"null"])

    check(format, content, schema, found)


@needs_compiler
@given(data=st.data(), kind=st.sampled_from(TYPES))
@settings(deadline=None, max_examples=300)
def test_json_means_what_it_means_to_arrow(data: st.DataObject, kind: pa.DataType) -> None:
    texts = st.text(max_size=6)
    raw = NUMBERS | WORDS | (INSTANTS | texts).map(json.dumps)
    rows = data.draw(st.lists(st.tuples(texts, raw, st.booleans(), st.integers(0, 3)), max_size=6))
    lines = []
    for text, value, is_ascii, form in rows:
        whole = f'"text": {json.dumps(text, ensure_ascii=is_ascii)}'
        lines.append(
            [f'{{{whole}, "value": {value}}}', f'{{"value":{value} ,{whole} }} ', f'{{ "value" : {value}}}', "{}"][form]
        )
    content = "\n".join(lines).encode()
    schema = pa.schema([("text", pa.string()), ("value", kind)])

    found = parse_plain(content, count_lines(content), schema, JSON)

    check(JsonlFormat(), content, schema, found)


@needs_compiler
@given(content=st.binary(max_size=40), delimiter=st.sampled_from([",", JSON]), kind=st.sampled_from(TYPES))
@settings(deadline=None, max_examples=300)
@example(content=b'{"a":"\xf4\x90\x80\x80"}', delimiter=JSON, kind=pa.string())
@example(content=b'{"a":"\\ud800"}', delimiter=JSON, kind=pa.string())
@example(content=b'{"a":1,"a":2}', delimiter=JSON, kind=pa.int64())
@example(content=b'{"a":1}{"a":2}', delimiter=JSON, kind=pa.int64())
def test_any_bytes_mean_what_they_mean_to_arrow(content: bytes, delimiter: str, kind: pa.DataType) -> None:
    schema = pa.schema([("a", kind)])

    found = parse_plain(content, count_lines(content), schema, delimiter)

    check(JsonlFormat() if delimiter == JSON else CsvFormat(), content, schema, found)


@needs_compiler
@given(bits=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=50), digits=st.integers(15, 19))
@settings(deadline=None, max_examples=200)
def test_floats_are_the_nearest_ones(bits: list[int], digits: int) -> None:
    values = [
        value for value in (struct.unpack("<d", struct.pack("<Q", each))[0] for each in bits) if math.isfinite(value)
    ]
    # Exponents that the table has, and texts near the middle between two floats.
    texts = [repr(math.ldexp(math.frexp(value)[0], index % 90 - 45)) for index, value in enumerate(values)]
    texts += [f"{float(text):.{digits - 1}e}" for text in texts]
    content = "".join(f"{text}\n" for text in texts).encode()

    found = parse_plain(content, len(texts), pa.schema([("x", pa.float64())]), ",")

    if texts:
        assert found is not None
        assert found["x"].to_pylist() == [float(text) for text in texts]


@needs_compiler
@given(
    bits=st.integers(2**52, 2**63 - 2**52),
    zeros=st.integers(0, 8),
    more=st.integers(0, 99),
    sign=st.sampled_from(["", "-"]),
)
@settings(deadline=None, max_examples=300)
@example(bits=0x3FF0000000000000, zeros=0, more=0, sign="")
def test_digits_beyond_64_bits_are_rounded_right_or_left_alone(bits: int, zeros: int, more: int, sign: str) -> None:
    low, high = (struct.unpack("<d", struct.pack("<Q", bits + step))[0] for step in (0, 1))
    # Where rounding turns from one float to the next, to the last digit and one beyond; and numbers of plain size.
    middle = Decimal(low) / 2 + Decimal(high) / 2
    texts = [
        f"{middle:f}",
        f"{middle:f}{more}",
        f"{Decimal(low) * (10**zeros):.25e}",
        "0." + "0" * zeros + f"{bits}{more}",
    ]
    texts = [sign + text for text in texts if "." in text and len(text) < 400]

    for text in texts:
        found = parse_plain(f"{text}\n".encode(), 1, pa.schema([("x", pa.float64())]), ",")

        assert found is None or found["x"].to_pylist() == [float(text)], text


@needs_compiler
def test_zeros_in_front_do_not_count_as_digits() -> None:
    texts = ["0.0002002716064453125", "0.00000000000000012345678901234567", "0.10000000000000000000000000", "-0.0"]

    found = parse_plain("".join(f"{text}\n" for text in texts).encode(), 4, pa.schema([("x", pa.float64())]), ",")

    assert found is not None
    assert list(map(repr, found["x"].to_pylist())) == [repr(float(text)) for text in texts]


@needs_compiler
def test_whole_numbers_reach_to_both_ends() -> None:
    schema = pa.schema([("x", pa.int64())])
    ends = [2**63 - 1, -(2**63), 10**18, -(10**18), 0]

    found = parse_plain("".join(f"{end}\n" for end in ends).encode(), 5, schema, ",")

    assert found is not None
    assert found["x"].to_pylist() == ends
    for beyond in (2**63, -(2**63) - 1, 2**64, 10**19, 10**40):
        assert parse_plain(f"{beyond}\n".encode(), 1, schema, ",") is None


@needs_compiler
def test_a_delimiter_that_numbers_have_in_them_is_left_to_arrow() -> None:
    assert parse_plain(b"213\n", 1, pa.schema([("x", pa.int64()), ("y", pa.int64())]), "1") is None


@needs_compiler
@given(
    texts=st.lists(st.text(st.sampled_from('ab"\\\té€😀\x1f{}:,'), max_size=40), min_size=1, max_size=4),
    names=st.lists(st.text(st.sampled_from("abé_"), max_size=12), min_size=1, max_size=4, unique=True),
)
@settings(deadline=None, max_examples=200)
def test_texts_of_any_length_and_keys_of_any_length_come_back(texts: list[str], names: list[str]) -> None:
    rows = [dict.fromkeys(names[: 1 + index], text) for index, text in enumerate(texts)]
    content = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
    schema = pa.schema([(name, pa.string()) for name in names])

    found = parse_plain(content, len(rows), schema, JSON)

    assert found is not None
    assert found.to_pylist() == [{name: row.get(name) for name in names} for row in rows]


@needs_compiler
def test_every_day_of_a_century_is_the_right_one() -> None:
    days = np.arange("1890-01-01", "2110-01-01", dtype="datetime64[D]")
    content = "".join(f"{day} 01:02:03\n" for day in days).encode()

    found = parse_plain(content, len(days), pa.schema([("when", pa.timestamp("us"))]), ",")

    assert found is not None
    assert (found["when"].to_numpy() == days + np.timedelta64(3_723, "s")).all()


@needs_compiler
def test_plain_rows_are_read_without_arrow() -> None:
    csv = b'1,0.5,"a ""b""",true,2026-11-21 09:30:00.25\n'
    content = csv.replace(b".25", b"") + b"NA,,,,\n"
    schema = pa.schema([("i", pa.int64()), ("f", pa.float64()), ("t", pa.string()), ("b", pa.bool_()), ("w", TYPES[3])])

    found = parse_plain(content, 2, schema, ",", [b"NA"])

    assert found is not None
    assert found["t"].to_pylist() == ['a "b"', ""]
    assert [found[name].null_count for name in "iftbw"] == [1, 1, 0, 1, 1]
    assert parse_plain(csv, 1, schema, ",") is None


@needs_compiler
def test_a_table_without_room_is_refused() -> None:
    few = np.zeros(4, np.uint8)

    with pytest.raises(ValueError, match="room for 2 rows"):
        compiled.parsing.parse(b"1\n2\n", ",", 2, [("q", few, few, few, b"x")], [], np.zeros(258, np.uint64))  # type: ignore[union-attr]


def test_without_a_compiler_arrow_reads_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "parsing", None)

    assert parse_plain(b"1\n", 1, pa.schema([("x", pa.int64())]), ",") is None


@given(content=st.binary(max_size=100), times=st.integers(1, 700))
@settings(deadline=None, max_examples=50)
def test_bytes_are_counted_with_and_without_a_compiler(content: bytes, times: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        found = count_byte(content * times, 10)
        patched.setattr(compiled, "parsing", None)

        assert found == count_byte(content * times, 10) == (content * times).count(b"\n")
