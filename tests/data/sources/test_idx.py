import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shoal.base import SourceError
from shoal.data.sources.idx import IdxFile

IMAGES = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
CONTENT = struct.pack(">4B3I", 0, 0, 8, 3, 5, 4, 3) + IMAGES.tobytes()


def read(path: Path, rows_per_block: int = 2) -> np.ndarray:
    return np.concatenate(list(IdxFile(path).blocks(rows_per_block)))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_streams_the_array(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "images"
    path.write_bytes(pack(CONTENT))

    blocks = list(IdxFile(path).blocks(2))

    assert [len(block) for block in blocks] == [2, 2, 1]
    assert np.array_equal(np.concatenate(blocks), IMAGES)


@pytest.mark.parametrize(("code", "dtype"), [(0x09, "i1"), (0x0B, "i2"), (0x0C, "i4"), (0x0D, "f4"), (0x0E, "f8")])
def test_reads_every_type_in_native_order(tmp_path: Path, code: int, dtype: str) -> None:
    values = np.array([1, -2, 100], dtype)
    path = tmp_path / "values"
    path.write_bytes(struct.pack(">4BI", 0, 0, code, 1, 3) + values.astype(f">{dtype}").tobytes())

    found = read(path)

    assert found.dtype == np.dtype(dtype)
    assert found.tolist() == values.tolist()


@pytest.mark.parametrize("num_bytes", range(0, len(CONTENT), 7))
def test_a_truncated_file_is_named_wherever_it_ends(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "cut"
    path.write_bytes(CONTENT[:num_bytes])

    with pytest.raises(SourceError, match=str(path)):
        read(path)


def test_a_truncated_file_says_how_many_items_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "cut"
    path.write_bytes(CONTENT[:-1])

    with pytest.raises(SourceError, match="ends after 4 of 5 items"):
        read(path)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.95])
def test_a_truncated_gzip_is_named(tmp_path: Path, keep: float) -> None:
    packed = gzip.compress(np.random.default_rng(0).bytes(20_000))
    whole = gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 25, 28, 28) + np.random.default_rng(0).bytes(19_600))
    path = tmp_path / "cut.gz"
    path.write_bytes(whole[: int(len(packed) * keep)])

    with pytest.raises(SourceError, match="gzip is damaged or truncated"):
        read(path)


def test_a_damaged_gzip_is_named(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(CONTENT))
    packed[-5] ^= 0xFF
    path = tmp_path / "damaged.gz"
    path.write_bytes(packed)

    with pytest.raises(SourceError, match="gzip is damaged"):
        read(path)


def test_bytes_after_the_last_item_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(CONTENT + b"x")

    with pytest.raises(SourceError, match="goes on after its 5 items"):
        read(path)


@pytest.mark.parametrize("start", [b"", b"PK\x03\x04", b"\0\0\x08\0", b"\0\0\x07\x01", b"\0\0\x08\xff", b"<htm"])
def test_a_wrong_beginning_is_shown(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(start + CONTENT[4:] if start else b"")

    with pytest.raises(SourceError, match=f"begins with {start.hex(' ') or 'nothing'}, expected"):
        IdxFile(path).header()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="absent: there is no such file"):
        IdxFile(tmp_path / "absent").header()


@pytest.mark.parametrize("sizes", [(5, 2**32 - 1, 2**32 - 1), (5, 0, 3)])
def test_a_header_that_claims_impossible_items_is_refused_before_memory_is_asked_for(
    tmp_path: Path, sizes: tuple[int, int, int]
) -> None:
    path = tmp_path / "images"
    path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, *sizes) + bytes(100))

    with pytest.raises(SourceError, match="claims items of"):
        read(path)
