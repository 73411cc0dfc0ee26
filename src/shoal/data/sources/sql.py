"""The rows of an SQL query as a source, streamed from the server through SQLAlchemy."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from shoal.base import SourceError, digest_bytes
from shoal.data.sources.dtypes import Dtypes, declared_types, joined_type
from shoal.data.sources.facts import SourceFact
from shoal.data.sources.positions import Positions, mark

_ROWS_PER_BATCH = 8_192


class SqlSource:
    """Rows of a query, fetched a few thousand at a time through a cursor on the server; can be read many times.

    Types are those of the values in the first batch that has any: whole numbers, floats (also of decimals), booleans,
    text, bytes, instants (also of dates, and of times with a zone in UTC). A column that has no value there should be
    declared. Say ORDER BY where the order matters: a database is free to give another each time.
    """

    def __init__(
        self,
        connection: Any,  # noqa: ANN401 - a URL, an Engine or a Connection, which the face must not import
        query: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        dtypes: Dtypes | None = None,
    ) -> None:
        """Say what to ask, and whom.

        Args:
            connection: a URL such as "postgresql+psycopg://user@host/db" or "sqlite:///clicks.db", or an SQLAlchemy
                `Engine` or `Connection`.
            query: one SELECT, with parameters as `:name`.
            parameters: their values.
            dtypes: types by column, as in `Column.dtype`; the others are inferred.
        """
        self._connection = connection
        self._query = query
        self._parameters = dict(parameters or {})
        self._declared = declared_types(dtypes)
        self._name = f"query {query.strip()[:200]!r}"
        self._num_rows = 0

    def record_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as the database gives them.

        Raises:
            SourceError: no connection, a wrong query, or a value that does not fit its column.
        """
        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError

        self._num_rows = 0
        schema: pa.Schema | None = None
        try:
            with self._connected() as connected:
                streamed = connected.execution_options(stream_results=True, yield_per=_ROWS_PER_BATCH)
                # Closed here, before the connection: a cursor on the server outlives neither.
                with streamed.execute(text(self._query), self._parameters) as result:
                    names = list(result.keys())
                    for rows in result.partitions(_ROWS_PER_BATCH):
                        schema = schema or self._inferred(names, rows)
                        batch = self._to_batch(rows, schema)
                        yield mark(batch, Positions(self._name, self._num_rows, "row"))
                        self._num_rows += batch.num_rows
        except SQLAlchemyError as error:
            raise SourceError(
                f"cannot read {self._name}: {getattr(error, 'orig', None) or error}",
                next_step="check the address of the database and the query",
            ) from error

    def facts(self) -> tuple[SourceFact, ...]:
        """Name the query; its digest covers the text alone, for what the tables held is the database's to know."""
        return (SourceFact(path=self._name, digest=digest_bytes(self._query.encode()), num_rows=self._num_rows),)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        from sqlalchemy import Engine, create_engine, pool
        from sqlalchemy.exc import NoSuchModuleError

        if isinstance(self._connection, str):
            self._check_file(self._connection)
            try:
                engine = create_engine(self._connection, poolclass=pool.NullPool)
            except ModuleNotFoundError as error:
                raise SourceError(
                    f"cannot read {self._name}: its driver {error.name!r} is not installed",
                    next_step="pip install shoal[postgres] for PostgreSQL, else the driver that the URL names",
                ) from error
            except NoSuchModuleError as error:
                raise SourceError(f"cannot read {self._name}: {error}", next_step="check the URL") from error
            try:
                with engine.connect() as connected:
                    yield connected
            finally:
                engine.dispose()
        elif isinstance(self._connection, Engine):
            with self._connection.connect() as connected:
                yield connected
        else:
            yield self._connection

    def _check_file(self, url: str) -> None:
        # SQLite makes an empty file where there is none: a slip in its name would leave one behind.
        from sqlalchemy import make_url

        address = make_url(url)
        name = address.database if address.get_backend_name() == "sqlite" else None
        if name and name != ":memory:" and not name.startswith("file:") and not Path(name).exists():
            raise SourceError(
                f"cannot read {self._name}: there is no file {Path(name).absolute()}",
                next_step="check the URL: sqlite:///clicks.db is in the working folder, sqlite:////clicks.db is not",
            )

    def _inferred(self, names: list[str], rows: Any) -> pa.Schema:  # noqa: ANN401 - rows of SQLAlchemy
        kinds = []
        for index, name in enumerate(names):
            kind = self._declared.get(name)
            for row in () if kind is not None else rows:
                found = _type_of(row[index], name, self._name)
                kind = found if kind is None else joined_type(kind, found, pa.string())
            # Without any value in the first batch nothing tells the type: text holds what text there is.
            kinds.append((name, pa.string() if kind is None or pa.types.is_null(kind) else kind))
        if len(set(names)) != len(names):
            raise SourceError(
                f"cannot read {self._name}: several columns have one name among {', '.join(names)}",
                next_step="name them apart in the query: SELECT a.id AS a_id",
            )
        return pa.schema(kinds)

    def _to_batch(self, rows: Any, schema: pa.Schema) -> pa.RecordBatch:  # noqa: ANN401 - rows of SQLAlchemy
        arrays = []
        for index, one in enumerate(schema):
            is_decimal = any(isinstance(row[index], Decimal) for row in rows)
            values = [float(row[index]) if is_decimal and row[index] is not None else row[index] for row in rows]
            try:
                # Arrow makes an instant of a date, and UTC of a zone, by casting alone.
                is_instant = pa.types.is_timestamp(one.type)
                arrays.append(pa.array(values).cast(one.type) if is_instant else pa.array(values, one.type))
            except (pa.ArrowException, TypeError, OverflowError) as error:
                raise SourceError(
                    f"cannot read {self._name}: in rows {self._num_rows} to {self._num_rows + len(rows) - 1}, column "
                    f"{one.name!r} has a value that is no {one.type}: {error}",
                    next_step=f"declare it, dtypes={{{one.name!r}: ...}}, or CAST it in the query",
                ) from error
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _type_of(value: object, column: str, name: str) -> pa.DataType:
    if isinstance(value, Decimal):
        return pa.float64()
    try:
        found = pa.scalar(value).type
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise SourceError(
            f"cannot read {name}: column {column!r} holds a {type(value).__name__}, which no column of a dataset does",
            next_step=f"CAST {column} to text or a number in the query",
        ) from error
    if pa.types.is_timestamp(found) or pa.types.is_date(found):
        return pa.timestamp("us")
    if pa.types.is_time(found) or pa.types.is_duration(found) or pa.types.is_nested(found):
        raise SourceError(
            f"cannot read {name}: column {column!r} holds a {type(value).__name__}, which no column of a dataset does",
            next_step=f"CAST {column} to text or a number in the query",
        )
    return found
