"""Who asks for a campaign."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        "campaigns",
        sa.Column("sender", sa.String(64), nullable=False, server_default=sa.text("''")),
    )
