import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shoal.data import Dataset, ingest
from shoal.data.versions.balance import balance_of, cuts


def test_says_rows_and_bytes_of_each_shard(dataset: Dataset) -> None:
    balance = balance_of(dataset.shards, None, dataset.profile)

    assert sum(balance.rows) == 500
    assert balance.bytes == tuple(shard.size_bytes for shard in dataset.shards)
    assert balance.rows_ratio == max(balance.rows) / 125
    assert balance.bytes_ratio >= 1
    assert balance.hot_keys == ()


def test_names_the_keys_that_outweigh_a_shard(tmp_path) -> None:
    users = np.concatenate([np.zeros(500, np.int64), np.arange(1, 501)])
    made = ingest({"user": users, "x": np.arange(1_000)}, tmp_path / "b", key="user", num_shards=4)

    (hot,) = balance_of(made.shards, made.key, made.profile).hot_keys

    assert (hot.value, hot.num_rows, hot.share) == ("0", 500, 0.5)


def test_even_rows_stay_in_one_piece_whatever_their_number() -> None:
    hashes = np.arange(1_000, dtype=np.uint64)

    assert cuts(hashes, 1_000_000, 10) == [(0, 1_000)]


def test_a_heavy_hash_is_cut_and_stands_alone() -> None:
    hashes = np.repeat(np.array([1, 5, 9], np.uint64), [10, 100, 10])

    found = cuts(hashes, size_bytes=1_200, target_bytes=250)

    assert found == [(0, 10), (10, 35), (35, 60), (60, 85), (85, 110), (110, 120)]


def test_twice_the_target_is_not_heavy_yet() -> None:
    hashes = np.full(100, 7, np.uint64)

    assert cuts(hashes, size_bytes=200, target_bytes=100) == [(0, 100)]


@given(
    counts=st.lists(st.integers(1, 300), min_size=1, max_size=20),
    target=st.integers(1, 5_000),
)
def test_pieces_cover_all_rows_once_and_are_small(counts: list[int], target: int) -> None:
    hashes = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
    size = 10 * len(hashes)

    found = cuts(hashes, size, target)

    assert [found[0][0], *(stop for _, stop in found)] == [start for start, _ in found] + [len(hashes)]
    assert all(start < stop for start, stop in found)
    for start, stop in found:
        if len(np.unique(hashes[start:stop])) == 1 and len(found) > 1 and counts[int(hashes[start])] > stop - start:
            assert (stop - start) * 10 <= max(target, 10)
