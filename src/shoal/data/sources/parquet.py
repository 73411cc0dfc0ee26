"""Parquet files as a source, a few megabytes of rows at a time."""

import os
from collections.abc import Generator, Sequence

import pyarrow as pa

from shoal.data.sources.finding import find_inputs
from shoal.data.sources.inputs import Input
from shoal.data.sources.typed_files import TypedFileSource, TypedFormat

_BATCH_BYTES = 16 << 20
_MAX_BATCH_ROWS = 65_536


class ParquetSource(TypedFileSource):
    """Rows of Parquet files, a few row groups in memory at most; columns as in the files, structs taken apart."""

    def __init__(
        self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, columns: Sequence[str] | None = None
    ) -> None:
        """Say which files.

        Args:
            paths: a file, several, a pattern such as "clicks/*.parquet", a folder of them, or URLs.
            columns: read just these; None: all.

        Raises:
            SourceError: no such file.
        """
        super().__init__(find_inputs(paths, (".parquet", ".pq")), _ParquetFormat(columns))

    @staticmethod
    def of_inputs(inputs: Sequence[Input]) -> TypedFileSource:
        """Read files that have been found already."""
        return TypedFileSource(inputs, _ParquetFormat(None))


class _ParquetFormat:
    def __init__(self, columns: Sequence[str] | None, groups: range | None = None) -> None:
        self._columns = None if columns is None else list(columns)
        self._groups = groups

    def schema(self, file: Input) -> pa.Schema:
        import pyarrow.parquet  # only Parquet sources pay for loading it

        with file.ranges() as opened_file, pyarrow.parquet.ParquetFile(opened_file) as opened:
            found: pa.Schema = opened.schema_arrow
            return found if self._columns is None else pa.schema([found.field(name) for name in self._columns])

    def batches(self, file: Input) -> Generator[pa.RecordBatch]:
        import pyarrow.parquet

        with file.local_copy() as path, pyarrow.parquet.ParquetFile(path) as opened:
            about = opened.metadata
            num_bytes = sum(about.row_group(index).total_byte_size for index in range(about.num_row_groups))
            row_bytes = max(1, num_bytes // max(1, about.num_rows))
            batch_size = max(1, min(_MAX_BATCH_ROWS, _BATCH_BYTES // row_bytes))
            groups = None if self._groups is None else list(self._groups)
            yield from opened.iter_batches(batch_size=batch_size, columns=self._columns, row_groups=groups)

    def stretches(self, file: Input, num: int) -> list[tuple[TypedFormat, int]]:
        """Cut a file between row groups; a remote one is left whole, as each part would fetch it all."""
        import pyarrow.parquet

        if file.is_remote:
            return [(self, 0)]
        with pyarrow.parquet.ParquetFile(file.path) as opened:
            sizes = [opened.metadata.row_group(index).num_rows for index in range(opened.metadata.num_row_groups)]
        step = max(-(-len(sizes) // num), 1)
        return [
            (_ParquetFormat(self._columns, range(start, min(start + step, len(sizes)))), sum(sizes[:start]))
            for start in range(0, len(sizes), step)
        ] or [(self, 0)]
