"""Alembic runs this for each migration, on the connection that `schema.upgrade` hands over."""

from alembic import context

from dingrelay_workers.campaigns import models  # noqa: F401 - Base learns of its tables
from dingrelay_workers.directory.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
