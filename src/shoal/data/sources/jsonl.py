"""JSON Lines files as a source: one object a line, nested objects as columns with dots in their names."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.json

from shoal.base import SchemaError, SourceError
from shoal.data.sources.base import OnBad
from shoal.data.sources.blocks import Block
from shoal.data.sources.dtypes import INSTANT, Dtypes, declared_types, joined_schema
from shoal.data.sources.finding import find_inputs
from shoal.data.sources.flattening import Flattening
from shoal.data.sources.json_repair import find_faults
from shoal.data.sources.plain_text import JSON, parse_plain
from shoal.data.sources.records import cut_lines, find_records
from shoal.data.sources.text import Bad, CareNeeded, Head, Parsed, TextSource, WideningNeeded

_PARSER_BYTES = 1 << 20


class JsonlSource(TextSource):
    """Rows of JSON Lines files: one object a line; keys may be missing, and then have no value.

    Objects inside objects become columns "outer.inner"; lists of numbers are list columns. A key's type is the
    narrowest that holds all its values; where some are text and others numbers, the kind met first counts, and
    rows with the other kind are bad.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        dtypes: Dtypes | None = None,
        on_bad: OnBad = "raise",
    ) -> None:
        """Say which files.

        Args:
            paths: a file, several, a pattern such as "clicks/*.jsonl", a folder of them, or URLs; gzip and zstd are
                seen.
            dtypes: types by column, as in `Column.dtype`, for keys of the outermost object; the others are inferred.
            on_bad: what happens to lines that cannot be rows.

        Raises:
            SourceError: no such file.
        """
        super().__init__(
            find_inputs(paths, (".jsonl", ".ndjson", ".json")), JsonlFormat(declared_types(dtypes)), on_bad
        )


