"""Room for the ids that Celery clients choose for their jobs, of up to 255 characters."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

COLUMNS = {"job_history": "job", "job_recipients": "job", "approvals": "job", "runs": "run"}


def upgrade() -> None:
    """Widen the columns. SQLite minds no length, and PostgreSQL rewrites nothing."""
    if op.get_bind().dialect.name == "postgresql":
        for table, column in COLUMNS.items():
            op.alter_column(table, column, type_=sa.String(255))
