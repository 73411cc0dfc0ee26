"""Files of text, one record a line, as a source: typed once for all files, read in blocks, bad records put aside."""

import io
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

import pyarrow as pa

from shoal.base import SourceError
from shoal.data.sources.ahead import ahead
from shoal.data.sources.base import REJECTS, OnBad, SchemaWidenedError
from shoal.data.sources.blocks import Block, read_blocks
from shoal.data.sources.compression import HEAD_BYTES, compression_of
from shoal.data.sources.facts import SourceFact
from shoal.data.sources.inputs import Input
from shoal.data.sources.positions import Breaks, Positions, mark

# Files up to this size have their types taken from all of their rows; larger ones from their begin and from places
# spread over them, and from the rest only if a value turns out not to fit.
_WHOLE_BYTES = 8 << 20
_HEAD_BYTES = 1 << 20
_SAMPLE_BYTES = 128 << 10
_NUM_SAMPLES = 24
_CAREFUL_BYTES = 1 << 20
_MAX_SAMPLED_FILES = 64
_NUMBERS = (pa.int64(), pa.float64())


@dataclass(frozen=True, slots=True)
class Bad:
    """A record that cannot be a row: where its first line is, why, and what it says."""

    line: int
    reason: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Parsed:
    """What came out of one block: good rows in order, where they stood, and the bad records between them."""

    table: pa.Table
    breaks: Breaks = ()
    bad: list[Bad] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Head:
    """What a file says before its first record: the names of its columns, and how much of it that took."""

    names: tuple[str, ...]
    num_bytes: int
    num_lines: int


class CareNeeded(Exception):  # noqa: N818 - a signal between two files, which no caller ever sees
    """Something is amiss in a block: it must be read record by record."""


class WideningNeeded(Exception):  # noqa: N818 - a signal between two files, which no caller ever sees
    """A block has values that the inferred types do not hold."""


class TextFormat(Protocol):
    """How one format of text is read; pure functions of bytes, so that any thread may call them."""

    def head(self, data: bytes, name: str) -> Head:
        """Read what stands before the first record."""
        ...

    def cut(self, data: bytes) -> int:
        """How many bytes of a text that begins with a record are whole records."""
        ...

    def infer(self, data: bytes, names: tuple[str, ...]) -> pa.Schema:
        """Return the types of the records' values, leaving out records that cannot be read."""
        ...

    def joined(self, first: pa.Schema, second: pa.Schema) -> pa.Schema:
        """Return the types that hold the values of both."""
        ...

    def parse(self, block: Block, names: tuple[str, ...], schema: pa.Schema) -> Parsed:
        """Return the rows of a block, typed as the schema says, as fast as can be.

        Raises:
            CareNeeded: something is amiss in it.
        """
        ...

    def repair(self, block: Block, names: tuple[str, ...], schema: pa.Schema) -> Parsed:
        """Return the good rows of a block in which something is amiss, and its bad records.

        Raises:
            WideningNeeded: an inferred type does not hold a value.
        """
        ...

    def may_be_sampled(self, data: bytes) -> bool:
        """Whether records can be found from any place of a file that begins with this text."""
        ...

    def finished(self, schema: pa.Schema) -> Callable[[pa.Table], pa.Table]:
        """Return what turns parsed tables into rows as they are given to the user."""
        ...


