"""DingTalk's delivery reports of a campaign's calls."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns, and find outcomes by their chunk."""
    op.add_column("campaign_chunks", sa.Column("confirmed_at", sa.DateTime(timezone=True)))
    for name in ("delivered", "read", "unread"):
        op.add_column("campaign_chunks", sa.Column(name, sa.Integer))
    op.create_index(
        "ix_campaign_outcomes_campaign_chunk", "campaign_outcomes", ["campaign", "chunk"]
    )
