"""The tables as the newest migration leaves them; a test compares the two.

Times are integers, microseconds since 1970 UTC: they sort, and no dialect converts them. JSON is text in the form of
`shoal.base.encode`. Only what SQLite and PostgreSQL both have is used.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# SQLite numbers rows only in a column that is spelled INTEGER exactly; it holds 64 bits all the same.
_Number = BigInteger().with_variant(Integer(), "sqlite")

runs = Table(
    "runs",
    metadata,
    Column("number", _Number, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("config", Text, nullable=False),
    Column("code", Text),
    Column("dataset", Text),
    Column("parent", _Number, ForeignKey("runs.number")),
    Column("environment", Text, nullable=False),
    Column("error", Text),
    Column("started_us", BigInteger, nullable=False),
    Column("finished_us", BigInteger),
    Index("runs_by_kind", "kind", "number"),
    sqlite_autoincrement=True,
)

run_events = Table(
    "run_events",
    metadata,
    Column("sequence", _Number, primary_key=True),
    Column("run", _Number, ForeignKey("runs.number"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("fields", Text, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Index("run_events_by_run", "run", "sequence"),
    sqlite_autoincrement=True,
)

# Curves are written by the million: the long name is stored once, and a point is one entry of one tree (no row id).
metric_series = Table(
    "metric_series",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("run", _Number, ForeignKey("runs.number"), nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("run", "name", name="metric_series_once"),
)

metric_points = Table(
    "metric_points",
    metadata,
    Column("series", _Number, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("value", Double),  # null means NaN, which SQLite cannot hold
    Column("time_us", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Rows are what is known about a blob; whether it is there, the folder says.
artifacts = Table(
    "artifacts",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)

# Keys are what a node is (kind and digest), source and target are how it was called when the edge was told.
edges = Table(
    "edges",
    metadata,
    Column("sequence", _Number, primary_key=True),
    Column("source_key", Text, nullable=False),
    Column("target_key", Text, nullable=False),
    Column("relation", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    UniqueConstraint("source_key", "target_key", "relation", name="edges_once"),
    Index("edges_by_target", "target_key"),
    sqlite_autoincrement=True,
)

model_versions = Table(
    "model_versions",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("digest", Text, nullable=False),
    Column("run", _Number, ForeignKey("runs.number")),
    Column("metrics", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    UniqueConstraint("name", "digest", name="model_versions_once"),
)

# The present, written with each move: readers need not replay the history, which is in alias_moves.
aliases = Table(
    "aliases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("version", Integer, nullable=False),
)

alias_moves = Table(
    "alias_moves",
    metadata,
    Column("sequence", _Number, primary_key=True),
    Column("name", Text, nullable=False),
    Column("alias", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("previous", Integer),
    Column("reason", Text, nullable=False),
    Column("results", Text, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Index("alias_moves_by_name", "name", "sequence"),
    sqlite_autoincrement=True,
)

# The name alone is the key: a second canary of a model would leave its share undefined.
canaries = Table(
    "canaries",
    metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("share", Double, nullable=False),
    Column("results", Text, nullable=False),
    Column("time_us", BigInteger, nullable=False),
)

changes = Table(
    "changes",
    metadata,
    Column("sequence", _Number, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("fields", Text, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("fields", Text, nullable=False),
    Column("opened_us", BigInteger, nullable=False),
    Column("closed_us", BigInteger),
    Index("alerts_by_subject", "subject", "id"),
    sqlite_autoincrement=True,
)

# Corrections are new rows: what was believed when stays readable.
labels = Table(
    "labels",
    metadata,
    Column("sequence", _Number, primary_key=True),
    Column("prediction_id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Index("labels_by_prediction", "prediction_id", "sequence"),
    Index("labels_by_model", "model", "prediction_id"),
    sqlite_autoincrement=True,
)

# Narrow and found by key: a rerun of an unchanged flow is little else than reads of this table.
memo = Table(
    "memo",
    metadata,
    Column("sequence", _Number, primary_key=True),
    Column("key", Text, nullable=False),
    Column("flow", Text, nullable=False),
    Column("step", Text, nullable=False),
    Column("codec", Text, nullable=False),
    Column("inline", LargeBinary),
    Column("artifact", Text),
    Column("explain", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
    UniqueConstraint("key", name="memo_once"),
    Index("memo_by_step", "flow", "step", "sequence"),
    sqlite_autoincrement=True,
)

memo_claims = Table(
    "memo_claims",
    metadata,
    Column("key", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("expires_us", BigInteger, nullable=False),
)
