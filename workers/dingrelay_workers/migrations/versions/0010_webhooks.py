"""Notices that were passed on, and their deliveries."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables, and the columns that say how far an endpoint has come."""
    op.create_table(
        "notices",
        sa.Column("number", _NUMBER, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("type", sa.String(128), nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("sender", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_notices"),
        sa.UniqueConstraint("id", name="uq_notices_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_notices_recorded_at", "notices", ["recorded_at"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("endpoint", sa.String(16), nullable=False),
        sa.Column("notice", sa.BigInteger, nullable=False),
        sa.Column("round", sa.Integer, nullable=False),
        sa.Column("job", sa.String(36), nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("released_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", "notice", "round", name="pk_webhook_deliveries"),
        sa.UniqueConstraint("job", name="uq_webhook_deliveries_job"),
        sa.ForeignKeyConstraint(
            ["endpoint"],
            ["webhook_endpoints.id"],
            name="fk_webhook_deliveries_endpoint",
            ondelete="CASCADE",
        ),
    )
    for name in ("skipped", "replay_round", "replay_position", "replay_until"):
        op.add_column(
            "webhook_endpoints",
            sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0")),
        )
