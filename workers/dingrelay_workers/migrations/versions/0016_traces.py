"""The trace in which a campaign was made, and in which something happened that is told of."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add the columns. Who does not know them writes none, and reads the others."""
    for table in ("campaigns", "outbox", "notices"):
        op.add_column(
            table,
            sa.Column("trace", sa.String(600), nullable=False, server_default=sa.text("''")),
        )
