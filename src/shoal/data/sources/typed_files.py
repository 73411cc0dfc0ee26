"""Files that say the types of their columns themselves, as a source: one schema for all of them, read in order."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import pyarrow as pa

from shoal.base import SourceError, digest_file
from shoal.data.sources.ahead import ahead
from shoal.data.sources.facts import SourceFact
from shoal.data.sources.flattening import Flattening
from shoal.data.sources.inputs import Input
from shoal.data.sources.positions import Positions, mark


class TypedFormat(Protocol):
    """How one format is read."""

    def schema(self, file: Input) -> pa.Schema:
        """Return the columns that a file says it has."""
        ...

    def batches(self, file: Input) -> Generator[pa.RecordBatch]:
        """Yield a file's rows; a file on this machine may be read through a memory map."""
        ...

    def stretches(self, file: Input, num: int) -> "list[tuple[TypedFormat, int]]":
        """Return formats that read a stretch of the file each, about `num` of them, with the row where each begins."""
        ...


class TypedFileSource:
    """Rows of one or several files of one format, in order; can be read many times.

    Where files differ, a column has the wider type, and no value in the rows of a file that lacks it.
    """

    def __init__(self, inputs: Sequence[Input], format: TypedFormat) -> None:
        self.inputs = tuple(inputs)
        self._format = format
        # For a part of a whole: the columns of that, and the row of the first file at which the part begins.
        self._joined_schema: pa.Schema | None = None
        self._first_row = 0
        self._facts: list[SourceFact] = []

    def schema(self) -> pa.Schema:
        """The columns of all files together, from what their headers say.

        Raises:
            SourceError: a file is unreadable, or two have one column with types that nothing holds.
        """
        if self._joined_schema is not None:
            return self._joined_schema
        # A remote file is fetched to be asked: one of them speaks for all.
        asked = [file for index, file in enumerate(self.inputs) if index == 0 or not file.is_remote]
        joined: pa.Schema | None = None
        for file in asked:
            with _naming(file):
                found = Flattening(self._format.schema(file), file.name).schema
            joined = found if joined is None or joined.equals(found) else _joined(joined, found, file)
        if joined is None or not joined.names:
            raise SourceError(f"cannot read {self.inputs[0].name}: it has no columns", next_step="check the file")
        return joined

    def parts(self, num: int) -> "list[TypedFileSource]":
        """Return about `num` sources, each of some files or of a stretch of one, with the columns of all, in order."""
        schema = self.schema()
        found = []
        each = max(num // len(self.inputs), 1)
        for file in self.inputs:
            for format, first_row in self._format.stretches(file, each):
                part = TypedFileSource([file], format)
                part._joined_schema, part._first_row = schema, first_row
                found.append(part)
        return found

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of all files, in the given order.

        Raises:
            SourceError: a file is missing, damaged, changed while it was read, or its columns do not fit the others'.
        """
        self._facts = []
        schema = self.schema()
        for file in self.inputs:
            num_rows = 0
            for batch in ahead(self._read(file, schema)):
                yield mark(batch, Positions(file.name, self._first_row + num_rows, "row"))
                num_rows += batch.num_rows
            if num_rows:
                self._facts.append(SourceFact(path=file.name, digest=file.digest, num_rows=num_rows))

    def facts(self) -> tuple[SourceFact, ...]:
        """Name each file that gave rows, with its digest."""
        return tuple(self._facts)

    def _read(self, file: Input, schema: pa.Schema) -> Generator[pa.RecordBatch]:
        flattening: Flattening | None = None
        with _naming(file), file.unchanged():
            for batch in self._format.batches(file):
                flattening = flattening or Flattening(batch.schema, file.name)
                if batch.num_rows:
                    yield _conformed(flattening(batch), schema, file)
            if not file.is_remote:
                file.digest = digest_file(file.path)


def _joined(first: pa.Schema, second: pa.Schema, file: Input) -> pa.Schema:
    try:
        return pa.unify_schemas([first, second], promote_options="permissive")
    except pa.ArrowException as error:
        raise SourceError(
            f"the columns of {file.name} do not fit those of the files before it: {error}",
            next_step="convert the column in one of them, or read the files as sources of their own",
        ) from error


def _conformed(batch: pa.RecordBatch, schema: pa.Schema, file: Input) -> pa.RecordBatch:
    if batch.schema.equals(schema):
        return batch
    if unknown := [name for name in batch.schema.names if name not in set(schema.names)]:
        raise SourceError(
            f"the columns of {file.name} do not fit those of the files before it: {', '.join(unknown)} is new",
            next_step="give the file with the most columns first, or leave the column out",
        )
    there = set(batch.schema.names)
    columns = [
        batch.column(one.name).cast(one.type) if one.name in there else pa.nulls(batch.num_rows, one.type)
        for one in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


@contextmanager
def _naming(file: Input) -> Iterator[None]:
    """Turn Arrow's errors into ones that name the file; what the system itself refuses keeps its own type."""
    try:
        yield
    except (pa.ArrowException, EOFError, OSError) as error:
        if isinstance(error, SourceError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        raise SourceError(
            f"cannot read {file.name}: {error}", next_step="check that the file is whole and what its suffix says"
        ) from error
