import gzip
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from shoal.base import SourceError, digest_file
from shoal.data.sources.inputs import Input
from shoal.data.sources.opening import open_source

Write = Callable[[str, bytes], Path]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a web server over the test's folder; it knows no ranges."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_streams_and_digests_in_one_pass(write: Write, size: int) -> None:
    path = write("a.bin", bytes(range(256)) * 100)
    file = Input(path)

    with file.stream() as stream:
        content = b"".join(iter(lambda: stream.read(size), b""))

    assert content == path.read_bytes()
    assert file.digest == digest_file(path)


def test_a_stream_that_is_not_read_to_its_end_has_no_digest(write: Write) -> None:
    file = Input(write("a.bin", b"abc" * 1_000))

    with file.stream() as stream:
        stream.read(5)

    assert file.digest is None


def test_the_digest_of_a_packed_file_is_that_of_its_bytes(write: Write) -> None:
    path = write("a.csv.gz", gzip.compress(b"abc" * 100_000))
    file = Input(path)

    with file.stream() as stream:
        while stream.read(1_000):
            pass

    assert file.suffix == ".csv"
    assert file.digest == digest_file(path)


def test_a_change_is_noticed(write: Write) -> None:
    file = Input(write("a.bin", b"abc"))

    with (
        pytest.raises(SourceError, match="was changed while it was read: it had 3 bytes, and now"),
        file.stream(),
    ):
        file.path.write_bytes(b"abcde")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"absent: there is no such file"), Input(tmp_path / "absent").stream():
        pass


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.parquet", "a.arrow"])
def test_reads_over_http_what_lies_on_a_disk(write: Write, served: str, tmp_path: Path, name: str) -> None:
    table = pa.table({"x": list(range(1_000))})
    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(table, tmp_path / name)
    elif name.endswith(".arrow"):
        with pa.ipc.new_file(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table)
    elif name.endswith(".jsonl"):
        write(name, b"".join(b'{"x":%d}\n' % x for x in range(1_000)))
    else:
        text = b"x\n" + b"".join(b"%d\n" % x for x in range(1_000))
        write(name, gzip.compress(text) if name.endswith(".gz") else text)
    source = open_source(f"{served}/{name}")

    found = pa.Table.from_batches(source.record_batches())

    assert found.column("x").to_pylist() == list(range(1_000))
    assert source.facts()[0].path == f"{served}/{name}"
    assert source.facts()[0].digest == digest_file(tmp_path / name)
