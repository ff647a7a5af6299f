"""The history as the clients of `dingrelay_producers` read it."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    RowMapping,
    Select,
    and_,
    exists,
    func,
    literal,
    literal_column,
    select,
    true,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.actor import Reach, current_reach
from dingrelay_producers.client.filters import JobFilter, Seen
from dingrelay_producers.client.history_documents import (
    FoundPeople,
    JobDetails,
    Message,
    PersonHistory,
)
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobError, JobStatus
from dingrelay_tasks.contract import LANES
from dingrelay_tasks.kinds import reported_kinds
from dingrelay_tasks.robot_names import target_of
from dingrelay_workers.database.base import Utc
from dingrelay_workers.database.database import Database, chunks, latest_first
from dingrelay_workers.database.errors import reading, refuse_missing
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.directory.service import SCOPE as DIRECTORY_SCOPE
from dingrelay_workers.directory.service import find_people, named
from dingrelay_workers.history.models import UNRESOLVED, JobRow, RecipientRow
from dingrelay_workers.nouns import NOUNS

Place = tuple[datetime, str]
"""Position of a message in a person's list: its moment, and the id of its job or campaign."""
_BEHIND_ALL = "zzzzzzzz"
"""Behind each id of a moment, in any order of letters."""
MOST_LOOKED_AT = 5_000
"""Jobs that one page of a list may cost."""
_INDEXED: Mapping[str, Sequence[ColumnElement[bool]]] = {
    "app": (),
    "sender": (),
    "kind": (),
    "state": (JobRow.state != literal_column("'done'"),),
    "code": (JobRow.error_code != literal_column("''"),),
}
"""Fields with an index each, and what its jobs have in common."""
_UUID, _DASHES = 36, frozenset({8, 13, 18, 23})
"""Characters of an id, and where it has its dashes."""
MOST_MATCHES = 1_000
"""People that are counted who fit a search."""
MOST_MESSAGES = 1_000
"""Messages to a person that are looked at for an actor who does not see all."""
MOST_DEPARTMENTS = 20
"""Names of departments shown of a person."""


