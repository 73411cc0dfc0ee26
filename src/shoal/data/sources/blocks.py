"""A text in blocks of whole records: the pieces in which a file of any size is read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from shoal.base import SourceError
from shoal.data.sources.records import count_lines

# 16 MiB: large enough to keep several threads of the parser busy, small enough to hold a few.
BLOCK_BYTES = 16 << 20
_MAX_RECORD_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Block:
    """Whole records of one file; `first_line` is the number of its first line, counted from 1."""

    data: bytes
    first_line: int
    num_lines: int


def read_blocks(
    stream: Any,  # noqa: ANN401 - any object with `read`
    name: str,
    *,
    rest: bytes,
    first_line: int,
    cut: Callable[[bytes], int],
    block_bytes: int | None = None,
) -> Iterator[Block]:
    """Yield a stream's content from its line `first_line` on; `rest` was read from it before.

    Args:
        stream: has `read(size)`.
        name: the file, for messages.
        rest: bytes that come before what the stream still has.
        first_line: number of the line that `rest` begins with.
        cut: how many bytes of a text, which begins with a record, are whole records.
        block_bytes: how much to read at once; None: 16 MiB.

    Raises:
        SourceError: a record has more than 256 MiB.
    """
    while True:
        piece = stream.read(block_bytes or BLOCK_BYTES)
        data = rest + piece if rest else piece
        end = cut(data) if piece else len(data)
        if end:
            whole = data[:end]
            block = Block(whole, first_line, count_lines(whole))
            first_line += block.num_lines
            yield block
        rest = data[end:]
        if not piece:
            return
        if len(rest) > _MAX_RECORD_BYTES:
            raise SourceError(
                f"cannot read {name}: line {first_line} begins a record that has not ended after {len(rest)} bytes",
                next_step="check that line for a quote that is never closed, and the file for line ends",
            )
