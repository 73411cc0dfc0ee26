"""The IDX format of MNIST and its relatives: a big-endian header, then one array; gzipped or plain, streamed."""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from shoal.base import SourceError

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
# More dimensions than any image has: a header that claims them is not one.
_MAX_DIMS = 8
_MAX_ITEM_BYTES = 1 << 30
_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class IdxHeader:
    """What an IDX file says it holds: `num_rows` items of `shape` each."""

    dtype: np.dtype[Any]
    num_rows: int
    shape: tuple[int, ...]

    @property
    def item_bytes(self) -> int:
        """Bytes of one item."""
        return self.dtype.itemsize * math.prod(self.shape)

    @property
    def rows_per_block(self) -> int:
        """How many items make about 4 MiB."""
        return max(1, _BLOCK_BYTES // self.item_bytes)


class IdxFile:
    """An IDX file on disk; every reading opens it anew, so any number may go on at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def header(self) -> IdxHeader:
        """Read what the file claims to hold; SourceError when it is no IDX file."""
        with self._open() as stream:
            return self._read_header(stream)

    def blocks(self, rows_per_block: int) -> Iterator[NDArray[Any]]:
        """Yield all items in arrays of up to `rows_per_block`, native byte order.

        Raises:
            SourceError: the file ends early, goes on after its last item, or its gzip is damaged; the message names
                file, found and expected.
        """
        with self._open() as stream:
            header = self._read_header(stream)
            for start in range(0, header.num_rows, rows_per_block):
                num_rows = min(rows_per_block, header.num_rows - start)
                data = stream.read(num_rows * header.item_bytes)
                if len(data) != num_rows * header.item_bytes:
                    complete = start + len(data) // header.item_bytes
                    raise self._error(
                        f"it ends after {complete} of {header.num_rows} items", "get the file again: it is truncated"
                    )
                items = np.frombuffer(data, header.dtype).reshape(num_rows, *header.shape)
                yield items.astype(header.dtype.newbyteorder("="), copy=False)
            if stream.read(1):
                raise self._error(
                    f"it goes on after its {header.num_rows} items", "check where the file comes from, get it again"
                )

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        try:
            with self.path.open("rb") as raw:
                is_gzip = raw.read(2) == _GZIP_MAGIC
                raw.seek(0)
                if not is_gzip:
                    yield raw
                    return
                with gzip.GzipFile(fileobj=raw) as stream:
                    yield stream  # type: ignore[misc]  # GzipFile reads like any binary file, its stub says IO[bytes]
        except FileNotFoundError as error:
            raise self._error("there is no such file", "check the path") from error
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self._error(f"its gzip is damaged or truncated ({error})", "get the file again") from error

    def _read_header(self, stream: BinaryIO) -> IdxHeader:
        magic = stream.read(4)
        if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or not 1 <= magic[3] <= _MAX_DIMS:
            raise self._error(
                f"it begins with {magic.hex(' ') or 'nothing'}, expected 00 00, a type (08 to 0e) and a number of "
                f"dimensions (01 to {_MAX_DIMS:02x})",
                "give an IDX file, plain or gzipped",
            )
        sizes = stream.read(4 * magic[3])
        if len(sizes) < 4 * magic[3]:
            raise self._error("it ends inside its header", "get the file again: it is truncated")
        num_rows, *shape = struct.unpack(f">{magic[3]}I", sizes)
        header = IdxHeader(np.dtype(_DTYPES[magic[2]]), num_rows, tuple(shape))
        # Before any memory is asked for: sizes of 32 bits each can claim more than any machine has.
        if not 0 < header.item_bytes <= _MAX_ITEM_BYTES:
            raise self._error(
                f"its header claims items of {header.item_bytes} bytes, shape {shape}; expected 1 to {_MAX_ITEM_BYTES}",
                "check where the file comes from, get it again",
            )
        return header

    def _error(self, found: str, next_step: str) -> SourceError:
        return SourceError(f"cannot read IDX file {self.path}: {found}", next_step=next_step)
