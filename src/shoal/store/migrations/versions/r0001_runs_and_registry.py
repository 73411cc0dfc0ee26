"""Runs, metrics, artifacts, lineage, the registry and the change stream."""

from alembic import op
from sqlalchemy import BigInteger, Column, Double, ForeignKey, Integer, Text, UniqueConstraint

revision = "0001"
down_revision: str | None = None

NUMBER = BigInteger().with_variant(Integer(), "sqlite")


def upgrade() -> None:
    """Make the first tables."""
    _make_runs()
    _make_content()
    _make_registry()
    _make_changes()


def _make_runs() -> None:
    op.create_table(
        "runs",
        Column("number", NUMBER, primary_key=True),
        Column("kind", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("status", Text, nullable=False),
        Column("config", Text, nullable=False),
        Column("code", Text),
        Column("dataset", Text),
        Column("parent", NUMBER, ForeignKey("runs.number")),
        Column("environment", Text, nullable=False),
        Column("error", Text),
        Column("started_us", BigInteger, nullable=False),
        Column("finished_us", BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_index("runs_by_kind", "runs", ["kind", "number"])
    op.create_table(
        "run_events",
        Column("sequence", NUMBER, primary_key=True),
        Column("run", NUMBER, ForeignKey("runs.number"), nullable=False),
        Column("kind", Text, nullable=False),
        Column("fields", Text, nullable=False),
        Column("time_us", BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("run_events_by_run", "run_events", ["run", "sequence"])
    op.create_table(
        "metric_series",
        Column("id", NUMBER, primary_key=True),
        Column("run", NUMBER, ForeignKey("runs.number"), nullable=False),
        Column("name", Text, nullable=False),
        UniqueConstraint("run", "name", name="metric_series_once"),
    )
    op.create_table(
        "metric_points",
        Column("series", NUMBER, primary_key=True, autoincrement=False),
        Column("step", BigInteger, primary_key=True, autoincrement=False),
        Column("value", Double),
        Column("time_us", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def _make_content() -> None:
    op.create_table(
        "artifacts",
        Column("digest", Text, primary_key=True),
        Column("kind", Text, nullable=False),
        Column("size_bytes", BigInteger, nullable=False),
        Column("created_us", BigInteger, nullable=False),
    )
    op.create_table(
        "edges",
        Column("sequence", NUMBER, primary_key=True),
        Column("source_key", Text, nullable=False),
        Column("target_key", Text, nullable=False),
        Column("relation", Text, nullable=False),
        Column("source", Text, nullable=False),
        Column("target", Text, nullable=False),
        Column("time_us", BigInteger, nullable=False),
        UniqueConstraint("source_key", "target_key", "relation", name="edges_once"),
        sqlite_autoincrement=True,
    )
    op.create_index("edges_by_target", "edges", ["target_key"])


def _make_registry() -> None:
    op.create_table(
        "model_versions",
        Column("name", Text, primary_key=True),
        Column("version", Integer, primary_key=True, autoincrement=False),
        Column("digest", Text, nullable=False),
        Column("run", NUMBER, ForeignKey("runs.number")),
        Column("metrics", Text, nullable=False),
        Column("created_us", BigInteger, nullable=False),
        UniqueConstraint("name", "digest", name="model_versions_once"),
    )
    op.create_table(
        "aliases",
        Column("name", Text, primary_key=True),
        Column("alias", Text, primary_key=True),
        Column("version", Integer, nullable=False),
    )
    op.create_table(
        "alias_moves",
        Column("sequence", NUMBER, primary_key=True),
        Column("name", Text, nullable=False),
        Column("alias", Text, nullable=False),
        Column("version", Integer, nullable=False),
        Column("previous", Integer),
        Column("reason", Text, nullable=False),
        Column("results", Text, nullable=False),
        Column("time_us", BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("alias_moves_by_name", "alias_moves", ["name", "sequence"])
    op.create_table(
        "canaries",
        Column("name", Text, primary_key=True),
        Column("version", Integer, nullable=False),
        Column("share", Double, nullable=False),
        Column("results", Text, nullable=False),
        Column("time_us", BigInteger, nullable=False),
    )


def _make_changes() -> None:
    op.create_table(
        "changes",
        Column("sequence", NUMBER, primary_key=True),
        Column("kind", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("fields", Text, nullable=False),
        Column("time_us", BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
