"""The tables of campaigns."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "campaigns",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("message", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("start_at", sa.DateTime(timezone=True)),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("quiet", sa.String(16), nullable=False),
        sa.Column("rate", sa.Integer),
        sa.Column("weight", sa.Integer, nullable=False),
        sa.Column("error_share", sa.Float, nullable=False),
        *(
            sa.Column(name, sa.Integer, nullable=False)
            for name in (
                "recipients",
                "duplicates",
                "malformed",
                "chunks",
                "settled",
                "accepted",
                "left_out",
                "failed",
                "calls",
            )
        ),
        sa.PrimaryKeyConstraint("id", name="pk_campaigns"),
    )
    op.create_index("ix_campaigns_state", "campaigns", ["state"])
    op.create_table(
        "campaign_chunks",
        sa.Column("campaign", sa.String(36), nullable=False),
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("users", sa.Text, nullable=False),
        sa.Column("message", sa.JSON),
        sa.Column("task_id", sa.BigInteger),
        sa.Column("called_at", sa.DateTime(timezone=True)),
        sa.Column("recalled_at", sa.DateTime(timezone=True)),
        sa.Column("accepted", sa.Integer, nullable=False),
        sa.Column("error", sa.JSON),
        sa.Column("ambiguous", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("campaign", "number", name="pk_campaign_chunks"),
        sa.ForeignKeyConstraint(
            ["campaign"],
            ["campaigns.id"],
            name="fk_campaign_chunks_campaign",
            ondelete="CASCADE",
        ),
    )
    op.create_index(
        "ix_campaign_chunks_campaign_state_number",
        "campaign_chunks",
        ["campaign", "state", "number"],
    )
    op.create_table(
        "campaign_outcomes",
        sa.Column("campaign", sa.String(36), nullable=False),
        sa.Column("userid", sa.String(64), nullable=False),
        sa.Column("chunk", sa.Integer, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("campaign", "userid", name="pk_campaign_outcomes"),
        sa.ForeignKeyConstraint(
            ["campaign"],
            ["campaigns.id"],
            name="fk_campaign_outcomes_campaign",
            ondelete="CASCADE",
        ),
    )
