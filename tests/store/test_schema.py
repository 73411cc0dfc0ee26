from sqlalchemy import BigInteger, Double, Integer, LargeBinary, Text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from shoal.store.schema import metadata


def test_only_types_that_every_database_has():
    kinds = {type(column.type) for table in metadata.tables.values() for column in table.columns}

    assert kinds <= {BigInteger, Double, Integer, LargeBinary, Text}


def test_postgresql_understands_every_table():
    statements = [str(CreateTable(table).compile(dialect=postgresql.dialect())) for table in metadata.sorted_tables]

    assert len(statements) == len(metadata.tables)


def test_times_say_their_unit():
    times = [
        column.name
        for table in metadata.tables.values()
        for column in table.columns
        if any(
            word in column.name for word in ("time", "created", "started", "finished", "opened", "closed", "expires")
        )
    ]

    assert all(name.endswith("_us") for name in times)
