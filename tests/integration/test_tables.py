"""Tables that a test left in PostgreSQL are empty for the next one, and those that it changed are gone."""

import psycopg
import pytest

from dingrelay_workers.database.schema import upgrade
from support.databases import clear, prepare


def revision(connection: psycopg.Connection) -> object:
    return connection.execute("select version_num from schema_version").fetchone()


def test_they_are_kept_without_their_rows(postgres_url: str) -> None:
    prepare(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        made = connection.execute("select 'campaigns'::regclass::oid").fetchone()
        newest = revision(connection)
        connection.execute(
            "insert into departments (app, id, fields, met_in, read_at, detailed_at)"
            " values ('a', 1, '{}', 1, 1, 1)"
        )
    clear(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("select to_regclass('campaigns')").fetchone() == (None,)
    prepare(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("select 'campaigns'::regclass::oid").fetchone() == made
        assert connection.execute("select count(*) from departments").fetchone() == (0,)
        assert revision(connection) == newest


@pytest.mark.parametrize(
    "change",
    [
        "alter table campaigns add column more text",
        "alter table campaigns alter column name drop not null",
        "drop table memberships",
        "create table more (id int)",
        "update schema_version set version_num = '9999'",
        "delete from schema_readers",
    ],
)
def test_they_are_made_anew_after_a_change(postgres_url: str, change: str) -> None:
    prepare(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        made = connection.execute("select 'campaigns'::regclass::oid").fetchone()
        newest = revision(connection)
        connection.execute(change.encode())
    clear(postgres_url)
    prepare(postgres_url)
    with psycopg.connect(postgres_url) as connection:
        assert connection.execute("select 'campaigns'::regclass::oid").fetchone() != made
        assert connection.execute("select count(*) from departments").fetchone() == (0,)
        assert revision(connection) == newest
    upgrade(postgres_url)
