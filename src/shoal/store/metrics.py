"""Curves in two tables: names once per run, points in the order of their steps."""

from collections.abc import Iterable
from itertools import islice
from math import isnan, nan

from sqlalchemy import Connection, insert, select

from shoal.store.database import Database
from shoal.store.records import MetricPoint
from shoal.store.run_ids import check_run, run_number
from shoal.store.schema import metric_points, metric_series
from shoal.store.times import from_us, to_us

# Given to the driver as it is: SQLAlchemy's own work per row would make it four times slower.
_UPSERT = (
    "INSERT INTO metric_points (series, step, value, time_us) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (series, step) DO UPDATE SET value = excluded.value, time_us = excluded.time_us"
)
# Bounds the memory that one statement takes, whatever the length of the curve.
_ROWS_PER_STATEMENT = 20_000


class SqlMetrics:
    """The interface `Metrics` on SQL tables."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, run_id: str, points: Iterable[MetricPoint]) -> None:
        """Write all points or none, in one transaction."""
        with self._database.write() as connection:
            write_points(connection, check_run(connection, run_id), points)

    def curve(self, run_id: str, name: str) -> list[MetricPoint]:
        """The points by growing step."""
        query = (
            select(metric_points.c.value, metric_points.c.step, metric_points.c.time_us)
            .join(metric_series, metric_series.c.id == metric_points.c.series)
            .where(metric_series.c.run == run_number(run_id), metric_series.c.name == name)
            .order_by(metric_points.c.step)
        )
        with self._database.read() as connection:
            check_run(connection, run_id)
            rows = connection.execute(query).all()
        return [MetricPoint(name, _value(value), step, from_us(time_us)) for value, step, time_us in rows]

    def latest(self, run_id: str) -> dict[str, float]:
        """Of each curve the value at its highest step: one look at the end of each, however long it is."""
        at_end = (
            select(metric_points.c.value)
            .where(metric_points.c.series == metric_series.c.id)
            .order_by(metric_points.c.step.desc())
            .limit(1)
            .scalar_subquery()
        )
        query = select(metric_series.c.name, at_end).where(metric_series.c.run == run_number(run_id))
        with self._database.read() as connection:
            check_run(connection, run_id)
            rows = connection.execute(query.order_by(metric_series.c.name)).all()
        return {name: _value(value) for name, value in rows}

    def names(self, run_id: str) -> list[str]:
        """The run's curves, sorted."""
        query = (
            select(metric_series.c.name).where(metric_series.c.run == run_number(run_id)).order_by(metric_series.c.name)
        )
        with self._database.read() as connection:
            check_run(connection, run_id)
            return list(connection.execute(query).scalars())


def write_points(connection: Connection, run: int, points: Iterable[MetricPoint]) -> None:
    """Write points of one run within the caller's transaction."""
    series = _SeriesIds(connection, run)
    rows = (_row(series, point) for point in points)
    while piece := list(islice(rows, _ROWS_PER_STATEMENT)):
        connection.exec_driver_sql(_UPSERT, piece)


def _row(series: "_SeriesIds", point: MetricPoint) -> tuple[int, int, float | None, int]:
    name, value, step, time = point
    # SQLite turns NaN into null by itself; other databases do not.
    return series[name], step, None if isnan(value) else value, to_us(time)


def _value(stored: float | None) -> float:
    return nan if stored is None else stored


class _SeriesIds(dict[str, int]):
    """The ids of one run's curves, read once; a new curve gets its row when its first point comes."""

    def __init__(self, connection: Connection, run: int) -> None:
        found = connection.execute(select(metric_series.c.name, metric_series.c.id).where(metric_series.c.run == run))
        super().__init__((name, id) for name, id in found)
        self._connection = connection
        self._run = run

    def __missing__(self, name: str) -> int:
        created = self._connection.execute(insert(metric_series), {"run": self._run, "name": name})
        assert created.inserted_primary_key is not None
        self[name] = id = int(created.inserted_primary_key[0])
        return id
