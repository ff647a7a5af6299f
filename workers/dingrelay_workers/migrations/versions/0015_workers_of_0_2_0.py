"""Let workers of 0.2.0 start on these tables: all changes since then leave them what they need."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

KNOWN_THEN = "0004"


def upgrade() -> None:
    """Tell them the newest revision that they know, where they look for it."""
    versions = sa.table("alembic_version", sa.column("version_num"))
    connection = op.get_bind()
    if sa.inspect(connection).has_table("alembic_version"):
        op.execute(versions.update().values(version_num=KNOWN_THEN))
        return
    versions = op.create_table(
        "alembic_version", sa.Column("version_num", sa.String(32), primary_key=True)
    )
    op.bulk_insert(versions, [{"version_num": KNOWN_THEN}])
