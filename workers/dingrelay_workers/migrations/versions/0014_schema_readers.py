"""The oldest code that works with the tables: workers of two releases run side by side for a while."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Create the table. Whoever knows of it works with what is there now."""
    readers = op.create_table(
        "schema_readers", sa.Column("oldest", sa.String(32), primary_key=True)
    )
    op.bulk_insert(readers, [{"oldest": "0014"}])
