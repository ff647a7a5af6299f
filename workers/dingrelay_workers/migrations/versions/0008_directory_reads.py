"""When what the directory holds was read."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

MOMENTS = {
    "departments": ("read_at", "detailed_at"),
    "users": ("read_at", "detailed_at", "placed_at"),
    "memberships": ("read_at",),
}


def upgrade() -> None:
    """Add the columns."""
    for table, names in MOMENTS.items():
        for name in names:
            moment = sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))
            op.add_column(table, moment)