class TextSource:
    """Rows of one or several text files of one format, in order; can be read many times.

    Inferred types hold every value of all files: where a late value needs a wider type, SchemaWidenedError says so,
    and the next reading has it. Records that cannot be rows raise an error with their line, or are put aside
    (`on_bad`). One block is read ahead in a thread, so memory is a few blocks of 16 MiB.
    """

    def __init__(self, inputs: Sequence[Input], format: TextFormat, on_bad: OnBad = "raise") -> None:
        self.inputs = tuple(inputs)
        self.on_bad: OnBad = on_bad
        self._format = format
        self._schema: pa.Schema | None = None
        self._expected: dict[str, pa.DataType] = {}
        self._facts: list[SourceFact] = []
        self._bad: list[tuple[str, Bad]] = []

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of all files, in the given order.

        Raises:
            SourceError: a file is unreadable, or a record is bad and `on_bad` is "raise".
            SchemaWidenedError: an inferred type was too narrow; read again.
        """
        self._facts, self._bad = [], []
        finished = self._format.finished(self.parsed_schema())
        for file in self.inputs:
            num_rows = 0
            for block, parsed in ahead(self._parsed(file)):
                self._put_aside(file.name, parsed.bad)
                yield from _batches(finished(parsed.table), file.name, block.first_line, parsed.breaks)
                num_rows += parsed.table.num_rows
            if num_rows:
                self._facts.append(SourceFact(path=file.name, digest=file.digest, num_rows=num_rows))

    def facts(self) -> tuple[SourceFact, ...]:
        """Name each file that gave rows, with the digest of its bytes as they lie there."""
        return tuple(self._facts)

    def rejects(self) -> Iterator[pa.RecordBatch]:
        """Yield the bad records met since the last call; nothing when `on_bad` is "drop"."""
        bad, self._bad = self._bad, []
        if bad:
            columns = [
                [entry.reason for _, entry in bad],
                [name for name, _ in bad],
                [entry.line for _, entry in bad],
                [entry.content.decode(errors="backslashreplace") for _, entry in bad],
            ]
            arrays = [pa.array(values, kind.type) for values, kind in zip(columns, REJECTS, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=REJECTS)

    def expect(self, types: Mapping[str, pa.DataType]) -> None:
        """Read numbers as float32 where that is wanted: the nearest ones to what the text says."""
        self._expected = dict(types)

    def parts(self, num: int) -> "list[TextSource]":
        """Return about `num` sources of one or more files each, with the types that hold all files, in order."""
        found = []
        step = -(-len(self.inputs) // num)
        for start in range(0, len(self.inputs), step):
            part = TextSource(self.inputs[start : start + step], self._format, self.on_bad)
            part._schema = self.parsed_schema()
            found.append(part)
        return found

    def parsed_schema(self) -> pa.Schema:
        """The types of the columns as the text has them, inferred from samples where they are not declared."""
        if self._schema is None:
            spread = self.inputs[:: max(1, len(self.inputs) // _MAX_SAMPLED_FILES)]
            for file in spread:
                for found in self._sampled(file):
                    self._schema = found if self._schema is None else self._format.joined(self._schema, found)
            self._schema = None if self._schema is None else self._as_expected(self._schema)
        if self._schema is None or not self._schema.names:
            raise SourceError(
                f"cannot read {self.inputs[0].name}: it has no columns", next_step="check what the file holds"
            )
        return self._schema

    def _as_expected(self, schema: pa.Schema) -> pa.Schema:
        wanted = {name for name, kind in self._expected.items() if kind == pa.float32()}
        return pa.schema(
            [(one.name, pa.float32() if one.name in wanted and one.type in _NUMBERS else one.type) for one in schema]
        )

    def _sampled(self, file: Input) -> Iterator[pa.Schema]:
        with self._opened(file, _HEAD_BYTES) as (head, _, data, stream):
            size = file.size_bytes or 0
            if size <= _WHOLE_BYTES:
                data += stream.read(_WHOLE_BYTES)
            whole = data[: self._format.cut(data)] or data
            yield self._format.infer(whole, head.names)
        is_local = not file.is_remote and not _is_compressed(file)
        if size > _WHOLE_BYTES and is_local and self._format.may_be_sampled(data):
            with file.path.open("rb") as raw:
                for index in range(1, _NUM_SAMPLES + 1):
                    raw.seek(size * index // (_NUM_SAMPLES + 1))
                    piece = raw.read(_SAMPLE_BYTES)
                    whole = piece[piece.find(b"\n") + 1 : piece.rfind(b"\n") + 1]
                    if whole and self._format.may_be_sampled(whole):
                        yield self._format.infer(whole, head.names)

    @contextmanager
    def _opened(self, file: Input, num_bytes: int) -> Iterator[tuple[Head, int, bytes, Any]]:
        with file.stream() as stream:
            data = stream.read(num_bytes)
            file.check_text(data)
            data = data.removeprefix(b"\xef\xbb\xbf")
            head = self._format.head(data, file.name)
            yield head, 1 + head.num_lines, data[head.num_bytes :], stream

    def _parsed(self, file: Input) -> Generator[tuple[Block, Parsed]]:
        schema = self.parsed_schema()
        with self._opened(file, _HEAD_BYTES) as (head, first_line, data, stream):
            blocks = read_blocks(stream, file.name, rest=data, first_line=first_line, cut=self._format.cut)
            for block in blocks:
                try:
                    yield from self._careful(block, head.names, schema)
                except WideningNeeded:
                    self._widen(chain([block], blocks), head.names, file)

    def _careful(self, block: Block, names: tuple[str, ...], schema: pa.Schema) -> Iterator[tuple[Block, Parsed]]:
        try:
            yield block, self._format.parse(block, names, schema)
        except CareNeeded:
            if len(block.data) <= _CAREFUL_BYTES:
                yield block, self._format.repair(block, names, schema)
                return
            # Only the part around what is amiss pays for care: it costs ten times a plain reading.
            parts = read_blocks(
                io.BytesIO(block.data), "", rest=b"", first_line=block.first_line, cut=self._format.cut,
                block_bytes=_CAREFUL_BYTES // 2,
            )  # fmt: skip
            for part in parts:
                try:
                    yield part, self._format.parse(part, names, schema)
                except CareNeeded:
                    yield part, self._format.repair(part, names, schema)

    def _widen(self, blocks: Iterator[Block], names: tuple[str, ...], file: Input) -> None:
        before = self.parsed_schema()
        wider = before
        for block in blocks:
            wider = self._format.joined(wider, self._format.infer(block.data, names))
        for later in self.inputs[self.inputs.index(file) + 1 :]:
            with self._opened(later, _HEAD_BYTES) as (head, first_line, data, stream):
                for block in read_blocks(stream, later.name, rest=data, first_line=first_line, cut=self._format.cut):
                    wider = self._format.joined(wider, self._format.infer(block.data, head.names))
        self._schema = wider
        changed = [f"{one.name}: {one.type}" for one in wider if one not in list(before)]
        raise SchemaWidenedError(
            f"the types inferred so far do not hold a value of {file.name}; they are now {', '.join(changed)}",
            next_step="read it again from its start, or declare the types: shoal.data.CsvSource(path, dtypes={...})",
        )

    def _put_aside(self, name: str, bad: list[Bad]) -> None:
        if bad and self.on_bad == "raise":
            raise SourceError(
                f"cannot read {name}, line {bad[0].line}: {bad[0].reason}; the line is {_shown(bad[0].content)}",
                next_step='correct the line, or ingest with on_bad="quarantine" to keep the other rows',
            )
        if self.on_bad == "quarantine":
            self._bad += [(name, entry) for entry in bad]


def _is_compressed(file: Input) -> bool:
    with file.path.open("rb") as raw:
        return compression_of(raw.read(HEAD_BYTES)) is not None


def _shown(content: bytes) -> str:
    text = content[:200].decode(errors="backslashreplace")
    return repr(text + "..." if len(content) > len(text) else text)


def _batches(table: pa.Table, name: str, first_line: int, breaks: Breaks) -> Iterator[pa.RecordBatch]:
    positions, starts = Positions(name, first_line, "line", breaks), [index for index, _ in breaks]
    start = 0
    for batch in table.to_batches():
        if batch.num_rows == 0:
            continue
        # By search: a file with line ends in every value has as many breaks as rows.
        inside = breaks[bisect_right(starts, start) : bisect_left(starts, start + batch.num_rows)]
        own = tuple((index - start, line) for index, line in inside)
        yield mark(batch, Positions(name, positions[start], "line", own))
        start += batch.num_rows
