import io

import pyarrow as pa
import pyarrow.parquet
import pytest

from shoal.base import NotFoundError, RemoteError, SourceError, digest_bytes
from shoal.data import ingest
from shoal.data.remote.reading import open_url

SIZE = 1_000_000


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no-ranges"])
def test_reads_whole_objects_in_any_steps(url, put, server, retrier, ranges):
    data = put("x.bin", SIZE)
    server.ranges = ranges
    file, size = open_url(url("x.bin"), retrier=retrier)

    with file:
        pieces = list(iter(lambda: file.read(77_777), b""))

    assert size == SIZE
    assert b"".join(pieces) == data


def test_seeks_as_files_do(url, put, retrier):
    data = put("x.bin", SIZE)

    with open_url(url("x.bin"), retrier=retrier)[0] as file:
        file.seek(-100, io.SEEK_END)
        assert file.read() == data[-100:]
        file.seek(500_000)
        assert file.read(10) == data[500_000:500_010]
        assert file.tell() == 500_010
        file.seek(0)
        assert file.read(200_000) == data[:200_000]


def test_parquet_is_read_from_its_end(url, put, server, retrier):
    sink = io.BytesIO()
    pa.parquet.write_table(pa.table({"x": range(1_000)}), sink)
    put("x.parquet", sink.getvalue())

    with open_url(url("x.parquet"), retrier=retrier)[0] as file:
        assert pa.parquet.read_table(file).num_rows == 1_000


def test_an_empty_object_is_empty(url, put, retrier):
    put("x.bin", b"")

    with open_url(url("x.bin"), retrier=retrier)[0] as file:
        assert file.read() == b""


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no-ranges"])
@pytest.mark.parametrize("kind", ["stall", "reset", "truncate"])
def test_what_breaks_off_is_asked_for_again(url, put, server, retrier, kind, ranges):
    data = put("x.bin", SIZE)
    server.ranges = ranges
    server.fail(kind, times=2)

    with open_url(url("x.bin"), retrier=retrier)[0] as file:
        assert file.read() == data


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no-ranges"])
def test_never_ends_early(url, put, server, retrier, ranges):
    put("x.bin", SIZE)
    server.ranges = ranges
    file, _ = open_url(url("x.bin"), retrier=retrier)
    server.fail("truncate", times=10_000)

    with file, pytest.raises(RemoteError, match=r"x\.bin"):
        file.read()


def test_an_object_that_changes_meanwhile_is_an_error(url, put, server, retrier):
    put("x.bin", SIZE)
    file, _ = open_url(url("x.bin"), retrier=retrier)
    file.read(10)
    put("x.bin", SIZE)

    with file, pytest.raises(SourceError, match="changed while it was read"):
        file.read()


def test_a_signed_address_keeps_its_query(server, put, retrier):
    data = put("x.bin", 100)

    with open_url(server.url("bucket/x.bin") + "?signature=abc", retrier=retrier)[0] as file:
        assert file.read() == data

    assert server.traffic.count("GET", "signature=abc") == 1


def test_what_is_not_there_is_said_on_opening(url, retrier):
    with pytest.raises(NotFoundError, match="nothing"):
        open_url(url("nothing"), retrier=retrier)


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no-ranges"])
def test_parquet_at_a_url_is_ingested(url, put, server, tmp_path, ranges):
    sink = io.BytesIO()
    pa.parquet.write_table(pa.table({"x": range(1_000), "t": ["a", "b"] * 500}), sink, row_group_size=100)
    put("day/x.parquet", sink.getvalue())
    server.ranges = ranges

    made = ingest(url("day/x.parquet"), tmp_path / "rows")

    assert sorted(made.arrays(["x"])["x"].tolist()) == list(range(1_000))
    assert made.sources[0].digest == digest_bytes(sink.getvalue())
