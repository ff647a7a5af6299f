"""Alembic runs this on the connection that `schema.upgrade` hands over: to migrate, or to stamp a new database.

A new database gets the tables of the models. Migrations are written by hand and know no model: a test compares what
they make of the tables of a release with the models.
"""

from alembic import context
from sqlalchemy import Column, Connection, MetaData, String, Table, insert

from dingrelay_workers.database.base import Base
from dingrelay_workers.database.schema import FORMER_VERSIONS, RELEASED, SchemaReaders
from dingrelay_workers.nouns import NOUNS

WORKS_WITH = "0005"
"""The newest revision that the oldest code knows which works with these tables."""


def make_tables(connection: Connection) -> None:
    """Make all tables; workers of 0.2.0 can use them, too."""
    for noun in NOUNS:
        for part in noun.tables:
            noun.load(part)
    Base.metadata.create_all(connection)
    connection.execute(insert(SchemaReaders).values(oldest=WORKS_WITH))
    column = Column("version_num", String(32), primary_key=True)
    versions = Table(FORMER_VERSIONS, MetaData(), column)
    versions.create(connection)
    connection.execute(insert(versions).values(version_num=RELEASED))


handed_over = context.config.attributes
context.configure(
    connection=handed_over["connection"],
    version_table=handed_over["version_table"],
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    if handed_over["is_new"]:
        make_tables(handed_over["connection"])
    context.run_migrations()