class HistoryService:
    """The history of ended jobs. Every method raises `ServiceUnavailable` where the database is away.

    Args:
        settings: where it is.
        database: as of `reading`.
    """

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        self._settings = settings
        self._database = database

    async def list(
        self, job_filter: JobFilter, seen: Seen, *, before: Place | None, limit: int
    ) -> tuple[Sequence[JobStatus], Place | None]:
        """Jobs that ended and that the caller may see, the latest accepted first.

        It looks at `MOST_LOOKED_AT` jobs at most; so a filter that few fit gives short pages. With them the place
        behind which the list goes on; None where it ends.
        """
        fit = job_filter.allowed(seen)
        async with self._reading() as connection:
            if connection is None or not all(fit.values()):
                return [], None
            query, behind = await _looked_at(connection, job_filter, fit, before)
            page = latest_first(query, JobRow.created_at, JobRow.job, behind=before, limit=limit)
            rows = (await connection.execute(page)).mappings().all()
        if len(rows) == limit:
            behind = rows[-1]["created_at"], rows[-1]["job"]
        return [_status(row) for row in rows], behind

    async def find(self, jobs: Collection[str]) -> Mapping[str, JobStatus]:
        """The jobs among these that the history has."""
        every = select(JobRow.__table__)
        rows = await self._rows(*(every.where(JobRow.job.in_(batch)) for batch in chunks(jobs)))
        return {row["job"]: _status(row) for row in rows}

    async def beginning(self, text: str, limit: int) -> Sequence[str]:
        """The ids of jobs that begin so; only those of the usual form, a UUID."""
        if not _fits_uuid(text):
            return []
        # Digits and letters stand in one order in every collation, so the index can be used.
        lowest, highest = (text + digit * _UUID for digit in ("0", "f"))
        between = JobRow.job.between(_as_uuid(lowest), _as_uuid(highest))
        query = select(JobRow.job).where(between).order_by(JobRow.job).limit(limit)
        return [row["job"] for row in await self._rows(query)]

    async def details(self, job: str) -> JobDetails | None:
        """A job with its key and its people; None if it is not kept."""
        rows = await self._rows(select(JobRow.__table__).where(JobRow.job == job))
        if not rows:
            return None
        query = select(RecipientRow.user, RecipientRow.outcome).where(RecipientRow.job == job)
        people = await self._rows(query.order_by(RecipientRow.user))
        outcomes = {row["user"]: row["outcome"] for row in people}
        return JobDetails(_status(rows[0]), rows[0]["key"], outcomes)

    async def to(self, jobs: Collection[str], user: str) -> set[str]:
        """The jobs among these that were for a person."""
        jobs_of_person = select(RecipientRow.job).where(RecipientRow.user == user)
        rows = await self._rows(
            *(jobs_of_person.where(RecipientRow.job.in_(batch)) for batch in chunks(jobs))
        )
        return {row["job"] for row in rows}

    async def person(
        self,
        user: str,
        *,
        app: str | None,
        limit: int,
        since: datetime | None = None,
        before: Place | None = None,
    ) -> tuple[PersonHistory, Place | None]:
        """The messages to a person which the actor sees, the latest first.

        An actor who does not see all may get fewer than `limit` although there are more. With them the place behind
        which the list goes on; None where it ends.

        Args:
            user: their userid.
            app: of this app only; None for all.
            limit: how many at most.
            since: none from before.
            before: only those behind this one.

        Raises:
            ServiceUnavailable: the database is away, or not there.
        """
        refuse_missing(self._settings.database)
        async with self._reading() as connection:
            if connection is None:
                return PersonHistory(user=user, messages=[], known_as=[]), None
            reach = current_reach()
            most = limit if reach.sees_all else MOST_MESSAGES
            jobs = await _jobs_for(connection, user, app, most, before)
            messages = [message for message, _ in jobs]
            for noun in NOUNS:
                for part in noun.messages:
                    add = noun.load(part)
                    messages = await add(connection, user, jobs, app=app, most=most, before=before)
            known_as = await find_people(
                connection, UserRow.userid == user, app=app, departments=MOST_DEPARTMENTS
            )
        messages.sort(key=place_of, reverse=True)
        messages = [message for message in messages if since is None or message.at >= since][:most]
        seen = [message for message in messages if _reaches(reach, message)]
        history = PersonHistory(
            user=user,
            messages=seen[:limit],
            known_as=[
                person for person in known_as if reach.reaches_app(DIRECTORY_SCOPE, person.app)
            ],
        )
        if len(seen) > limit:
            return history, place_of(seen[limit - 1])
        if len(messages) < most:
            return history, None
        last = messages[-1]
        later = [message for message in seen if message.at > last.at]
        if _reaches(reach, last) or not later:
            return history, place_of(last)
        # The id of what the actor may not see stays here: the list goes on with all of its moment.
        return history.model_copy(update={"messages": later}), (last.at, _BEHIND_ALL)

    async def search(self, text: str, *, app: str | None, limit: int) -> FoundPeople:
        """People in the directories that are the actor's, and the number of those who fit.

        Args:
            text: a part of their name, a userid or an address.
            app: of this app's directory only; None for all.
            limit: how many people at most.

        Raises:
            ServiceUnavailable: the database is away, or not there.
        """
        refuse_missing(self._settings.database)
        fit = named(text)
        if (apps := current_reach().apps_of(DIRECTORY_SCOPE)) is not None:
            fit &= UserRow.app.in_(apps)
        if app is not None:
            fit &= UserRow.app == app
        async with reading(self._settings, UserRow, self._database) as connection:
            if connection is None:
                return FoundPeople(people=[], matches=0)
            matching_rows = select(UserRow.userid).where(fit).limit(MOST_MATCHES).subquery()
            matches = await connection.scalar(select(func.count()).select_from(matching_rows))
            people = await find_people(connection, fit, app=app, limit=limit)
        return FoundPeople(people=people, matches=matches or 0)

    async def namesakes(self, text: str, *, apps: Collection[str], limit: int) -> set[str]:
        """Userids of people in the actor's directories of these apps that have this userid, or this whole name."""
        readable = current_reach().apps_of(DIRECTORY_SCOPE)
        theirs = {*apps} if readable is None else {*apps} & readable
        is_named = (UserRow.userid == text) | (UserRow.name == text)
        query = select(UserRow.userid).where(UserRow.app.in_(theirs), is_named).limit(limit)
        return {row["userid"] for row in await self._rows(query)}

    async def kept(self, ids: Collection[str]) -> Mapping[str, tuple[str, str | None]]:
        """Id → kind and content, of those of these jobs that the history has; None where it keeps no contents."""
        query = select(JobRow.job, JobRow.kind, JobRow.content)
        rows = await self._rows(*(query.where(JobRow.job.in_(batch)) for batch in chunks(ids)))
        return {row["job"]: (row["kind"], row["content"]) for row in rows}

    async def names(self, users: Collection[str], *, apps: Collection[str]) -> Mapping[str, str]:
        """Userid → name, of those of these people that the directories of these apps know."""
        query = select(UserRow.userid, UserRow.name).where(UserRow.app.in_(apps))
        rows = await self._rows(
            *(query.where(UserRow.userid.in_(batch)) for batch in chunks(users))
        )
        return {row["userid"]: row["name"] for row in rows if row["name"]}

    async def _rows(self, *queries: Executable) -> Sequence[RowMapping]:
        """The rows of some queries; none where nothing was ever written."""
        if not queries:
            return []
        async with self._reading() as connection:
            if connection is None:
                return []
            return [
                row for query in queries for row in (await connection.execute(query)).mappings()
            ]

    def _reading(self) -> AbstractAsyncContextManager[AsyncConnection | None]:
        return reading(self._settings, JobRow, self._database)


def _reaches(reach: Reach, message: Message) -> bool:
    # A campaign has one lane, and is seen by its app.
    scope, lane = ("campaigns:read", "") if message.campaign else ("jobs:read", message.lane)
    where = {"app": message.app, "sender": message.sender, "lane": lane, "target": message.target}
    return reach.reaches(scope, **where)


