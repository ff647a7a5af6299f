"""Jobs that ended, and their recipients."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the tables."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "job_history",
        sa.Column("job", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("sender", sa.String(64), nullable=False),
        sa.Column("key", sa.String(256), nullable=False),
        sa.Column("lane", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("started_at", moment),
        sa.Column("ended_at", moment, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("throttles", sa.Integer, nullable=False),
        sa.Column("error_class", sa.String(32), nullable=False),
        sa.Column("error_code", sa.String(128), nullable=False),
        sa.Column("ids", sa.JSON, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("content", sa.Text),
        sa.PrimaryKeyConstraint("job", name="pk_job_history"),
    )
    op.create_index("ix_job_history_created_at", "job_history", ["created_at", "job"])
    for name in ("app", "sender", "kind", "state"):
        op.create_index(f"ix_job_history_{name}", "job_history", [name, "created_at", "job"])
    op.create_index("ix_job_history_ended_at", "job_history", ["ended_at"])
    op.create_table(
        "job_recipients",
        sa.Column("job", sa.String(64), nullable=False),
        sa.Column("user", sa.String(128), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.PrimaryKeyConstraint("job", "user", name="pk_job_recipients"),
        sa.ForeignKeyConstraint(
            ["job"], ["job_history.job"], name="fk_job_recipients_job", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_job_recipients_user", "job_recipients", ["user", "at", "job"])
