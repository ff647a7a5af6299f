"""Alembic runs this for each migration, on the connection that `schema.upgrade` hands over."""

from alembic import context

from dingrelay_workers.campaigns.models import CampaignRow

context.configure(
    connection=context.config.attributes["connection"],
    # All tables are in it: the campaigns' module imports the directory's.
    target_metadata=CampaignRow.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