def _fits_uuid(text: str) -> bool:
    """Whether an id of the usual form may begin so."""
    if len(text) > _UUID:
        return False
    return all(
        char == "-" if index in _DASHES else char in "0123456789abcdef"
        for index, char in enumerate(text)
    )


def _as_uuid(text: str) -> str:
    return "".join("-" if index in _DASHES else text[index] for index in range(_UUID))


async def _looked_at(
    connection: AsyncConnection,
    job_filter: JobFilter,
    fit: Mapping[str, Collection[str]],
    before: Place | None,
) -> tuple[Select[Any], Place | None]:
    """Jobs that fit, among so many as one page may look at, and the last of these; None where these are all.

    It looks at those of one index: of the condition that the fewest jobs fulfil. The other ones are written so that
    no index helps, or a database would follow whichever it likes.

    Args:
        connection: to the database.
        job_filter: which jobs.
        fit: the values that their fields may have.
        before: the place behind which the page begins.
    """
    query = select(JobRow.__table__)
    if job_filter.since:
        query = query.where(JobRow.created_at >= job_filter.since)
    if job_filter.until:
        query = query.where(JobRow.created_at < job_filter.until)
    every = {"kind": reported_kinds(), "lane": LANES}
    fit = {name: values for name, values in fit.items() if not {*values} >= {*every.get(name, "*")}}
    columns = {name: JobRow.error_code if name == "code" else getattr(JobRow, name) for name in fit}
    conditions = {name: columns[name].concat("").in_(values) for name, values in fit.items()}
    if job_filter.text is not None:
        conditions["text"] = JobRow.content.contains(job_filter.text, autoescape=True)
    if job_filter.to is not None:
        is_theirs = RecipientRow.user == job_filter.to
        to_them = select(RecipientRow.job).where(is_theirs)
        ranked = to_them.order_by(RecipientRow.at.desc()).offset(MOST_LOOKED_AT).limit(1)
        if await connection.scalar(ranked) is None:
            return query.where(JobRow.job.in_(to_them), *conditions.values()), None
        conditions["to"] = exists().where(RecipientRow.job == JobRow.job, is_theirs)
    leads = {
        name: and_(columns[name] == value, *_INDEXED[name])
        for name, (value, *more) in fit.items()
        if name in _INDEXED and not more and value not in {State.DONE, ""}
    } or {"": true()}
    if conditions.keys() <= leads.keys() and len(leads) == 1:
        return query.where(*leads.values()), None
    last_places = {
        name: await _last_of(connection, query.where(lead), before) for name, lead in leads.items()
    }
    rarest = min(last_places, key=lambda name: last_places[name])
    query = query.where(
        leads[rarest], *(condition for name, condition in conditions.items() if name != rarest)
    )
    if not last_places[rarest]:
        return query, None
    at, job = last_places[rarest]
    place = tuple_(JobRow.created_at, JobRow.job)
    return query.where(place >= tuple_(literal(at, Utc), literal(job))), (at, job)


async def _last_of(
    connection: AsyncConnection, jobs: Select[Any], before: Place | None
) -> tuple[Any, ...]:
    """The place of the last of these jobs that one page looks at; an empty one if there are fewer."""
    order = JobRow.created_at, JobRow.job
    last = latest_first(jobs, *order, behind=before, limit=1).offset(MOST_LOOKED_AT - 1)
    answer = await connection.execute(last.with_only_columns(*order))
    return tuple(answer.one_or_none() or ())


def place_of(message: Message) -> Place:
    """Position of a message in a person's list."""
    return message.at, message.job or message.campaign


async def _jobs_for(
    connection: AsyncConnection, user: str, app: str | None, limit: int, before: Place | None
) -> list[tuple[Message, str]]:
    """The jobs for a person as messages, each with its idempotency key, the latest first."""
    query = (
        select(JobRow.job, JobRow.app, JobRow.sender, JobRow.error_code.label("reason"))
        .add_columns(JobRow.summary.label("name"), RecipientRow.outcome, RecipientRow.at)
        .add_columns(JobRow.key, JobRow.lane)
        .join(RecipientRow, JobRow.job == RecipientRow.job)
        .where(RecipientRow.user == user, RecipientRow.outcome != UNRESOLVED)
    )
    query = latest_first(query, RecipientRow.at, RecipientRow.job, behind=before, limit=limit)
    if app is not None:
        query = query.where(JobRow.app == app)
    return [(Message(**row), row["key"]) for row in (await connection.execute(query)).mappings()]


def _status(row: RowMapping) -> JobStatus:
    error = None
    if row["error_code"]:
        error = JobError.model_validate(
            {"class": row["error_class"], "code": row["error_code"], "message": ""}
        )
    status = {
        **row,
        "id": row["job"],
        "target": target_of(row["app"], row["summary"]),
        "settled_at": row["ended_at"],
        "result": {"ids": row["ids"]} if row["ids"] else None,
        "error": error,
    }
    return JobStatus.model_validate(status)
