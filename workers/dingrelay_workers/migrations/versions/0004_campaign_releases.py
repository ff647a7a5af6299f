"""Campaigns: numbered releases, a stored rate, and an index of people to chunks."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns, and the index of people."""
    for name in ("recent_people", "recent_failed", "rate_credit"):
        op.add_column("campaigns", sa.Column(name, sa.Float, nullable=False, server_default="0"))
    op.add_column("campaigns", sa.Column("rate_at", sa.DateTime(timezone=True)))
    op.add_column("campaigns", sa.Column("index_bits", sa.Integer))
    op.add_column(
        "campaign_chunks", sa.Column("generation", sa.Integer, nullable=False, server_default="0")
    )
    op.create_table(
        "campaign_index",
        sa.Column("campaign", sa.String(36), nullable=False),
        sa.Column("bucket", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("part", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("entries", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("campaign", "bucket", "part", name="pk_campaign_index"),
        sa.ForeignKeyConstraint(
            ["campaign"],
            ["campaigns.id"],
            name="fk_campaign_index_campaign",
            ondelete="CASCADE",
        ),
    )
