import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pytest

from shoal.base import SourceError
from shoal.data import ArrowSource, Source
from shoal.testing import SourceContract

Rows = Callable[[Source], list[dict[str, object]]]


def as_stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return bytes(sink.getvalue())


def as_file(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return bytes(sink.getvalue())


class TestArrowSource(SourceContract):
    @pytest.fixture
    def make_source(self, tmp_path: Path, table: pa.Table) -> Callable[[], Source]:
        (tmp_path / "a.arrow").write_bytes(as_file(table))
        (tmp_path / "b.arrows").write_bytes(as_stream(table))
        return lambda: ArrowSource([tmp_path / "a.arrow", tmp_path / "b.arrows"])


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("make", [as_stream, as_file])
def test_reads_files_and_streams_packed_or_not(
    tmp_path: Path, table: pa.Table, rows_of: Rows, make: Callable[[pa.Table], bytes], pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "a.arrow").write_bytes(pack(make(table)))
    source = ArrowSource(tmp_path / "a.arrow")

    assert rows_of(source) == table.to_pylist()
    assert source.facts()[0].digest is not None


def test_reads_feather(tmp_path: Path, table: pa.Table, rows_of: Rows) -> None:
    pyarrow.feather.write_feather(table, str(tmp_path / "a.feather"))

    assert rows_of(ArrowSource(tmp_path / "a.feather")) == table.to_pylist()


@pytest.mark.parametrize("content", [b"", b"ARROW1", b"no arrow at all"])
def test_what_is_no_arrow_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.arrow").write_bytes(content)

    with pytest.raises(SourceError, match=r"a\.arrow"):
        list(ArrowSource(tmp_path / "a.arrow").record_batches())


def test_a_truncated_stream_is_named(tmp_path: Path, table: pa.Table) -> None:
    (tmp_path / "a.arrows").write_bytes(as_stream(table)[:-70])

    with pytest.raises(SourceError, match=r"a\.arrows"):
        list(ArrowSource(tmp_path / "a.arrows").record_batches())
