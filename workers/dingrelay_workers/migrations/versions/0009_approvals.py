"""Approvals after their creation."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the tables."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "approvals",
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("instance", sa.String(128), nullable=False),
        sa.Column("job", sa.String(64), nullable=False),
        sa.Column("sender", sa.String(64), nullable=False),
        sa.Column("template", sa.String(128), nullable=False),
        sa.Column("originator", sa.String(64), nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("business_id", sa.String(64), nullable=False),
        sa.Column("link", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("source", sa.String(8), nullable=False),
        sa.Column("created_at", moment),
        sa.Column("finished_at", moment),
        sa.Column("known_at", moment, nullable=False),
        sa.Column("changed_at", moment, nullable=False),
        sa.Column("looks", sa.Integer, nullable=False),
        sa.Column("look_at", moment),
        sa.PrimaryKeyConstraint("app", "instance", name="pk_approvals"),
    )
    op.create_index("ix_approvals_app_state_known_at", "approvals", ["app", "state", "known_at"])
    op.create_index("ix_approvals_app_known_at", "approvals", ["app", "known_at"])
    op.create_table(
        "approval_tasks",
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("instance", sa.String(128), nullable=False),
        sa.Column("task", sa.String(64), nullable=False),
        sa.Column("user", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("since", moment),
        sa.Column("ended_at", moment),
        sa.PrimaryKeyConstraint("app", "instance", "task", name="pk_approval_tasks"),
        sa.ForeignKeyConstraint(
            ["app", "instance"],
            ["approvals.app", "approvals.instance"],
            name="fk_approval_tasks_app_instance",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_approval_tasks_app_user_state", "approval_tasks", ["app", "user", "state"])
