import hashlib
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import make_url, text

from conftest import wait_until
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_workers.database import schema
from dingrelay_workers.database.base import Base
from dingrelay_workers.database.schema import upgrade
from dingrelay_workers.doctor.run_checks import check_database
from support import processes
from support.databases import prepare, prepare_released

RELEASED = {
    "0005_since_0_2_0.py": "952e05ab09dbde145fb816fef36ac6e14df73f0a937072d9bb73c904df85e751",
}
"""Revisions of releases, with the digests of their files."""


@pytest.mark.parametrize("make", [upgrade, prepare, prepare_released])
def test_migrations_make_the_models_tables(database_url: str, make: Callable[[str], None]) -> None:
    make(database_url)
    upgrade(database_url)
    upgrade(database_url)
    engine = schema.sync_engine(database_url)
    with engine.connect() as connection:
        kept = {schema.VERSIONS: schema.newest_revision(), "alembic_version": "0004"}
        options = {
            "compare_server_default": True,
            "include_name": lambda name, kind, _: kind != "table" or name not in kept,
        }
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
        for name, revision in kept.items():
            found = connection.execute(text(f"select version_num from {name}")).scalars().all()
            assert found == [revision]
    engine.dispose()


def test_a_revision_that_was_released_is_never_changed() -> None:
    """Databases have carried it out: what comes later is a revision of its own."""
    versions = resources.files("dingrelay_workers").joinpath("migrations", "versions")
    for name, digest in RELEASED.items():
        assert hashlib.sha256(versions.joinpath(name).read_bytes()).hexdigest() == digest


def test_tables_of_0_1_0_are_refused(database_url: str) -> None:
    prepare_released(database_url)
    engine = schema.sync_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '0001'"))
    engine.dispose()
    with pytest.raises(SettingsError, match=r"0\.2\.0 first"):
        upgrade(database_url)


def test_a_blocked_migration_restarts(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds what the other wants, and PostgreSQL gives up the one that has waited for longer."""
    prepare_released(postgres_url)
    tries: list[object] = []
    real = schema._migrate
    monkeypatch.setattr(schema, "_migrate", lambda found: (tries.append(found), real(found)))
    # So long the worker has to come between.
    timeout = make_url(postgres_url).update_query_dict({"options": "-c deadlock_timeout=2s"})
    engine = schema.sync_engine(postgres_url)

    def waits() -> bool:
        with engine.connect() as connection:
            waiting = text("select count(*) from pg_locks where not granted")
            return bool(connection.execute(waiting).scalar_one())

    with ThreadPoolExecutor(1) as pool, engine.connect() as worker:
        worker.execute(text("set deadlock_timeout = '1h'"))
        worker.execute(text("lock table users in share mode"))
        migrating = pool.submit(upgrade, timeout.render_as_string(hide_password=False))
        wait_until(waits, what="the migration waits for the worker")
        worker.execute(text("select count(*) from campaigns"))
        worker.commit()
        migrating.result(60)
    engine.dispose()
    assert len(tries) == 2
    assert schema.revision(postgres_url) == schema.newest_revision()


@pytest.mark.parametrize(("oldest", "works"), [("0005", True), ("9000", False)])
def test_a_newer_schema_is_used_or_refused(database_url: str, oldest: str, works: bool) -> None:
    prepare(database_url)
    engine = schema.sync_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("update schema_version set version_num = '9999'"))
        connection.execute(text("update schema_readers set oldest = :oldest"), {"oldest": oldest})
    engine.dispose()
    settings = Settings.load(env="test", database_url=database_url)
    found = check_database(settings)
    assert found.verdict == "warning"
    assert "revision 9999" in found.found
    if works:
        schema.migrate(settings)
        assert schema.revision(database_url) == "9999"
        return
    with pytest.raises(SettingsError, match="DINGRELAY_DATABASE_URL: its tables are of a newer"):
        schema.migrate(settings)


def test_threads_that_start_at_once_migrate_once(database_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade, [database_url] * 4))


def test_processes_that_start_at_once_migrate_once(database_url: str) -> None:
    script = (
        "import sys; from dingrelay_workers.database.schema import upgrade; "
        "print('ready', flush=True); sys.stdin.readline(); upgrade(sys.argv[1])"
    )
    workers = [
        processes.Popen(
            [sys.executable, "-c", script, database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(4)
    ]
    for worker in workers:
        assert worker.stdout
        assert worker.stdout.readline() == b"ready\n"
    for worker in workers:
        assert worker.stdin
        worker.stdin.write(b"\n")
        worker.stdin.flush()
    errors = [worker.communicate(timeout=60)[1].decode() for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4, errors


def test_a_database_of_another_kind_is_refused_by_name_of_the_setting() -> None:
    with pytest.raises(ValueError, match="DINGRELAY_DATABASE_URL") as raised:
        upgrade("mysql://someone:hush@localhost/x")
    assert "hush" not in str(raised.value)
