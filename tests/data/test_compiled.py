"""The compiled loops and their twins in NumPy: the same bytes, and no loop reads beyond what it was given."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from xxhash import xxh3_64_intdigest

from shoal.data import compiled
from shoal.data.hashing import row_hashes, text_hashes
from shoal.data.schema import NUMBERS, schema_from_arrow
from shoal.data.statistics.histogram import NUM_BINS, count_bytes, sum_byte_rows, tally
from shoal.data.storage.reordering import Places, gather_rows, sort_rows

pytestmark = pytest.mark.skipif(compiled.statistics is None, reason="no compiler was at hand")


def both(make: Callable[[], Any]) -> Iterator[Any]:
    """What the loop gives, and what the twin gives."""
    yield make()
    loops, address = compiled.statistics, compiled.hash_address
    compiled.statistics = compiled.hash_address = None
    try:
        yield make()
    finally:
        compiled.statistics, compiled.hash_address = loops, address


@given(data=st.data(), dtype=st.sampled_from(sorted(NUMBERS)))
@settings(deadline=None, max_examples=60)
def test_numbers_are_counted_alike(data: st.DataObject, dtype: str) -> None:
    values = data.draw(hnp.arrays(dtype, st.integers(0, 50)))
    valid = data.draw(st.none() | hnp.arrays(np.bool_, len(values)))

    def make() -> tuple[object, ...]:
        histogram = np.zeros(NUM_BINS, np.uint64)
        found = tally(values, valid, histogram)
        return found if found.count else (found.count, found.missing), histogram.tobytes()

    loop, twin = both(make)
    assert loop == twin


@given(rows=hnp.arrays(np.uint8, st.tuples(st.integers(0, 9), st.integers(1, 40))))
@settings(deadline=None, max_examples=30)
def test_bytes_are_counted_and_summed_alike(rows: np.ndarray) -> None:
    for make in (lambda: sum_byte_rows(rows), lambda: (count_bytes(rows),)):
        loop, twin = both(make)
        assert all(np.array_equal(one, other) for one, other in zip(loop, twin, strict=True))


def test_long_rows_of_bytes_are_summed_without_overflow() -> None:
    rows = np.full((2, 200_000), 255, np.uint8)

    loop, twin = both(lambda: sum_byte_rows(rows))

    assert [part.tolist() for part in loop] == [part.tolist() for part in twin]


MIXED = pa.RecordBatch.from_pydict(
    {
        "i": pa.array([1, None, -3, 4, 5]),
        "u": pa.array([1, 2, 3, 4, 5], pa.uint8()),
        "b": pa.array([True, False, None, True, False]),
        "t": pa.array(["", "ä", None, "x" * 300, "y"]),
        "l": pa.array([[1.5], [], None, [2.5, 3.5], [4.5]], pa.list_(pa.float64())),
        "w": pa.array([1, 2, None, 4, 5], pa.timestamp("us")),
        "n": pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(15, dtype=np.int16).reshape(5, 3)),
    }
)


@pytest.mark.parametrize("key", [None, "u", "t", "n"])
def test_rows_are_hashed_alike(key: str | None) -> None:
    batch = MIXED.slice(1) if key is None else MIXED.slice(3)

    loop, twin = both(lambda: row_hashes(batch, schema_from_arrow(MIXED.schema), key).tolist())

    assert loop == twin


def test_texts_are_hashed_by_xxhash_itself() -> None:
    texts = ["", "a", "b" * 17, "c" * 5_000]

    assert text_hashes(pa.array(["no", *texts]).slice(1)).tolist() == [
        xxh3_64_intdigest(text.encode()) for text in texts
    ]


@given(keys=hnp.arrays(np.uint64, st.integers(0, 200), elements=st.sampled_from([0, 1, 2**11, 2**40, 2**64 - 1])))
@settings(deadline=None, max_examples=30)
def test_sorting_is_stable(keys: np.ndarray) -> None:
    assert rows_in_order(keys) == np.argsort(keys, kind="stable").tolist()


def rows_in_order(*parts: np.ndarray) -> list[int]:
    """The order that sorting gives, of rows numbered through all parts; its keys must be in it too."""
    places, keys = sort_rows(parts)
    starts = np.cumsum([0, *map(len, parts[:-1])])
    rows: list[int] = (starts[places.part] + places.row).tolist()

    assert np.array_equal(keys, np.concatenate(parts)[rows])
    return rows


def test_rows_are_gathered_alike_from_any_slices() -> None:
    schema = schema_from_arrow(MIXED.schema)
    parts = [MIXED.slice(1, 3), MIXED.slice(0, 2), MIXED.slice(4)]
    places = Places.of(np.array([5, 0, 2, 4, 3, 1, 0]), [part.num_rows for part in parts])

    loop, twin = both(lambda: pa.RecordBatch.from_arrays(gather_rows(parts, schema.columns, places), schema.names))

    assert loop.equals(twin)
    assert file_bytes(loop) == file_bytes(twin)
    assert loop.column("t").to_pylist() == ["y", "ä", "x" * 300, "ä", "", None, "ä"]


COLUMNS = st.sampled_from(
    [
        (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
        (pa.uint8(), st.integers(0, 255)),
        (pa.float16(), st.floats(width=16, allow_nan=False).map(np.float16)),
        (pa.float32(), st.floats(width=32, allow_nan=False)),
        (pa.bool_(), st.booleans()),
        (pa.timestamp("us"), st.integers(0, 2**50)),
        (pa.string(), st.text(max_size=40)),
        (pa.binary(), st.binary(max_size=70)),
        (pa.list_(pa.int16()), st.lists(st.integers(-9, 9), max_size=5)),
    ]
)


@given(data=st.data(), column=COLUMNS)
@settings(deadline=None, max_examples=200)
def test_any_column_is_gathered_and_hashed_alike(data: st.DataObject, column: tuple[pa.DataType, Any]) -> None:
    kind, values = column
    whole = pa.array(data.draw(st.lists(st.none() | values, min_size=1, max_size=300)), kind)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=3)))
    parts = [
        pa.RecordBatch.from_arrays([whole[start:stop]], ["x"])
        for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)
    ]
    order = np.array(data.draw(st.permutations(range(len(whole)))))
    places = Places.of(order, [part.num_rows for part in parts])
    schema = schema_from_arrow(parts[0].schema)

    loop, twin = both(lambda: pa.RecordBatch.from_arrays(gather_rows(parts, schema.columns, places), ["x"]))
    fast, slow = both(lambda: [row_hashes(part, schema, None).tolist() for part in parts])

    assert loop.equals(twin)
    assert file_bytes(loop) == file_bytes(twin)
    assert fast == slow


def file_bytes(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


# Offsets of a text that ends behind its data.
OUTSIDE = (np.array([0, 9], np.int32), b"abc")


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.count_bytes(b"abc", bytearray(7)),
        lambda c: c.sum_byte_rows(b"abcd", 2, bytearray(2048), bytearray(8), bytearray(16)),
        lambda c: c.count_numbers(b"\0" * 8, "q", b"", bytearray(8)),
        lambda c: c.count_numbers(b"\0" * 8, "x", None, bytearray(8 * NUM_BINS)),
        lambda c: c.hash_rows(1, 2, [("f", 8, b"\0" * 8, None, None)], bytearray(16)),
        lambda c: c.hash_rows(1, 1, [("t", 1, np.array([0, 9], np.int32), b"abc", None)], bytearray(8)),
        lambda c: c.hash_rows(1, 1, [("t", 1, np.array([2, 1], np.int32), b"abc", None)], bytearray(8)),
        lambda c: c.hash_rows(1, 1, [("?", 1, b"", b"", None)], bytearray(8)),
        lambda c: c.hash_rows(1, 1, ["no piece"], bytearray(8)),
        lambda c: c.sort_rows([(b"\0" * 16, None)], bytearray(32), bytearray(8), bytearray(8), bytearray(8)),
        lambda c: c.sort_rows([(b"\0" * 16, None)], bytearray(16), bytearray(8), bytearray(8), bytearray(16)),
        lambda c: c.sort_rows([(b"\0" * 16, None)], bytearray(32), bytearray(4), bytearray(8), bytearray(16)),
        lambda c: c.gather_fixed([(b"\0" * 8, None)], u32(0), u32(1), 8, bytearray(8)),
        lambda c: c.gather_fixed([(b"\0" * 8, None)], u32(1), u32(0), 8, bytearray(8)),
        lambda c: c.gather_fixed([b"no tuple"], u32(0), u32(0), 8, bytearray(8)),
        lambda c: c.gather_texts([OUTSIDE], u32(0), u32(0), 1, bytearray(8), bytearray(9)),
        lambda c: c.gather_texts([OUTSIDE], u32(0), u32(1), 1, bytearray(8), bytearray(9)),
        lambda c: c.gather_texts([OUTSIDE], u32(1), u32(0), 1, bytearray(8), bytearray(9)),
        lambda c: c.gather_texts([(np.array([2, 1], np.int32), b"abc")], u32(0), u32(0), 1, bytearray(8), bytearray(3)),
        lambda c: c.gather_texts([(np.array([0, 3], np.int32), b"abc")], u32(0), u32(0), 1, bytearray(4), bytearray(3)),
        lambda c: c.gather_texts([(None, None)], u32(0), u32(0), 1, bytearray(8), bytearray(3)),
        lambda c: c.gather_bits([(b"\0", None)], np.zeros(1, np.int64), u32(0), u32(8), bytearray(1)),
        lambda c: c.gather_bits([(b"\0", None)], np.zeros(1, np.int64), u32(1), u32(0), bytearray(1)),
        lambda c: c.gather_bits([(b"\0", None)], np.array([-1]), u32(0), u32(0), bytearray(1)),
        lambda c: c.gather_bits([(b"\0", None)], np.zeros(1, np.int64), u32(0), u32(0), bytearray(0)),
        lambda c: c.clear_rows(bytearray(9), 1, b"\0"),
    ],
)
def test_what_lies_outside_is_refused(call: Callable[[Any], object]) -> None:
    with pytest.raises((ValueError, IndexError, TypeError)):
        call(compiled.statistics)


def u32(value: int) -> np.ndarray:
    return np.array([value], np.uint32)


@given(
    keys=hnp.arrays(np.uint64, st.integers(0, 400), elements=st.integers(0, 2**64 - 1)),
    kept=st.sampled_from([2**64 - 1, 0xFF, 0xFFFF << 40, 0]),
    times=st.sampled_from([1, 40]),
)
@settings(deadline=None, max_examples=100)
def test_keys_of_any_spread_are_sorted_stably(keys: np.ndarray, kept: int, times: int) -> None:
    many = np.tile(keys & np.uint64(kept), times)

    halves = (many[: len(many) // 3], many[:0], many[len(many) // 3 :])
    (loop, _), (twin, _) = both(lambda: (rows_in_order(*halves), None))

    assert loop == twin == np.argsort(many, kind="stable").tolist()