@dataclass(frozen=True, slots=True)
class JsonlFormat:
    """How JSON Lines are read, and the types that the user declares."""

    declared: dict[str, pa.DataType] = field(default_factory=dict)

    def head(self, data: bytes, name: str) -> Head:
        """Nothing stands before the first record; a JSON array is told from lines of JSON.

        Raises:
            SourceError: the file is one array.
        """
        if data.lstrip()[:1] == b"[":
            raise SourceError(
                f"cannot read {name}: it is one JSON array, expected one object a line",
                next_step=f"write each element as a line, for example with jq -c '.[]' {name}",
            )
        return Head((), 0, 0)

    def cut(self, data: bytes) -> int:
        """How many bytes are whole lines: JSON has no line ends inside strings."""
        return cut_lines(data)

    def infer(self, data: bytes, names: tuple[str, ...]) -> pa.Schema:  # noqa: ARG002 - the keys are the names
        """Return declared types, and for other keys the narrowest that hold their values."""
        records = find_records(data)
        return self._declare(self._infer(data, records.starts, records.ends))

    def joined(self, first: pa.Schema, second: pa.Schema) -> pa.Schema:
        """Return the types that hold both; where none does, the first."""
        return joined_schema(first, second)

    def parse(self, block: Block, names: tuple[str, ...], schema: pa.Schema) -> Parsed:  # noqa: ARG002
        """Return a block's rows, all at once.

        Raises:
            CareNeeded: a line is malformed, or a value does not fit its key's type.
        """
        if block.data.isspace():
            return Parsed(schema.empty_table())
        if (plain := parse_plain(block.data, block.num_lines, schema, JSON)) is not None:
            return Parsed(plain)
        try:
            # Arrow's parser takes any bytes for text: what is no UTF-8 would come to light much later.
            table = self._read(block.data, schema) if _is_utf8(block.data) else None
        except (pa.ArrowException, UnicodeDecodeError):
            table = None
        if table is not None and table.num_rows == block.num_lines:
            return Parsed(table)
        records = find_records(block.data)
        if table is not None and table.num_rows == len(records):
            return Parsed(table, records.breaks(None, block.first_line))
        raise CareNeeded

    def finished(self, schema: pa.Schema) -> Callable[[pa.Table], pa.Table]:
        """Return what takes nested objects apart.

        Raises:
            SourceError: lists of texts or of objects, which no column holds; the message names the key.
        """
        flattening = Flattening(schema, "the JSON Lines")
        _check_lists(flattening.schema)
        return lambda table: pa.Table.from_batches(map(flattening, table.to_batches()), schema=flattening.schema)

    def _declare(self, schema: pa.Schema) -> pa.Schema:
        found = {one.name: one.type for one in schema}
        if nested := sorted(name for name in self.declared if pa.types.is_struct(found.get(name, pa.null()))):
            raise SchemaError(
                f"dtypes[{nested[0]!r}] cannot be declared: the key holds objects", next_step="leave it out of dtypes"
            )
        return pa.schema([(name, kind) for name, kind in {**found, **self.declared}.items()])

    def _infer(self, data: bytes, starts: np.ndarray, ends: np.ndarray) -> pa.Schema:
        if not len(starts):
            return pa.schema([])
        part = data[starts[0] : ends[-1]]
        try:
            found = _parse_json(part, pa.json.ParseOptions()).schema
            return pa.schema([(one.name, _kept_type(one.type)) for one in found])
        except (pa.ArrowException, UnicodeDecodeError):
            if len(starts) == 1:
                return pa.schema([])
        middle = len(starts) // 2
        halves = (self._infer(data, starts[:middle], ends[:middle]), self._infer(data, starts[middle:], ends[middle:]))
        return joined_schema(*halves)

    def may_be_sampled(self, data: bytes) -> bool:  # noqa: ARG002 - whatever it holds
        """A line end always ends a record."""
        return True

    def repair(self, block: Block, names: tuple[str, ...], schema: pa.Schema) -> Parsed:  # noqa: ARG002
        """Return a block's good rows, and its bad lines with what is wrong with each.

        Raises:
            WideningNeeded: a value asks for a wider type, or a key is new.
        """
        records = find_records(block.data)
        faults = find_faults(block.data, records, schema, lambda data: self._read(data, schema))
        wanted = np.ones(len(records), bool)
        wanted[list(faults)] = False
        candidates = np.array([index for index, fault in faults.items() if fault.may_need_a_wider_type], int)
        if len(candidates):
            found = self.infer(records.joined(block.data, candidates), ())
            if self._declare(self.joined(schema, found)) != schema:
                raise WideningNeeded
        bad = [
            Bad(block.first_line + int(records.lines[i]), faults[i].reason, records.content(block.data, i))
            for i in sorted(faults)
        ]
        good = records.joined(block.data, wanted)
        table = self._read(good, schema) if good else schema.empty_table()
        return Parsed(table, records.breaks(wanted, block.first_line), bad)

    def _read(self, data: bytes, schema: pa.Schema) -> pa.Table:
        # A key that the schema lacks is an error here, and a reason to widen: its values are never lost unseen.
        options = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
        return _parse_json(data, options)


def _parse_json(data: bytes, options: "pa.json.ParseOptions") -> pa.Table:
    # A record must not cross more than one of the parser's own blocks, so these grow with the data.
    size = max(_PARSER_BYTES, len(data) // 16)
    while True:
        try:
            return pa.json.read_json(pa.BufferReader(data), pa.json.ReadOptions(block_size=size), options)
        except pa.ArrowInvalid as error:
            if "straddling" not in str(error) or size >= len(data):
                raise
            size = min(size * 8, len(data))


def _kept_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return INSTANT
    if pa.types.is_struct(kind):
        return pa.struct([(one.name, _kept_type(one.type)) for one in kind])
    return pa.list_(_kept_type(kind.value_type)) if pa.types.is_list(kind) else kind


def _check_lists(schema: pa.Schema) -> None:
    for one in schema:
        kind = one.type
        if pa.types.is_list(kind) and not (
            pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)
        ):
            raise SourceError(
                f"cannot read key {one.name!r}: it holds lists of {kind.value_type}, expected lists of numbers",
                next_step=f"leave {one.name!r} out of the file, or store it as text",
            )


def _is_utf8(data: bytes) -> bool:
    offsets = np.array([0, len(data)], np.int64)
    whole = pa.Array.from_buffers(pa.large_binary(), 1, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    try:
        whole.cast(pa.large_string())
    except pa.ArrowInvalid:
        return False
    return True
