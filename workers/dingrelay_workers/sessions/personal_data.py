"""A person who has signed in to the console, or was sent a link for it."""

from sqlalchemy import Delete, Update, delete, select, update

from dingrelay_tasks.sentence import en
from dingrelay_workers.database.person_columns import contains
from dingrelay_workers.sessions.models import ConsoleFormRow, ConsoleLinkRow, ConsoleSessionRow
from dingrelay_workers.sessions.sessions import WRITER
from dingrelay_workers.subjects import DataSubject, Erasing, PersonalData, Rows, Stores, rows_of


async def export(stores: Stores, subject: DataSubject) -> Rows:
    """Their sessions and links, without the digests by which they are known."""
    session, link = ConsoleSessionRow, ConsoleLinkRow
    sessions = select(session.directory, session.role, session.begun_at, session.used_at)
    links = select(link.role, link.ends_at).where(link.user == subject.user)
    async with stores.database.read() as connection:
        queries = [subject.among(sessions.where(session.user == subject.user), session.directory)]
        queries += [] if subject.app else [links]
        return [
            dict(row) for query in queries for row in (await connection.execute(query)).mappings()
        ]


async def erase(stores: Stores, erasing: Erasing) -> None:
    """Sign them out: their sessions go, with the forms that they sent, their links, and what began with one that they issued.

    What a form of another person has said of them is forgotten.
    """
    session, link, form = ConsoleSessionRow, ConsoleLinkRow, ConsoleFormRow
    before = session.begun_at <= erasing.since
    async with stores.database.write(WRITER) as connection:
        rows = await rows_of(connection, session, erasing, before, app=session.directory)
        digests = [row["digest"] for row in rows]
        queries: list[Delete | Update] = [delete(session).where(session.digest.in_(digests))]
        if erasing.app is None:
            digests = [row["digest"] for row in await rows_of(connection, link, erasing)]
            queries.append(delete(link).where(link.digest.in_(digests)))
            named = contains(form.said, erasing.user), form.at <= erasing.since
            queries.append(update(form).where(*named).values(said=""))
        for query in queries:
            erasing.changed["sessions"] += (await connection.execute(query)).rowcount


PERSONAL_DATA = PersonalData(
    place="sessions",
    title=en("sessions of the console"),
    tables=(ConsoleSessionRow, ConsoleLinkRow, ConsoleFormRow),
    export=export,
    erase=erase,
)
