import pytest

import shoal
from shoal.base import NotFoundError
from shoal.data import Preparation
from shoal.data.prepare import Standardise
from shoal.data.remote.place import RemotePlace


@pytest.fixture
def place(server, retrier):
    return RemotePlace(server.s3_url("bucket/mirror"), retrier=retrier)


def test_what_is_put_is_there_and_comes_back(place, tmp_path):
    (tmp_path / "a").write_bytes(b"abc")

    place.put("shards/a", tmp_path / "a")
    place.get("shards/a", tmp_path / "b")

    assert place.has("shards/a")
    assert (tmp_path / "b").read_bytes() == b"abc"


def test_what_was_not_put_is_not_there(place, tmp_path):
    assert not place.has("shards/a")
    with pytest.raises(NotFoundError):
        place.get("shards/a", tmp_path / "b")


def test_a_line_that_breaks_is_not_seen(place, server, tmp_path):
    (tmp_path / "a").write_bytes(bytes(100_000))
    place.put("a", tmp_path / "a")
    server.fail("truncate", "mirror/a")

    place.get("a", tmp_path / "b")

    assert (tmp_path / "b").read_bytes() == bytes(100_000)


@pytest.fixture(params=["s3", "file"])
def copy_url(request, server):
    """Where a mirror is kept, and the folder behind it."""
    path = server.folder / "bucket" / "copy"
    return (server.s3_url("bucket/copy") if request.param == "s3" else f"file://{path}"), path


def test_a_folder_is_mirrored_to_a_url_and_repaired_from_there(dataset, make_rows, copy_url):
    url, folder = copy_url
    grown = dataset.append(make_rows(30, seed=1), num_shards=2).prepare(Preparation({"weight": [Standardise()]}))
    grown.mirror(url)
    expected = sorted(grown.arrays(["user"])["user"].tolist())
    grown.shard_path(grown.shards[0]).unlink()
    for kind in ("shards", "profiles", "preparations", "versions"):
        next(path for path in (grown.path / kind).iterdir() if path.is_file()).write_bytes(b"x")

    assert 4 <= len(grown.repair()) <= 5

    again = shoal.data.open(grown.path)
    again.verify()
    assert sorted(again.arrays(["user"])["user"].tolist()) == expected
    assert (folder / "versions" / "000003.json").is_file()


def test_the_copy_at_a_url_opens_as_a_dataset(dataset, home, copy_url):
    dataset.mirror(copy_url[0])

    copy = shoal.data.open(copy_url[0])

    copy.verify()
    assert copy.digest == dataset.digest


def test_a_dataset_at_a_url_is_mirrored_whole_into_a_folder(dataset, make_rows, home, copy_url, tmp_path):
    dataset.append(make_rows(30, seed=1)).mirror(copy_url[0])

    shoal.data.open(copy_url[0]).mirror(tmp_path / "back")

    assert [version.num_rows for version in map(shoal.data.open, [tmp_path / "back", f"{tmp_path / 'back'}@1"])] == [
        530,
        500,
    ]


def test_names_are_those_of_one_folder(place, tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    place.put("versions/000001.json", tmp_path / "a")
    place.put("shards/a", tmp_path / "a")

    assert place.names("versions") == ["versions/000001.json"]
    assert place.names("profiles") == []


@pytest.fixture(params=["s3", "file"])
def any_place(request, server, retrier):
    url = server.s3_url("bucket/mirror") if request.param == "s3" else f"file://{server.folder}/bucket/mirror"
    return RemotePlace(url, retrier=retrier)


def test_bytes_from_memory_are_listed_read_and_removed(any_place):
    big = memoryview(bytearray(9 << 20))
    any_place.write("7/a & b", b"abc")
    any_place.write("7/big", big)

    assert [(facts.key, facts.size_bytes) for facts in any_place.facts()] == [("7/a & b", 3), ("7/big", 9 << 20)]
    assert any_place.read("7/big") == big
    any_place.remove(["7/a & b", "7/big", "7/never"])

    assert any_place.facts() == []
    any_place.remove([])


def test_an_address_leads_to_a_file_with_the_options_of_the_store(server):
    url = server.s3_url("bucket/mirror")

    assert RemotePlace(url).address("7") == str(RemotePlace(url.replace("mirror?", "mirror/7?")))


def test_where_nothing_was_written_nothing_is_found(any_place):
    assert any_place.facts() == []
