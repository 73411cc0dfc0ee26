import bz2
import gzip
import io

import pyarrow as pa
import pytest

from shoal.base import SourceError
from shoal.data.sources.compression import compression_of, decompressed, uncompressed_name

TEXT = b"a line of text\n" * 10_000
PACKED = {
    "gzip": gzip.compress(TEXT),
    "zstd": pa.compress(TEXT, "zstd", asbytes=True),
    "bz2": bz2.compress(TEXT),
    "two gzips": gzip.compress(TEXT[:75_000]) + gzip.compress(TEXT[75_000:]),
}


def unpack(data: bytes) -> bytes:
    with decompressed(io.BytesIO(data), data[:16], "a.csv") as stream:
        return b"".join(iter(lambda: stream.read(1_000), b""))


@pytest.mark.parametrize("kind", PACKED)
def test_unpacks_by_the_first_bytes(kind: str) -> None:
    assert unpack(PACKED[kind]) == TEXT


def test_what_is_not_packed_stays() -> None:
    assert compression_of(TEXT) is None
    assert unpack(TEXT) == TEXT


@pytest.mark.parametrize("kind", ["gzip", "zstd", "bz2"])
@pytest.mark.parametrize("keep", [20, -4])
def test_what_ends_early_is_named(kind: str, keep: int) -> None:
    with pytest.raises(SourceError, match=rf"a\.csv: its {kind} data is damaged or truncated"):
        unpack(PACKED[kind][:keep])


@pytest.mark.parametrize(("name", "plain"), [("a.csv.gz", "a.csv"), ("a.csv", "a.csv"), ("a.JSONL.ZST", "a.JSONL")])
def test_names_lose_the_suffix_of_their_packing(name: str, plain: str) -> None:
    assert uncompressed_name(name) == plain
