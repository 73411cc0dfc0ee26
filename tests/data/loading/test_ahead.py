import pytest

import shoal
from shoal.base import ConfigError, RemoteError

SHARDS = 8


@pytest.fixture
def clicks(server, home, make_rows):
    """A dataset of 800 rows in 8 shards in a bucket; its URL."""
    url = server.s3_url("bucket/clicks")
    shoal.data.ingest(make_rows(800), url, num_shards=SHARDS)
    return url


@pytest.fixture
def small_cache(clicks, home):
    """A fresh machine whose cache holds half of the dataset."""
    total = sum(shard.size_bytes for shard in shoal.data.open(clicks).shards)
    (home().parent / "shoal.toml").write_text(f"cache_bytes = {total // 2}\n")
    return shoal.data.open(clicks)


def users(loader):
    return [user for batch in loader for user in batch["user"]]


def counted_shards(server):
    return server.traffic.count("GET", "/shards/")


@pytest.mark.parametrize("options", [{"shuffle": True, "window": 2}, {"shuffle": False}], ids=["window", "stored"])
def test_the_next_window_is_fetched_and_each_shard_once(clicks, server, home, options):
    home()
    dataset = shoal.data.open(clicks)
    server.traffic.requests.clear()

    seen = users(dataset.loader(batch_size=50, format="numpy", **options))

    assert len(set(seen)) == 800
    assert counted_shards(server) == SHARDS


def test_data_larger_than_the_default_window_is_mixed_by_windows_and_each_shard_fetched_once(
    small_cache, server, monkeypatch
):
    monkeypatch.setattr("shoal.data.remote.prefetching.MIXED_BYTES", small_cache.shadow.cache.limit_bytes // 2)
    server.traffic.requests.clear()
    loader = small_cache.loader(batch_size=50, shuffle=True, format="numpy")

    seen = users(loader)

    assert len(set(seen)) == 800
    # One window more than the epoch has: that of the next epoch, which is on its way when the last batch is read.
    assert SHARDS <= counted_shards(server) <= SHARDS + loader.order.window


@pytest.mark.parametrize("mixed_bytes", [1 << 30, 20_000], ids=["all", "windows"])
def test_the_order_does_not_depend_on_what_a_machine_can_keep(clicks, home, monkeypatch, mixed_bytes):
    monkeypatch.setattr("shoal.data.remote.prefetching.MIXED_BYTES", mixed_bytes)
    total, states = sum(shard.size_bytes for shard in shoal.data.open(clicks).shards), []
    for limit in (total, 100 * total):
        (home().parent / "shoal.toml").write_text(f"cache_bytes = {limit}\n")
        states.append(shoal.data.open(clicks).loader(batch_size=50, shuffle=True, format="numpy").state_dict())

    assert states[0] == states[1]


@pytest.mark.parametrize("options", [{}, {"rank": 0, "world_size": 2}], ids=["alone", "ranks"])
def test_a_cache_smaller_than_the_default_window_is_refused_with_the_ways_out(small_cache, options):
    with pytest.raises(ConfigError, match="cannot shuffle all") as caught:
        small_cache.loader(batch_size=50, shuffle=True, format="numpy", **options)

    assert "cache_bytes" in caught.value.next_step
    assert "loader(window=" in caught.value.next_step


def test_a_window_larger_than_the_cache_is_warned_of(small_cache, caplog):
    small_cache.loader(batch_size=50, window=SHARDS, format="numpy")

    assert "window=8" in caplog.text


def test_the_batches_are_those_of_the_same_rows_in_a_folder(clicks, server, tmp_path):
    local = shoal.data.open(server.folder / "bucket" / "clicks")
    remote = shoal.data.open(clicks)

    assert users(remote.loader(batch_size=50, shuffle=True, format="numpy")) == users(
        local.loader(batch_size=50, shuffle=True, format="numpy")
    )


def test_a_full_shuffle_fetches_each_shard_once_several_at_a_time(clicks, server, home):
    home()
    dataset = shoal.data.open(clicks)
    server.traffic.requests.clear()

    seen = users(dataset.loader(batch_size=50, shuffle=True, format="numpy"))

    assert len(set(seen)) == 800
    assert counted_shards(server) == SHARDS


def test_a_store_that_is_gone_is_an_error_of_the_epoch_and_not_of_a_thread(clicks, server, home, retrier):
    home()
    dataset = shoal.data.open(clicks)
    dataset.shadow.store.retrier = retrier
    server.fail("status", "/shards/", times=10_000, status=503)

    with pytest.raises(RemoteError, match="shards/"):
        users(dataset.loader(batch_size=50, shuffle=True, format="numpy"))
