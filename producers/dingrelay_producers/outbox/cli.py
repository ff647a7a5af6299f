"""``dingrelay outbox``: relays an application's outbox, and shows what was refused."""

from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dingrelay_producers.cli.output import print_result, say
from dingrelay_producers.language import tr, translated
from dingrelay_tasks.sentence import en, from_text

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from sqlalchemy import Connection, Engine

VARIABLE = "DINGRELAY_OUTBOX_URL"
HELP = "Enqueue jobs that applications write into their databases."
app = typer.Typer(help=HELP, no_args_is_help=True)
Ids = Annotated[list[str], typer.Argument(metavar="ID", help="Of rows that are refused.")]


@app.command()
def relay() -> None:
    """Enqueue the jobs of the outbox until it is stopped; the database is DINGRELAY_OUTBOX_URL."""
    import signal
    import sys

    from dingrelay_producers.outbox.relay import Relay
    from dingrelay_producers.running import notify_ready

    engine = _engine()
    outbox = Relay(engine)
    database = engine.url.render_as_string(hide_password=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, outbox.end)
    say(tr("relaying the outbox of {database}", database=database))
    sys.stdout.flush()
    notify_ready()
    outbox.run()


@app.command()
def ddl(
    database: Annotated[
        Literal["postgresql", "mysql", "sqlite"], typer.Argument(help="Kind of the database.")
    ],
) -> None:
    """Print the SQL that makes the table, for a migration."""
    from sqlalchemy.schema import CreateTable

    from dingrelay_producers.outbox.tables import metadata

    dialect = import_module(f"sqlalchemy.dialects.{database}").dialect()
    for table in metadata.sorted_tables:
        typer.echo(f"{str(CreateTable(table).compile(dialect=dialect)).strip()};")


@app.command("list")
def list_() -> None:
    """List the rows that are refused, and count those that wait."""
    from sqlalchemy import select

    from dingrelay_producers.outbox.tables import OutboxRow

    with _connection() as connection:
        columns = select(OutboxRow.id, OutboxRow.kind, OutboxRow.refused)
        rows = connection.execute(columns.order_by(OutboxRow.number)).mappings().all()
    refused = [
        {**row, "refused": from_text(row["refused"])} for row in rows if row["refused"] is not None
    ]
    waiting = len(rows) - len(refused)
    lines = [f"{row['id']} {row['kind']}: {translated(row['refused'])}" for row in refused]
    page = "\n".join([tr("{count} rows wait", count=waiting), *lines])
    print_result({"waiting": waiting, "refused": refused}, lambda: page)


@app.command()
def retry(ids: Ids) -> None:
    """Have rows that are refused enqueued after all."""
    _change(ids, discarded=False)


@app.command()
def discard(ids: Ids) -> None:
    """Delete rows that are refused."""
    _change(ids, discarded=True)


def _change(ids: "Sequence[str]", *, discarded: bool) -> None:
    from sqlalchemy import delete, update

    from dingrelay_producers.outbox.tables import OutboxRow

    which = OutboxRow.id.in_(ids) & OutboxRow.refused.is_not(None)
    again = update(OutboxRow).values(refused=None, tried_at=None, leased_until=None)
    with _connection() as connection:
        change = delete(OutboxRow).where(which) if discarded else again.where(which)
        count = connection.execute(change).rowcount
    print_result({"changed": count}, lambda: tr("{count} rows", count=count))


@contextmanager
def _connection() -> "Generator[Connection]":
    from sqlalchemy.exc import DBAPIError

    from dingrelay_producers.errors import ServiceUnavailable

    engine = _engine()
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        cause = str(error.orig).partition("\n")[0]
        raise ServiceUnavailable(en("{}: {}", VARIABLE, cause)) from None
    finally:
        engine.dispose()


def _engine() -> "Engine":
    """The outbox's database.

    Raises:
        SettingsError: the setting is missing or wrong, or its driver is not installed or does not block.
    """
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import ArgumentError

    from dingrelay_producers.settings import Settings, SettingsError

    problem = en("must be a URL with a driver that blocks: postgresql+psycopg://user@host/database")
    try:
        url = make_url(Settings.load().outbox_url.get_secret_value())
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        # A pooler between, such as pgbouncer, may not know the statement the next time.
        arguments = {"prepare_threshold": None} if url.get_driver_name() == "psycopg" else {}
        engine = create_engine(url, connect_args=arguments)
        if not engine.dialect.is_async:
            return engine
    except ModuleNotFoundError as error:
        problem = en("{} is not installed", error.name)
    except (ArgumentError, ValueError):  # their texts may have the URL, and so a password
        pass
    raise SettingsError(en("{}: {}", VARIABLE, problem))
