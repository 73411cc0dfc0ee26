from pathlib import Path

import numpy as np
import pytest

from shoal.base import ConfigError
from shoal.data.loading.batch_cache import BatchCache
from shoal.data.remote.disk_cache import DiskCache

ROWS = np.arange(4)


def double(batch):
    return {"x": batch["x"] * 2}


def triple(batch):
    return {"x": batch["x"] * 3}


@pytest.fixture
def disk(tmp_path):
    return DiskCache(tmp_path / "batches", 1 << 20)


def counted(calls, batch):
    def make():
        calls.append(1)
        return batch

    return make


def make_batch():
    rng = np.random.default_rng(0)
    return {
        "x": rng.normal(size=(4, 3)).astype(np.float32),
        "label": np.arange(4),
        "flag": np.array([True, False, True, True]),
        "image": rng.integers(0, 256, (4, 2, 2), dtype=np.uint8),
        "none": np.empty((0, 2), np.int16),
    }


def test_a_kept_batch_comes_back_bit_for_bit_without_being_made_again(disk):
    calls: list[int] = []
    first = BatchCache(disk, {"seed": 0}, double).get((0, 0, 4), ROWS, counted(calls, make_batch()))
    again = BatchCache(disk, {"seed": 0}, double).get((0, 0, 4), ROWS, counted(calls, make_batch()))

    assert len(calls) == 1
    for name, values in make_batch().items():
        assert np.array_equal(first[name], values)
        assert np.array_equal(again[name], values)
        assert again[name].dtype == values.dtype


@pytest.mark.parametrize(
    ("identity", "code", "place", "rows"),
    [
        ({"seed": 1}, double, (0, 0, 4), ROWS),
        ({"seed": 0}, triple, (0, 0, 4), ROWS),
        ({"seed": 0}, double, (1, 0, 4), ROWS),
        ({"seed": 0}, double, (0, 0, 4), ROWS + 1),
    ],
    ids=["identity", "code", "epoch", "rows"],
)
def test_another_batch_is_never_taken_for_this_one(disk, identity, code, place, rows):
    calls: list[int] = []
    BatchCache(disk, {"seed": 0}, double).get((0, 0, 4), ROWS, counted(calls, make_batch()))
    BatchCache(disk, identity, code).get(place, rows, counted(calls, make_batch()))

    assert len(calls) == 2


def test_writing_into_a_batch_does_not_change_what_is_kept(disk):
    cache = BatchCache(disk, {})
    cache.get((0, 0, 4), ROWS, make_batch)["x"][:] = 0

    assert np.array_equal(cache.get((0, 0, 4), ROWS, make_batch)["x"], make_batch()["x"])


def test_batches_that_are_kept_hold_no_descriptors(disk):
    cache, before = BatchCache(disk, {}), len(list(Path("/dev/fd").iterdir()))

    kept = [cache.get((epoch, 0, 4), ROWS, make_batch) for epoch in range(20)]

    assert len(list(Path("/dev/fd").iterdir())) == before
    assert all(np.array_equal(batch["x"], make_batch()["x"]) for batch in kept)


def test_a_damaged_batch_is_made_again(disk):
    calls: list[int] = []
    cache = BatchCache(disk, {})
    cache.get((0, 0, 4), ROWS, counted(calls, make_batch()))
    (entry,) = (disk.folder / "entries").iterdir()
    data = bytearray(entry.read_bytes())
    data[-1] ^= 1
    entry.write_bytes(data)

    again = cache.get((0, 0, 4), ROWS, counted(calls, make_batch()))

    assert len(calls) == 2
    assert np.array_equal(again["image"], make_batch()["image"])


def test_batches_are_bounded_and_the_oldest_goes_first(tmp_path):
    disk = DiskCache(tmp_path, 3_000)
    cache = BatchCache(disk, {})
    for epoch in range(20):
        cache.get((epoch, 0, 4), ROWS, lambda: {"x": np.zeros(100)})

    assert 0 < disk.size_bytes <= 3_000


@pytest.mark.parametrize("value", [np.array(["a"], object), "text", np.array([1j])], ids=["text", "other", "complex"])
def test_what_is_no_numbers_is_refused_with_its_name(disk, value):
    with pytest.raises(ConfigError, match="'user' is"):
        BatchCache(disk, {}).get((0, 0, 1), ROWS[:1], lambda: {"user": value})
