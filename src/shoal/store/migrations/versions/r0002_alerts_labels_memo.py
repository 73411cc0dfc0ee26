"""Alerts, labels of predictions, and the memo of flows."""

from alembic import op
from sqlalchemy import BigInteger, Column, Double, Integer, LargeBinary, Text, UniqueConstraint

revision = "0002"
down_revision: str | None = "0001"

NUMBER = BigInteger().with_variant(Integer(), "sqlite")


def upgrade() -> None:
    """Add what watching and flows need."""
    op.create_table(
        "alerts",
        Column("id", NUMBER, primary_key=True),
        Column("kind", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("fields", Text, nullable=False),
        Column("opened_us", BigInteger, nullable=False),
        Column("closed_us", BigInteger),
        sqlite_autoincrement=True,
    )
    op.create_index("alerts_by_subject", "alerts", ["subject", "id"])
    op.create_table(
        "labels",
        Column("sequence", NUMBER, primary_key=True),
        Column("prediction_id", Text, nullable=False),
        Column("model", Text, nullable=False),
        Column("value", Text, nullable=False),
        Column("time_us", BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("labels_by_prediction", "labels", ["prediction_id", "sequence"])
    op.create_index("labels_by_model", "labels", ["model", "prediction_id"])
    op.create_table(
        "memo",
        Column("sequence", NUMBER, primary_key=True),
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
        sqlite_autoincrement=True,
    )
    op.create_index("memo_by_step", "memo", ["flow", "step", "sequence"])
    op.create_table(
        "memo_claims",
        Column("key", Text, primary_key=True),
        Column("owner", Text, nullable=False),
        Column("expires_us", BigInteger, nullable=False),
    )
