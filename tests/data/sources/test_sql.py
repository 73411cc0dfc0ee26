from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from shoal.base import SourceError
from shoal.data import Source, SqlSource
from shoal.testing import SourceContract

Rows = Callable[[Source], list[dict[str, object]]]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A SQLite file with 20,000 rows."""
    address = f"sqlite:///{tmp_path / 'clicks.db'}"
    engine = create_engine(address)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE clicks (id INTEGER, x REAL, t TEXT, b BLOB)"))
        rows = [{"id": i, "x": i / 2, "t": None if i % 3 else str(i), "b": bytes([i % 256])} for i in range(20_000)]
        connection.execute(text("INSERT INTO clicks VALUES (:id, :x, :t, :b)"), rows)
    engine.dispose()
    return address


class TestSqlSource(SourceContract):
    @pytest.fixture
    def make_source(self, url: str) -> Callable[[], Source]:
        return lambda: SqlSource(url, "SELECT * FROM clicks ORDER BY id")


def test_gives_the_rows_of_the_query_with_its_parameters(url: str, rows_of: Rows) -> None:
    source = SqlSource(url, "SELECT * FROM clicks WHERE id < :n ORDER BY id", parameters={"n": 2})

    assert rows_of(source) == [{"id": 0, "x": 0.0, "t": "0", "b": b"\0"}, {"id": 1, "x": 0.5, "t": None, "b": b"\1"}]


def test_takes_an_engine_and_a_connection(url: str) -> None:
    engine = create_engine(url)

    with engine.connect() as connection:
        counts = [
            sum(batch.num_rows for batch in SqlSource(given, "SELECT id FROM clicks").record_batches())
            for given in (engine, connection)
        ]
    engine.dispose()

    assert counts == [20_000, 20_000]


def test_declared_types_hold(url: str) -> None:
    source = SqlSource(url, "SELECT id, t FROM clicks", dtypes={"id": "float32"})

    assert [str(field.type) for field in next(source.record_batches()).schema] == ["float", "string"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("SELECT * FROM absent", "no such table"),
        ("SELECT id, id FROM clicks", "several columns have one name"),
        (
            "SELECT CASE WHEN id > 10000 THEN 'text' ELSE id END AS v FROM clicks",
            "column 'v' has a value that is no int64",
        ),
    ],
)
def test_what_cannot_be_read_is_told_with_the_query(url: str, query: str, found: str) -> None:
    with pytest.raises(SourceError, match=found) as caught:
        list(SqlSource(url, query).record_batches())

    assert query in str(caught.value)


@pytest.mark.parametrize("address", ["absentdb://host/x", "mysql+absent://host/x"])
def test_an_unknown_database_is_told(address: str) -> None:
    with pytest.raises(SourceError, match="cannot read query"):
        list(SqlSource(address, "SELECT 1").record_batches())


class TestSqlSourceOnPostgres(SourceContract):
    @pytest.fixture
    def make_source(self, postgres_url: str) -> Callable[[], Source]:
        query = "SELECT i AS id, i / 2.0 AS half, 'row ' || i AS t FROM generate_series(1, 20000) AS i"
        return lambda: SqlSource(postgres_url, query)


def test_types_of_postgres_are_mapped(postgres_url: str, rows_of: Rows) -> None:
    source = SqlSource(
        postgres_url,
        "SELECT 1::smallint AS i, 2.5::numeric AS d, true AS b, 'x'::bytea AS y, date '2024-01-02' AS day, "
        "timestamptz '2024-01-02 03:00:00+01' AS moment, NULL::text AS none, 1.5::float8 AS f",
    )

    assert rows_of(source) == [
        {
            "i": 1,
            "d": float(Decimal("2.5")),
            "b": True,
            "y": b"x",
            "day": datetime.combine(date(2024, 1, 2), datetime.min.time()),
            "moment": datetime(2024, 1, 2, 2),
            "none": None,
            "f": 1.5,
        }
    ]


def test_types_of_postgres_without_counterpart_are_named(postgres_url: str) -> None:
    with pytest.raises(SourceError, match="column 'took' holds a timedelta"):
        list(SqlSource(postgres_url, "SELECT interval '1 day' AS took").record_batches())


def test_rows_stream_from_a_cursor_on_the_server(postgres_url: str) -> None:
    source = SqlSource(postgres_url, "SELECT generate_series(1, 1000000000) AS i")
    batches: Iterator[object] = source.record_batches()

    first = next(batches)
    batches.close()

    assert first.num_rows == 8_192


def test_a_file_of_sqlite_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no file .*typo\.db"):
        list(SqlSource(f"sqlite:///{tmp_path / 'typo.db'}", "SELECT 1").record_batches())

    assert not list(tmp_path.iterdir())
    assert sum(batch.num_rows for batch in SqlSource("sqlite://", "SELECT 1").record_batches()) == 1
