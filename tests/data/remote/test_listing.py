import pytest

from shoal.base import NotFoundError, SourceError, UnsupportedError
from shoal.data import ingest
from shoal.data.remote.listing import list_url
from shoal.data.remote.reading import open_url

KEYS = ["day=1/a.csv", "day=1/b.json", "day=10/a.csv", "day=2/deep/c.csv", "top.csv"]


@pytest.fixture
def bucket(server, put):
    for key in KEYS:
        put(key, key.encode())
    return lambda path: server.s3_url(f"bucket/{path}")


def keys(urls):
    return [url.partition("?")[0].removeprefix("s3://bucket/") for url in urls]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", KEYS),
        ("day=1", KEYS[:2]),
        ("*.csv", ["top.csv"]),
        ("day=*/*.csv", ["day=1/a.csv", "day=10/a.csv"]),
        ("day=?/a.csv", ["day=1/a.csv"]),
        ("day=[!1]/**/*.csv", ["day=2/deep/c.csv"]),
        ("**/*.csv", ["day=1/a.csv", "day=10/a.csv", "day=2/deep/c.csv", "top.csv"]),
    ],
)
def test_lists_prefixes_and_patterns(bucket, retrier, asked, found):
    assert keys(list_url(bucket(asked).replace("bucket/?e", "bucket?e"), retrier=retrier)) == found


def test_what_is_listed_opens(bucket, retrier):
    for url, key in zip(list_url(bucket("**/*.csv"), retrier=retrier), ["day=1/a.csv"], strict=False):
        with open_url(url, retrier=retrier)[0] as file:
            assert file.read() == key.encode()


def test_nothing_found_is_an_error(bucket, retrier):
    with pytest.raises(NotFoundError, match=r"\*\.parquet"):
        list_url(bucket("*.parquet"), retrier=retrier)


def test_folders_list_too(tmp_path, retrier):
    (tmp_path / "a.csv").touch()
    (tmp_path / "b.txt").touch()

    assert list_url(f"file://{tmp_path}/*.csv", retrier=retrier) == [f"file://{tmp_path}/a.csv"]


def test_web_servers_do_not_list(server, retrier):
    with pytest.raises(UnsupportedError, match="cannot list"):
        list_url(server.url("bucket/*.csv"), retrier=retrier)


@pytest.mark.parametrize("pattern", ["clicks/*.csv", "clicks/", "**/*.csv"])
def test_files_in_a_bucket_are_ingested_by_a_pattern_or_a_folder(server, put, home, tmp_path, pattern):
    for day in range(3):
        rows = "".join(f"{day * 10 + index},text-{index}\n" for index in range(10))
        put(f"clicks/{day}.csv", f"n,t\n{rows}".encode())
    put("clicks/_SUCCESS", b"")
    place, _, options = server.s3_url("bucket/x").partition("x?")

    made = ingest(f"{place}{pattern}?{options}", tmp_path / "clicks")

    assert sorted(made.arrays(["n"])["n"].tolist()) == list(range(30))
    assert [source.num_rows for source in made.sources] == [10, 10, 10]
    assert [source.path.partition("?")[0] for source in made.sources] == [
        f"s3://bucket/clicks/{day}.csv" for day in range(3)
    ]


def test_a_bad_line_in_a_bucket_is_named_with_its_url(server, put, home, tmp_path):
    put("clicks/0.csv", b"n,t\n1,a\n2\n3,c\n")

    with pytest.raises(SourceError, match=r"s3://bucket/clicks/0\.csv.*line 3"):
        ingest(server.s3_url("bucket/clicks/*.csv"), tmp_path / "clicks")
