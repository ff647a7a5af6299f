"""Jobs that ended by their lane: nobody may have used one for months."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Create the index."""
    op.create_index("ix_job_history_lane", "job_history", ["lane", "created_at", "job"])
