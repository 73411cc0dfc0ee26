"""CSV files as a source, at the speed of Arrow's own parser; every malformed line is named."""

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.csv

from shoal.base import InputError, SchemaError, SourceError
from shoal.data.sources.base import OnBad
from shoal.data.sources.blocks import Block
from shoal.data.sources.csv_repair import find_faults
from shoal.data.sources.dtypes import INSTANT, ZONED_INSTANT, Dtypes, declared_types, joined_schema
from shoal.data.sources.finding import find_inputs
from shoal.data.sources.plain_text import parse_plain
from shoal.data.sources.records import cut_records, ends_inside, find_records
from shoal.data.sources.text import Bad, CareNeeded, Head, Parsed, TextSource, WideningNeeded

# 1 MiB: several threads share one block of 16 MiB.
_PARSER_BYTES = 1 << 20
_QUOTE = b'"'
_NULL_WORDS = [word.encode() for word in pa.csv.ConvertOptions().null_values if word]


class CsvSource(TextSource):
    """Rows of CSV files that all have the same columns.

    Types that are not declared are inferred from all rows: whole numbers, floats, booleans, instants, else text; a
    column without any value is text. A column of numbers with one text in it is text: declare it to have that row
    refused. Inferred columns never reject a row; declared ones do.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        dtypes: Dtypes | None = None,
        delimiter: str = ",",
        header: bool | Sequence[str] = True,
        null_values: Sequence[str] | None = None,
        on_bad: OnBad = "raise",
    ) -> None:
        """Say which files, and how they are written.

        Args:
            paths: a file, several, a pattern such as "clicks/*.csv", a folder of them, or URLs; gzip and zstd are seen.
            dtypes: types by column, as in `Column.dtype`; the others are inferred.
            delimiter: one character between values.
            header: whether the first line names the columns; or the names, when no line does.
            null_values: what stands for no value, in every column; None: empty and the usual words (NA, NULL, nan ...)
                in columns that are not text.
            on_bad: what happens to lines that cannot be rows.

        Raises:
            SourceError: no such file.
            InputError: an argument is wrong.
        """
        if len(delimiter) != 1 or delimiter in '"\r\n' or not delimiter.isascii():
            raise InputError(f"delimiter={delimiter!r} must be one ASCII character", next_step='for example "\\t"')
        written = CsvFormat(
            delimiter=delimiter,
            header=header if isinstance(header, bool) else tuple(header),
            declared=declared_types(dtypes),
            null_values=None if null_values is None else tuple(null_values),
        )
        super().__init__(find_inputs(paths, (".csv", ".tsv", ".txt")), written, on_bad)


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """How CSV files are written, and the types that the user declares."""

    delimiter: str = ","
    header: bool | tuple[str, ...] = True
    declared: dict[str, pa.DataType] = field(default_factory=dict)
    null_values: tuple[str, ...] | None = None

    def head(self, data: bytes, name: str) -> Head:
        """Read the names of the columns.

        Raises:
            SourceError: names are double, or not UTF-8.
            SchemaError: a declared column is not there.
        """
        records = find_records(data, self.delimiter.encode())
        if not len(records):
            raise SourceError(f"cannot read {name}: it has no lines", next_step="leave the file out, or make it again")
        try:
            first = next(csv.reader(io.StringIO(records.content(data, 0).decode()), delimiter=self.delimiter))
        except UnicodeDecodeError as error:
            raise SourceError(
                f"cannot read {name}, line 1: it is not UTF-8 ({error})", next_step="convert the file to UTF-8"
            ) from error
        if isinstance(self.header, tuple):
            names = self.header
        else:
            names = tuple(title if title and self.header else f"column_{i}" for i, title in enumerate(first))
        if double := [title for title, count in Counter(names).items() if count > 1]:
            raise SourceError(
                f"cannot read {name}: several columns are named {', '.join(map(repr, double))}",
                next_step="rename them in the first line, or give header=[...] with a name for each",
            )
        if missing := sorted(set(self.declared) - set(names)):
            raise SchemaError(
                f"dtypes names {', '.join(map(repr, missing))}, and the columns of {name} are {', '.join(names)}",
                next_step="use one of these names",
            )
        if self.header is not True:
            return Head(names, 0, 0)
        num_lines = int(records.lines[0]) + 1 + data[records.starts[0] : records.ends[0]].count(b"\n")
        return Head(names, int(records.ends[0]) + 1, num_lines)

    def cut(self, data: bytes) -> int:
        """How many bytes are whole records; a line end inside quotes ends none."""
        return cut_records(data, self.delimiter.encode())

    def infer(self, data: bytes, names: tuple[str, ...]) -> pa.Schema:
        """Return declared types, and for the other columns the narrowest that hold their values."""
        if not data or data.isspace():
            return pa.schema([(name, self.declared.get(name, pa.null())) for name in names])
        table = self._read(data, names, pa.schema([]), [])
        return pa.schema([(name, self.declared.get(name, _kept_type(table.schema.field(name).type))) for name in names])

    def joined(self, first: pa.Schema, second: pa.Schema) -> pa.Schema:
        """Return the types that hold both; text holds everything."""
        joined = joined_schema(first, second, mixed=pa.string())
        return pa.schema([(kind.name, self.declared.get(kind.name, kind.type)) for kind in joined])

    def parse(self, block: Block, names: tuple[str, ...], schema: pa.Schema) -> Parsed:
        """Return a block's rows, all at once.

        Raises:
            CareNeeded: a record is malformed, or a value does not fit its column.
        """
        if block.data.isspace():
            return Parsed(schema.empty_table())
        _check_names(names, schema)
        if self.null_values is None and (plain := self._plain(block, names, schema)) is not None:
            return Parsed(plain)
        amiss: list[pa.csv.InvalidRow] = []
        try:
            table = self._read(block.data, names, schema, amiss)
        except pa.ArrowInvalid:
            raise CareNeeded from None
        delimiter = self.delimiter.encode()
        if amiss or (_QUOTE in block.data and ends_inside(block.data, delimiter)):
            raise CareNeeded
        if table.num_rows == block.num_lines:
            return Parsed(table)
        records = find_records(block.data, delimiter)
        return Parsed(table, records.breaks(None, block.first_line) if len(records) == table.num_rows else ())

    def _plain(self, block: Block, names: tuple[str, ...], schema: pa.Schema) -> pa.Table | None:
        in_file = pa.schema([schema.field(name) for name in names])
        table = parse_plain(block.data, block.num_lines, in_file, self.delimiter, _NULL_WORDS)
        return table if table is None or schema.names == in_file.names else table.select(schema.names)

    def finished(self, schema: pa.Schema) -> Callable[[pa.Table], pa.Table]:
        """Return what makes instants of zoned ones, and text of columns without any value."""
        change = {ZONED_INSTANT: INSTANT, pa.null(): pa.string()}
        float16 = {name: kind for name, kind in self.declared.items() if kind == pa.float16()}
        final = pa.schema([(one.name, float16.get(one.name, change.get(one.type, one.type))) for one in schema])
        return lambda table: table if table.schema.equals(final) else table.cast(final)

    def may_be_sampled(self, data: bytes) -> bool:
        """With quotes, nothing tells in the middle of a file whether a place is inside a value."""
        return b'"' not in data

    def repair(self, block: Block, names: tuple[str, ...], schema: pa.Schema) -> Parsed:
        """Return a block's good rows, and its bad records with what is wrong with each.

        Raises:
            WideningNeeded: an inferred column has a value that its type does not hold.
        """

        def read(data: bytes, wanted: pa.Schema, amiss: list[pa.csv.InvalidRow] | None) -> pa.Table:
            return self._read(data, names, wanted, amiss, use_threads=False)

        records, faults = find_faults(block.data, self.delimiter.encode(), schema, names, read)
        for reason, column in faults.values():
            # Text holds everything, so only what an inferred type cannot hold asks for a wider one.
            if column and column not in self.declared and not pa.types.is_string(schema.field(column).type):
                raise WideningNeeded(reason)
        wanted = np.ones(len(records), bool)
        wanted[list(faults)] = False
        bad = [
            Bad(block.first_line + int(records.lines[index]), faults[index][0], records.content(block.data, index))
            for index in sorted(faults)
        ]
        good = records.joined(block.data, wanted)
        table = self._read(good, names, schema, None) if good else _parsed_types(schema).empty_table()
        return Parsed(table, records.breaks(wanted, block.first_line), bad)

    def _read(
        self,
        data: bytes,
        names: tuple[str, ...],
        schema: pa.Schema,
        amiss: "list[pa.csv.InvalidRow] | None",
        *,
        use_threads: bool = True,
    ) -> pa.Table:
        def skip(row: pa.csv.InvalidRow) -> str:
            if amiss is None:
                return "error"
            amiss.append(row)
            return "skip"

        types = _parsed_types(schema)
        convert = pa.csv.ConvertOptions(column_types=types, include_columns=types.names)
        if self.null_values is not None:
            convert.null_values = self.null_values
            convert.strings_can_be_null = True
        return pa.csv.read_csv(
            pa.BufferReader(data),
            pa.csv.ReadOptions(
                column_names=names, block_size=max(_PARSER_BYTES, len(data) // 16), use_threads=use_threads
            ),
            # Line ends in values cost a third of the speed, and need quotes.
            pa.csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=b'"' in data, invalid_row_handler=skip),
            convert,
        )


def _parsed_types(schema: pa.Schema) -> pa.Schema:
    # Arrow's parser knows no half floats: they are read as single ones, and made half at the end.
    return pa.schema([(one.name, pa.float32() if pa.types.is_float16(one.type) else one.type) for one in schema])


def _kept_type(inferred: pa.DataType) -> pa.DataType:
    types = pa.types
    if types.is_date(inferred) or types.is_timestamp(inferred):
        return ZONED_INSTANT if getattr(inferred, "tz", None) else INSTANT
    is_kept = types.is_int64(inferred) or types.is_float64(inferred) or types.is_boolean(inferred)
    return inferred if is_kept or types.is_null(inferred) else pa.string()


def _check_names(names: tuple[str, ...], schema: pa.Schema) -> None:
    if set(names) != set(schema.names):
        raise SourceError(
            f"the columns differ from file to file: found {', '.join(names)}, expected {', '.join(schema.names)}",
            next_step="read the files with different columns as sources of their own",
        )
