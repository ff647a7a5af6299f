"""The directory's first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "departments",
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("parent", sa.BigInteger),
        sa.Column("name", sa.Text),
        sa.Column("fields", sa.JSON, nullable=False),
        sa.Column("met_in", sa.Integer, nullable=False),
        sa.Column("left_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("app", "id", name="pk_departments"),
    )
    op.create_index("ix_departments_app_parent", "departments", ["app", "parent"])
    op.create_table(
        "users",
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("userid", sa.Text, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("fields", sa.JSON, nullable=False),
        sa.Column("met_in", sa.Integer, nullable=False),
        sa.Column("left_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("app", "userid", name="pk_users"),
    )
    op.create_table(
        "memberships",
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("department", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("userid", sa.Text, nullable=False),
        sa.Column("leader", sa.Boolean),
        sa.Column("dept_order", sa.BigInteger),
        sa.Column("met_in", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("app", "department", "userid", name="pk_memberships"),
        sa.ForeignKeyConstraint(
            ["app", "department"],
            ["departments.app", "departments.id"],
            name="fk_memberships_app_department",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["app", "userid"],
            ["users.app", "users.userid"],
            name="fk_memberships_app_userid",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_memberships_app_userid", "memberships", ["app", "userid"])
    op.create_table(
        "runs",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("run", sa.String(64), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True)),
        sa.Column("calls", sa.Integer, nullable=False),
        sa.Column("users", sa.Integer),
        sa.PrimaryKeyConstraint("number", name="pk_runs"),
        sa.UniqueConstraint("app", "run", name="uq_runs_app_run"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "run_departments",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("department", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("parent", sa.BigInteger),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("calls", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("number", "department", name="pk_run_departments"),
        sa.ForeignKeyConstraint(
            ["number"], ["runs.number"], name="fk_run_departments_number", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_run_departments_number_parent", "run_departments", ["number", "parent"])
    op.create_table(
        "changes",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("userid", sa.Text, nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("fields", sa.JSON, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", "userid", name="pk_changes"),
        sa.ForeignKeyConstraint(
            ["number"], ["runs.number"], name="fk_changes_number", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_changes_app_userid", "changes", ["app", "userid"])
