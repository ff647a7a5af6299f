"""Rows of a list that match no one are counted apart from those that can't be read.

Workers of 0.3.0 go on: they write both as malformed.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the columns."""
    people = sa.Column("unmatched", sa.Integer, nullable=False, server_default="0")
    op.add_column("campaigns", people)
    outcome = sa.Column("outcome", sa.String(16), nullable=False, server_default="malformed")
    op.add_column("campaign_malformed", outcome)
