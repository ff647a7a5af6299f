"""Alembic runs this for each migration, on the connection that `schema.upgrade` hands over.

Migrations are written by hand and know no model: a test compares what they make with the models.
"""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table=context.config.attributes["version_table"],
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
