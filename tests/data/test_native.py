import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.data import native
from shoal.data.native import Table

compiled = pytest.mark.skipif(native.native is None, reason="this environment has no compiler")
pytestmark = compiled


def both(run: Callable[[], object]) -> tuple[object, object]:
    """What a function gives compiled, and what its twin gives."""
    fast = run()
    module, native.native = native.native, None
    try:
        return fast, run()
    finally:
        native.native = module


def same(run: Callable[[], np.ndarray]) -> np.ndarray:
    fast, slow = both(run)
    assert isinstance(fast, np.ndarray)
    assert isinstance(slow, np.ndarray)
    assert fast.dtype == slow.dtype
    assert fast.tobytes() == slow.tobytes()
    return fast


@given(bits=st.tuples(st.integers(1, 30), st.integers(1, 31)), data=st.data())
@settings(deadline=None, max_examples=60)
def test_permuting_is_the_same(bits: tuple[int, int], data: st.DataObject) -> None:
    domain = 1 << sum(bits)
    size = data.draw(st.integers(domain // 2 + 1, domain))
    start = data.draw(st.integers(0, size - 1))
    count = min(data.draw(st.integers(0, 700)), size - start)
    keys = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, 2**63, 8).astype(np.uint64)

    def run() -> np.ndarray:
        out = np.empty(count, np.int64)
        native.permute(start, size, bits, keys, out)
        return out

    assert same(run).max(initial=0) < size


@given(data=st.data(), lengths=st.lists(st.integers(0, 9), min_size=1, max_size=40))
@settings(deadline=None, max_examples=60)
def test_locating_is_the_same(data: st.DataObject, lengths: list[int]) -> None:
    lengths = [length + (50 if index == 3 else 0) for index, length in enumerate(lengths) if length] or [1]
    stops = np.cumsum(lengths)
    rows = np.array(data.draw(st.lists(st.integers(0, int(stops[-1]) - 1), max_size=60)), np.int64)

    def run() -> np.ndarray:
        places = np.empty(len(rows), np.int32)
        assert native.locate(rows, stops, places)
        return places

    places = same(run)
    assert all(stops[place] > row >= stops[place] - lengths[place] for row, place in zip(rows, places, strict=True))


@pytest.mark.parametrize("row", [-1, 7, 2**62])
def test_a_row_outside_is_in_no_stretch(row: int) -> None:
    def run() -> np.ndarray:
        return np.array(native.locate(np.array([0, row]), np.array([3, 7]), np.empty(2, np.int32)))

    assert not same(run)


def stretches(seed: int, num_stretches: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 20, num_stretches)
    return rng, lengths, np.concatenate([[0], np.cumsum(lengths)])


def chosen(rng: np.random.Generator, borders: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    rows = rng.integers(0, borders[-1], count)
    return rows, (np.searchsorted(borders, rows, side="right") - 1).astype(np.int32)


@given(
    seed=st.integers(0, 99),
    num_stretches=st.integers(1, 6),
    widths=st.lists(st.sampled_from([1, 2, 3, 4, 8, 12, 784, 5_000]), min_size=1, max_size=4),
    count=st.integers(0, 50),
)
@settings(deadline=None, max_examples=60)
def test_gathering_rows_is_the_same(seed: int, num_stretches: int, widths: list[int], count: int) -> None:
    rng, lengths, borders = stretches(seed, num_stretches)
    tables, whole = [], []
    for width in widths:
        table = Table(borders[:-1])
        views = [rng.integers(0, 256, (length, width), dtype=np.uint8) for length in lengths]
        for stretch, view in enumerate(views):
            table.put(stretch, view, row_bytes=width)
        tables.append(table)
        whole.append(np.concatenate(views))
    joined = native.rectangle(tables, widths)
    rows, places = chosen(rng, borders, count)

    def run() -> np.ndarray:
        outs = tuple(np.empty((count, width), np.uint8) for width in widths)
        native.gather_rows(rows, places, joined, outs)
        return np.concatenate(outs, axis=1)

    assert np.array_equal(same(run), np.concatenate([values[rows] for values in whole], axis=1))


@given(seed=st.integers(0, 99), num_stretches=st.integers(1, 6), count=st.integers(0, 50))
@settings(deadline=None, max_examples=40)
def test_gathering_bits_is_the_same(seed: int, num_stretches: int, count: int) -> None:
    rng, lengths, borders = stretches(seed, num_stretches)
    table, expected = Table(borders[:-1]), []
    for stretch, length in enumerate(lengths):
        first, flags = int(rng.integers(0, 9)), rng.integers(0, 2, length + 9, dtype=np.uint8)
        if stretch != 1:
            table.put(stretch, np.packbits(flags, bitorder="little"), row_bytes=0, first_bit=first)
        expected.append(np.ones(length, np.uint8) if stretch == 1 else flags[first : first + length])
    rows, places = chosen(rng, borders, count)

    def run() -> np.ndarray:
        out = np.empty(count, np.uint8)
        native.gather_bits(rows, places, table, out)
        return out

    assert np.array_equal(same(run), np.concatenate(expected)[rows])


@given(
    seed=st.integers(0, 99),
    num_stretches=st.integers(1, 6),
    width=st.sampled_from([4, 8]),
    item_bytes=st.sampled_from([1, 4]),
    count=st.integers(0, 50),
)
@settings(deadline=None, max_examples=60)
def test_gathering_rows_of_any_length_is_the_same(
    seed: int, num_stretches: int, width: int, item_bytes: int, count: int
) -> None:
    rng, lengths, borders = stretches(seed, num_stretches)
    offsets_table, items_table, expected = Table(borders[:-1]), Table(borders[:-1]), []
    for stretch, length in enumerate(lengths):
        offsets = np.concatenate([[5], 5 + np.cumsum(rng.integers(0, 30, length))]).astype(f"i{width}")
        items = rng.integers(0, 256, int(offsets[-1]) * item_bytes, dtype=np.uint8)
        offsets_table.put(stretch, offsets, row_bytes=width)
        items_table.put(stretch, items, row_bytes=0)
        expected += [items[low * item_bytes : high * item_bytes].tobytes() for low, high in pairwise(offsets)]
    rows, places = chosen(rng, borders, count)
    starts, offsets = np.empty(count, np.int64), np.empty(count + 1, np.int64)

    def find() -> np.ndarray:
        native.gather_offsets(rows, places, offsets_table, width, starts, offsets)
        return np.concatenate([starts, offsets])

    def pack() -> np.ndarray:
        out = np.empty(offsets[-1] * item_bytes, np.uint8)
        native.gather_items(starts, places, items_table, item_bytes, offsets, 0, out)
        return out

    def pad() -> np.ndarray:
        out = np.full((count, 30 * item_bytes), 77, np.uint8)
        native.gather_items(starts, places, items_table, item_bytes, offsets, 30, out)
        return out

    same(find)
    packed, padded = same(pack).tobytes(), same(pad)
    for index, row in enumerate(rows):
        low, high = offsets[index] * item_bytes, offsets[index + 1] * item_bytes
        assert packed[low:high] == expected[row]
        assert padded[index].tobytes() == expected[row].ljust(30 * item_bytes, b"\x4d")


@given(seed=st.integers(0, 99), num_stretches=st.integers(1, 5), count=st.integers(0, 20))
@settings(deadline=None, max_examples=40)
def test_the_same_chunks_are_found_pending(seed: int, num_stretches: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    shifts = rng.integers(2, 5, num_stretches)
    num_chunks = rng.integers(1, 30, num_stretches)
    firsts = np.concatenate([[0], np.cumsum(num_chunks)])
    pending = rng.random(firsts[-1]) < 0.5
    places = rng.integers(0, num_stretches, count).astype(np.int32)
    sizes = num_chunks[places] << shifts[places]
    starts = (rng.random(count) * sizes).astype(np.int64)
    stops = np.minimum(starts + rng.integers(0, 40, count), sizes)
    starts[::5] = -1

    fast, slow = both(lambda: set(native.find_pending(starts, stops, places, shifts, firsts, pending)))

    expected = {
        int(firsts[place]) + (at >> int(shifts[place]))
        for place, start, stop in zip(places, starts, stops, strict=True)
        for at in range(int(start), int(stop) if start >= 0 else -1)
    }
    assert fast == slow == {chunk for chunk in expected if pending[chunk]}


@given(seed=st.integers(0, 99), num_bits=st.integers(1, 20_000), density=st.sampled_from([0.001, 0.3, 1.0]))
@settings(deadline=None, max_examples=40)
def test_selecting_bits_is_the_same(seed: int, num_bits: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    flags = rng.random(num_bits) < density
    flags[: num_bits // 2] &= rng.random() < 0.5
    padded = np.zeros(-(-num_bits // 64) * 64, np.bool_)
    padded[:num_bits] = flags
    words = np.packbits(padded, bitorder="little").view(np.uint64)
    blocks = [int(flags[at : at + 4096].sum()) for at in range(0, num_bits, 4096)]
    ranks = np.concatenate([[0], np.cumsum(blocks)]).astype(np.int64)
    set_bits = np.flatnonzero(flags)
    ks = np.concatenate([rng.integers(0, max(len(set_bits), 1), 100), [-1, len(set_bits), 2**60]])

    found = same(lambda: native.select_bits(words, ranks, ks))

    expected = [set_bits[k] if 0 <= k < len(set_bits) else -1 for k in ks]
    assert found.tolist() == expected


def test_arrays_that_do_not_fit_are_refused_before_anything_is_written() -> None:
    table = Table(np.zeros(1, np.int64))
    table.put(0, np.zeros((4, 784), np.uint8), row_bytes=784)
    joined = native.rectangle([table], [784])
    rows, places = np.zeros(2, np.int64), np.zeros(2, np.int32)

    with pytest.raises(ValueError, match="another size"):
        native.gather_rows(rows, places, joined, (np.empty((1, 784), np.uint8),))
    with pytest.raises(ValueError, match="differ in number"):
        native.gather_rows(rows, places + 1, joined, (np.empty((2, 784), np.uint8),))
    with pytest.raises(ValueError, match="inside the domain"):
        native.permute(0, 10, (2, 1), np.zeros(8, np.uint64), np.empty(4, np.int64))


def test_without_the_compiled_part_the_user_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native, "native", None)
    native.warn_if_absent.cache_clear()

    native.warn_if_absent()
    native.warn_if_absent()

    native.warn_if_absent.cache_clear()
    assert [record.message for record in caplog.records if "install a C compiler" in record.message] == [
        caplog.records[0].message
    ]


@pytest.mark.parametrize("num_bytes", [0, 1, 5_000])
def test_mapping_a_file_is_the_same(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "ünder"
    path.write_bytes(bytes(range(256)) * 20)
    os.truncate(path, num_bytes)
    told = path.stat()

    fast, slow = both(lambda: native.map_pages(path))

    for memory, *key in (fast, slow):  # type: ignore[misc]
        assert memoryview(memory).readonly
        assert bytes(memory) == path.read_bytes()
        assert key == [told.st_mtime_ns, told.st_ctime_ns, told.st_ino]


def test_pages_outlive_the_name_and_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"rows")
    array = np.frombuffer(native.map_pages(path)[0], np.uint8)[1:]

    path.unlink()

    assert bytes(array) == b"ows"
    with pytest.raises(FileNotFoundError, match="file"):
        native.map_pages(path)
