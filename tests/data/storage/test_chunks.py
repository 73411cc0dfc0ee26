import base64
import errno
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from shoal.base import CorruptError, UnsupportedError
from shoal.data.storage import chunks
from shoal.data.storage.chunks import ChunkChecks, checks_for, chunk_bytes_for, chunk_sums, map_file


@pytest.mark.parametrize(
    ("size_bytes", "chunk_bytes"), [(1, 1 << 16), (16 << 20, 1 << 16), ((16 << 20) + 1, 1 << 17), (64 << 20, 1 << 18)]
)
def test_chunks_are_the_smallest_power_of_two_that_gives_256(size_bytes: int, chunk_bytes: int) -> None:
    assert chunk_bytes_for(size_bytes) == chunk_bytes


@given(size_bytes=st.integers(1, 1 << 50))
def test_there_are_never_more_than_256_chunks(size_bytes: int) -> None:
    chunk_bytes = chunk_bytes_for(size_bytes)

    assert -(-size_bytes // chunk_bytes) <= 256
    assert chunk_bytes == 1 << 16 or -(-size_bytes // (chunk_bytes // 2)) > 256


def test_sums_are_of_consecutive_chunks_little_endian(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, 150_000, dtype=np.uint8)
    (tmp_path / "file").write_bytes(data.tobytes())

    sums, chunk_bytes = chunk_sums(tmp_path / "file")

    cut = [data[start : start + chunk_bytes].tobytes() for start in range(0, len(data), chunk_bytes)]
    assert base64.b64decode(sums) == b"".join(xxh3_64_intdigest(chunk).to_bytes(8, "little") for chunk in cut)
    assert chunk_sums(data) == (sums, chunk_bytes)


def checks_of(data: np.ndarray) -> ChunkChecks:
    sums, chunk_bytes = chunk_sums(data)
    return ChunkChecks(Path("file"), np.frombuffer(base64.b64decode(sums), "<u8"), chunk_bytes)


@given(start=st.integers(0, 299_999), num_bytes=st.integers(0, 200_000))
def test_a_check_covers_exactly_the_chunks_that_the_bytes_lie_in(start: int, num_bytes: int) -> None:
    data = np.zeros(300_000, np.uint8)
    checks = checks_of(data)
    stop = min(start + num_bytes, len(data))

    checks.check(data, start, stop)

    touched = {at >> 16 for at in range(start, stop, 1 << 12)} | ({(stop - 1) >> 16} if stop > start else set())
    assert set(np.flatnonzero(~checks.unchecked).tolist()) == touched


def test_damage_is_found_again_until_it_is_gone() -> None:
    data = np.zeros(200_000, np.uint8)
    checks = checks_of(data)
    data[140_000] = 1

    checks.check(data, 0, 131_072)
    for _ in range(2):
        with pytest.raises(CorruptError, match="file is damaged between bytes 131072 and 196608"):
            checks.check(data, 0, 200_000)
    data[140_000] = 0
    checks.check(data, 0, 200_000)

    assert not checks.unchecked.any()


def test_what_is_known_of_a_file_is_shared_until_it_changes() -> None:
    sums, chunk_bytes = chunk_sums(np.zeros(100, np.uint8))
    path = Path("somewhere")

    known = checks_for(path, (1,), sums, chunk_bytes)

    assert checks_for(path, (1,), sums, chunk_bytes) is known
    assert checks_for(path, (2,), sums, chunk_bytes) is not known


def test_a_mapped_file_is_read_only_and_closed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"rows")

    mapped = map_file(tmp_path / "file")

    assert bytes(mapped) == b"rows"
    assert not mapped.flags.writeable


def test_a_process_that_may_map_no_more_files_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(errno.ENOMEM, "no more", str(path))

    monkeypatch.setattr(chunks, "map_pages", refuse)

    with pytest.raises(UnsupportedError, match="map no more files") as caught:
        map_file(tmp_path / "file")

    assert "max_map_count" in caught.value.next_step


def test_what_a_process_remembers_is_bounded_by_what_was_used_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_MAX_KNOWN", 2)
    monkeypatch.setattr(chunks, "_known", OrderedDict())
    sums, chunk_bytes = chunk_sums(np.zeros(10, np.uint8))
    first, second = (checks_for(tmp_path / "f", (number,), sums, chunk_bytes) for number in (1, 2))
    assert checks_for(tmp_path / "f", (1,), sums, chunk_bytes) is first

    checks_for(tmp_path / "f", (3,), sums, chunk_bytes)

    assert checks_for(tmp_path / "f", (1,), sums, chunk_bytes) is first
    assert checks_for(tmp_path / "f", (2,), sums, chunk_bytes) is not second
