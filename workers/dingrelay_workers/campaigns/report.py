"""The outcomes of a campaign's people: counted, and one by one.

`Report` needs the database only, so it is the same while a campaign runs and long after. The
command line prints it and a Python API returns it.
"""

import json
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Row, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.actor import current_actor
from dingrelay_producers.client.campaign_documents import Malformed
from dingrelay_producers.client.filters import CampaignOutcome, CampaignSought
from dingrelay_producers.client.history_documents import Message
from dingrelay_producers.store import clock
from dingrelay_producers.store.states import CampaignState
from dingrelay_tasks.addresses import CHINA
from dingrelay_tasks.sentence import MADE_OF, Kept, en, from_parts, joined
from dingrelay_workers.campaigns.chunks import CANCELLED
from dingrelay_workers.campaigns.models import (
    HIDDEN,
    LEFT_OUT,
    CampaignRow,
    ChunkRow,
    ChunkState,
    MalformedRow,
    OutcomeKind,
    OutcomeRow,
    State,
)
from dingrelay_workers.campaigns.people_index import chunks_with
from dingrelay_workers.campaigns.store import find
from dingrelay_workers.database import database
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory import audience as directory
from dingrelay_workers.directory.models import UserRow

ACCEPTED = "accepted"
PENDING = "pending"
OF_ROWS = ("malformed", "unmatched")
"""Outcomes of rows that named no person."""
EVERY: tuple[str, ...] = (ACCEPTED, *OutcomeKind, PENDING)
"""Everything that can have become of a person, each in one of them."""

UNREAD = en("not read when DingTalk was asked")
"""Reason shown for a person who has the message and whose name is kept for `[campaigns] unread_days`."""
SAME_CONTENT = en("settled by DingTalk's same-content rule")
"""Why a person has the message once although its call was made twice."""
TEST_KEY = "campaign-test "
"""How the idempotency key of a test begins, before the id of its campaign."""
RECALLED = en("recalled since")
"""Why a person has the message no more, although it was sent."""

PAGE = 100
"""Chunks read at once: up to 10,000 people."""
MALFORMED_PAGE = 10_000
FEW = 20
"""Chunks read at once for one page of a list."""
MOST_REASONS = 100

MOST_CHUNKS = 2**31 - 1

Place = tuple[int, int]
"""Position of a person in a campaign: the number of their chunk, and their own in it, from 1 on. That of a row that was skipped
is behind all chunks: `MOST_CHUNKS` and its number."""


class Result(NamedTuple):
    """The outcome of one person, or of a row that named none.

    Attributes:
        userid: "" of a row that was skipped, whose `name` is what was written there.
        outcome: one of `EVERY`, or of `OF_ROWS`.
        task_id: DingTalk's id of the call that was for them; None if it took none.
        reason: why, where there is more to say.
        name: as the directory has it, like the fields below; "" where it does not.
    """

    userid: str
    outcome: str
    task_id: int | None
    reason: str
    name: str = ""
    job_number: str = ""
    mobile: str = ""
    departments: str = ""


class CampaignPerson(BaseModel):
    """A recipient of a campaign, and what became of them; or a row of its source that named no person."""

    userid: str
    """Empty for a row that named no person."""
    outcome: CampaignOutcome
    reason: Kept
    """Why, where there is more to say."""
    task_id: int | None
    """DingTalk's id of the call that was for them; null if it took none."""
    name: str
    """Name in the directory, as are the fields below; empty where it has none. Of a row that named no person, what was
    written there."""
    job_number: str
    mobile: str
    departments: str
    """Their names, with a stroke between two."""


class CampaignPeople(BaseModel):
    """Some recipients of a campaign, in their order."""

    people: list[CampaignPerson]
    next: str | None = None
    """Cursor of the next page; null where this is the last."""


class Reason(BaseModel):
    """Why so many people did not get it."""

    outcome: str
    reason: Kept
    people: int


class CallSums(BaseModel):
    """Some of a campaign's calls, and their people."""

    calls: int
    people: int


class DeliverySums(BaseModel):
    """The sum of DingTalk's delivery reports."""

    calls: int
    """How many it was queried about."""
    people: int
    """How many people these were for."""
    delivered: int
    """How many of them have the message."""
    read: int
    unread: int
    invalid: int
    forbidden: int
    failed: int
    """People that it could not be delivered to, without a reason."""


class CampaignReport(BaseModel):
    """Outcomes of a campaign's people, in figures."""

    id: str
    name: str
    state: CampaignState
    recipients: int
    outcomes: dict[str, int]
    """Outcome → people; together they are the recipients. `malformed` and `unmatched` are the rows beside them that named no one person."""
    calls: int
    """Calls that DingTalk took."""
    ambiguous: CallSums
    """Repeated after their answer was lost; no recipient got the message twice."""
    recalled: CallSums
    """Taken back by DingTalk; people who keep the message do not count."""
    delivery: DeliverySums
    reasons: list[Reason]
    """Why people did not get it, most people first."""
    started_at: datetime | None
    ended_at: datetime | None
    seconds: float | None
    """From the start to the end, or until now; null before the start."""


class Report:
    """Reads what became of campaigns.

    Args:
        database: the one with the campaigns, such as `CampaignStore.database`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def summary(self, campaign: str) -> CampaignReport:
        """The campaign in figures; while it runs, as of now.

        Raises:
            CampaignNotFound: there is none with this id.
        """
        async with self._database.snapshot() as connection:
            return await summary_of(connection, await find(connection, campaign))

    async def results(
        self, campaign: str, outcome: CampaignSought | None = None
    ) -> AsyncIterator[Sequence[Result]]:
        """Every recipient, and then every row that was skipped, or those with an outcome, in pages of up to 10,000.

        No transaction stays open between pages.
        """
        last: int | None = -1
        while last is not None and outcome not in OF_ROWS:
            async with self._database.read() as connection:
                page, last = await _some(connection, campaign, outcome, last + 1, PAGE)
                results = await _named(connection, campaign, [result for _, result in page])
            if results:
                yield results
        number: int | None = 0
        while number is not None and outcome in {None, *OF_ROWS}:
            async with self._database.read() as connection:
                rows, number = await _skipped(connection, campaign, outcome, number, MALFORMED_PAGE)
            if rows:
                yield [row for _, row in rows]

    async def people(
        self,
        campaign: str,
        outcome: CampaignSought | None = None,
        *,
        behind: Place | None = None,
        limit: int,
    ) -> tuple[Sequence[Result], Place | None]:
        """Recipients in their order, behind a place; and the last one's place, None where there are no more."""
        first, seen = behind or (0, 0)
        people: list[tuple[Place, Result]] = []
        last: int | None = None if outcome in OF_ROWS or first == MOST_CHUNKS else first - 1
        async with self._database.read() as connection:
            while last is not None and len(people) <= limit:
                page, last = await _some(connection, campaign, outcome, last + 1, FEW)
                people += [person for person in page if person[0] > (first, seen)]
            if len(people) <= limit and outcome in {None, *OF_ROWS}:
                number, most = seen if first == MOST_CHUNKS else 0, limit + 1 - len(people)
                people += (await _skipped(connection, campaign, outcome, number, most))[0]
            results = await _named(connection, campaign, [person for _, person in people[:limit]])
        return results, people[limit - 1][0] if len(people) > limit else None


async def summary_of(connection: AsyncConnection, row: CampaignRow) -> CampaignReport:
    """A campaign in figures, as of the snapshot of this connection."""
    sums = await _sums(connection, row.id)
    whole = await _whole_chunks(connection, row.id) if sums["errors"] else []
    if row.state == State.CANCELLED:
        whole = _with_waiting(whole, int(sums["waiting"]))
    reasons = [*await _single(connection, row.id), *whole]
    outcomes = dict.fromkeys(EVERY, 0)
    for reason in reasons:
        outcomes[reason.outcome] += reason.people
    # A call is accepted before its report shows people that it did not reach.
    outcomes[PENDING] = sums["queued"]
    if row.state != State.CANCELLED:
        outcomes[PENDING] += sums["waiting"]
    unaccepted = sum(people for outcome, people in outcomes.items() if outcome != ACCEPTED)
    outcomes[ACCEPTED] = max(0, row.recipients - unaccepted)
    outcomes |= {outcome: getattr(row, outcome) for outcome in OF_ROWS}
    return CampaignReport(
        id=row.id,
        name=row.name,
        state=State(row.state),
        recipients=row.recipients,
        outcomes=outcomes,
        calls=row.calls,
        ambiguous=CallSums(calls=sums["ambiguous_calls"], people=sums["ambiguous_people"]),
        recalled=CallSums(
            calls=sums["recalled_calls"],
            people=sums["recalled_people"] - outcomes[OutcomeKind.KEPT],
        ),
        delivery=DeliverySums(
            calls=sums["confirmed_calls"],
            people=sums["confirmed_people"],
            delivered=sums["delivered"],
            read=sums["read"],
            unread=sums["unread"],
            invalid=outcomes[OutcomeKind.INVALID],
            forbidden=outcomes[OutcomeKind.FORBIDDEN],
            failed=sum(
                reason.people
                for reason in reasons
                if (reason.outcome, reason.reason) == UNDELIVERED
            ),
        ),
        reasons=sorted(reasons, key=lambda reason: -reason.people)[:MOST_REASONS],
        started_at=row.started_at,
        ended_at=row.ended_at,
        seconds=_seconds(row),
    )


async def _some(
    connection: AsyncConnection,
    campaign: str,
    outcome: CampaignSought | None,
    first: int,
    most: int,
) -> tuple[list[tuple[Place, Result]], int | None]:
    """The people with an outcome in some chunks from a number on, and the last one's number; None: there are no more."""
    names = ("number", "state", "users", "task_id", "ambiguous", "error", "recalled_at")
    columns = [getattr(ChunkRow, name) for name in (*names, "unread_users")]
    query = select(*columns).where(ChunkRow.of(campaign), ChunkRow.number >= first)
    if outcome is not None:
        query = query.where(_may_hold(campaign, outcome))
    rows = (await connection.execute(query.order_by(ChunkRow.number).limit(most))).all()
    if not rows:
        return [], None
    special = await _special(connection, campaign, first, rows[-1].number)
    cancelled = campaign in await _cancelled(connection, [campaign])
    people = [
        ((chunk.number, place), result)
        for chunk in rows
        for place, result in enumerate(_results(chunk, special, cancelled=cancelled), start=1)
        if outcome in {None, result.outcome}
        # The reason covers messages that were taken back since, or sent twice.
        or (outcome == "unread" and result.userid in _unread(chunk))
    ]
    return people, rows[-1].number if len(rows) == most else None


async def _skipped(
    connection: AsyncConnection,
    campaign: str,
    outcome: CampaignSought | None,
    behind: int,
    most: int,
) -> tuple[list[tuple[Place, Result]], int | None]:
    """Rows that were skipped, behind one, and the last one's number; None: there are no more."""
    row = MalformedRow
    query = select(row.number, row.line, row.pasted, row.written, row.problem, row.outcome)
    query = query.where(row.of(campaign), row.number > behind).order_by(row.number)
    if outcome is not None:
        query = query.where(row.outcome == outcome)
    rows = (await connection.execute(query.limit(most))).all()
    results = [
        (
            (MOST_CHUNKS, row.number),
            Result(
                userid="",
                outcome=row.outcome,
                task_id=None,
                reason=str(Malformed(row.line, row.problem, row.pasted)),
                name=row.written,
            ),
        )
        for row in rows
    ]
    return results, rows[-1].number if len(rows) == most else None


def _may_hold(campaign: str, outcome: CampaignSought) -> ColumnElement[bool]:
    """Whether a chunk may hold people with an outcome: a campaign has many, and few people failed."""
    error = ChunkRow.error["class"].as_string()
    match outcome:
        case "pending":
            return and_(ChunkRow.state != ChunkState.SETTLED, error.is_(None))
        case "unread":
            return func.coalesce(ChunkRow.unread_users, "") != ""
        case "accepted":
            return and_(ChunkRow.state == ChunkState.SETTLED, error.is_(None))
        case "cancelled":
            waits = ChunkRow.state == ChunkState.PENDING
            return or_(waits, error.is_not(None))
        case _:
            single = select(OutcomeRow.chunk).where(
                OutcomeRow.campaign == campaign, OutcomeRow.outcome == outcome
            )
            return or_(ChunkRow.number.in_(single), error.is_not(None))


UNDELIVERED = (OutcomeKind.FAILED, en("DingTalk could not deliver it"))
"""Outcome and reason of a person that a call, though taken, could not be delivered to."""


def campaign_of_test(key: str) -> str:
    """The campaign of a test with this idempotency key; "" for any other job."""
    return key.removeprefix(TEST_KEY).partition(" ")[0] if key.startswith(TEST_KEY) else ""


def outcome_of(error: Mapping[str, Any]) -> OutcomeKind:
    """The outcomes of the people of a chunk that ended with this error."""
    match error.get("class"):
        case "cancelled":
            return OutcomeKind.CANCELLED
        case "unknown":
            return OutcomeKind.UNKNOWN
        case _:
            return OutcomeKind.FAILED


def _reason_of(error: Mapping[str, Any]) -> str:
    code, message = str(error.get("code") or ""), str(from_parts(error).get("message") or "")
    says_code = code in {"", str(error.get("class"))} or message.startswith(f"{code}:")
    return message if says_code else joined(" ", filter(None, (code, message)))


def _results(
    chunk: Any, special: Mapping[str, tuple[str, str]], *, cancelled: bool
) -> Iterator[Result]:
    """The people of a chunk.

    Args:
        chunk: with the columns of `ChunkRow`.
        special: userid → outcome and reason, where they differ from it.
        cancelled: its campaign is cancelled.
    """
    error = CANCELLED if cancelled and chunk.state == ChunkState.PENDING else chunk.error
    if error:
        common = (outcome_of(error).value, _reason_of(error))
    elif chunk.state != ChunkState.SETTLED:
        common = (PENDING, "")
    elif chunk.recalled_at:
        common = (ACCEPTED, RECALLED)
    else:
        common = (ACCEPTED, SAME_CONTENT if chunk.ambiguous else "")
    unread = _unread(chunk)
    for userid in chunk.users.split(","):
        outcome, reason = special.get(userid, common)
        if userid in unread and outcome == ACCEPTED:
            reason = reason or UNREAD
        was_called = outcome not in LEFT_OUT
        yield Result(userid, outcome, chunk.task_id if was_called else None, reason)


def _unread(chunk: Any) -> set[str]:
    return set((chunk.unread_users or "").split(","))


async def _special(
    connection: AsyncConnection, campaign: str, first: int, last: int
) -> dict[str, tuple[str, str]]:
    rows = await connection.execute(
        select(OutcomeRow.userid, OutcomeRow.outcome, OutcomeRow.reason).where(
            OutcomeRow.campaign == campaign, OutcomeRow.chunk.between(first, last)
        )
    )
    return {row.userid: (row.outcome, row.reason) for row in rows}


async def _named(
    connection: AsyncConnection, campaign: str, results: Sequence[Result]
) -> list[Result]:
    """The results with what the directory has of the people, those who left among them, if the actor may read it."""
    if not current_actor().reads_directory:
        return [*results]
    app = await connection.scalar(select(CampaignRow.app).where(CampaignRow.id == campaign))
    query = select(UserRow.userid, UserRow.name, UserRow.job_number, UserRow.mobile)
    query, users = query.where(UserRow.app == app), [result.userid for result in results]
    rows = await database.rows_among(connection, query, UserRow.userid, users)
    rows_by_userid = {row.userid: row for row in rows}
    places = await directory.places(connection, app or "", rows_by_userid)
    return [
        result._replace(
            name=row.name or "",
            job_number=row.job_number or "",
            mobile=(row.mobile or "").removeprefix(f"+{CHINA}-"),
            departments=places.get(result.userid, ""),
        )
        if (row := rows_by_userid.get(result.userid))
        else result
        for result in results
    ]


async def _sums(connection: AsyncConnection, campaign: str) -> dict[str, Any]:
    queued, waiting = (ChunkRow.state == state for state in (ChunkState.QUEUED, ChunkState.PENDING))
    ambiguous = and_(ChunkRow.ambiguous, ChunkRow.task_id.is_not(None))
    recalled, confirmed = ChunkRow.recalled_at.is_not(None), ChunkRow.confirmed_at.is_not(None)
    sums = {
        "queued": case((queued, ChunkRow.size), else_=0),
        "waiting": case((waiting, ChunkRow.size), else_=0),
        "ambiguous_calls": case((ambiguous, 1), else_=0),
        "ambiguous_people": case((ambiguous, ChunkRow.accepted), else_=0),
        "recalled_calls": case((recalled, 1), else_=0),
        "recalled_people": case((recalled, ChunkRow.accepted), else_=0),
        "confirmed_calls": case((confirmed, 1), else_=0),
        "confirmed_people": case((confirmed, ChunkRow.accepted), else_=0),
        "delivered": ChunkRow.delivered,
        "read": ChunkRow.read,
        "unread": ChunkRow.unread,
        "errors": case((ChunkRow.error.is_not(None), 1), else_=0),
    }
    columns = [func.coalesce(func.sum(value), 0).label(name) for name, value in sums.items()]
    answer = await connection.execute(select(*columns).where(ChunkRow.of(campaign)))
    return dict(answer.mappings().one())


async def _single(connection: AsyncConnection, campaign: str) -> list[Reason]:
    """Why single people were left out or not reached."""
    rows = await connection.execute(
        select(OutcomeRow.outcome, OutcomeRow.reason, func.count())
        .where(OutcomeRow.campaign == campaign)
        .group_by(OutcomeRow.outcome, OutcomeRow.reason)
    )
    return [Reason(outcome=row[0], reason=row[1], people=row[2]) for row in rows]


async def _whole_chunks(connection: AsyncConnection, campaign: str) -> list[Reason]:
    """Why whole chunks got no call."""
    names = ("class", "code", "message")
    # PostgreSQL groups by columns only, and takes each parameter for another expression.
    columns = [ChunkRow.error[name].as_string().label(name) for name in names]
    columns.append(ChunkRow.error[MADE_OF, "message"].as_string().label(MADE_OF))
    errors = (
        select(*columns, ChunkRow.size)
        .where(ChunkRow.of(campaign), ChunkRow.error.is_not(None))
        .subquery()
    )
    fields = [errors.c[name] for name in (*names, MADE_OF)]
    rows = await connection.execute(
        select(*fields, func.sum(errors.c.size))
        .where(errors.c["class"].is_not(None))
        .group_by(*fields)
    )
    reasons: list[Reason] = []
    for *values, people in rows:
        error: dict[str, Any] = dict(zip((*names, MADE_OF), values, strict=True))
        error[MADE_OF] = {"message": json.loads(error[MADE_OF] or "null")}
        reasons.append(Reason(outcome=outcome_of(error), reason=_reason_of(error), people=people))
    return reasons


def _with_waiting(reasons: Sequence[Reason], people: int) -> list[Reason]:
    """The reasons with the people of a cancelled campaign whose chunks the leader has still to end."""
    cancelled = OutcomeKind.CANCELLED, _reason_of(CANCELLED)
    alike = [reason for reason in reasons if (reason.outcome, reason.reason) == cancelled]
    other_reasons = [reason for reason in reasons if reason not in alike]
    people += sum(reason.people for reason in alike)
    if not people:
        return other_reasons
    return [*other_reasons, Reason(outcome=cancelled[0], reason=cancelled[1], people=people)]


async def _cancelled(connection: AsyncConnection, campaigns: Collection[str]) -> set[str]:
    """The cancelled ones among campaigns: their chunks which wait get no call."""
    query = select(CampaignRow.id).where(CampaignRow.state == State.CANCELLED)
    rows = await database.rows_among(connection, query, CampaignRow.id, campaigns)
    return {row.id for row in rows}


def _seconds(row: CampaignRow) -> float | None:
    if row.started_at is None:
        return None
    # Start and end may be by the clocks of two machines.
    seconds = ((row.ended_at or clock.now()) - row.started_at).total_seconds()
    return max(0.0, round(seconds, 3))


async def campaigns_of(
    connection: AsyncConnection,
    user: str,
    *,
    app: str | None,
    most: int,
    before: tuple[datetime, str] | None = None,
) -> list[Message]:
    """Campaigns to a person as messages, the latest first; drafts are none yet.

    A campaign in which they are not costs the read of one page. Those where they are are all looked at: one that was
    made early may have reached them late.

    Args:
        connection: to the database.
        user: their person.
        app: of this app only; None for all.
        most: how many at most.
        before: only those behind this moment and campaign.
    """
    columns = CampaignRow.id, CampaignRow.created_at, CampaignRow.app, CampaignRow.sender
    query = select(*columns, CampaignRow.name)
    query = query.where(CampaignRow.state.not_in([*HIDDEN, State.DRAFT]))
    if app is not None:
        query = query.where(CampaignRow.app == app)
    rows = {row.id: row for row in await connection.execute(query)}
    chunks: dict[str, Any] = {}
    for batch in database.chunks(rows, database.CHUNK // 2):
        chunks |= await chunks_with(connection, user, batch)
    places = [
        (chunk.called_at or rows[campaign].created_at, campaign)
        for campaign, chunk in chunks.items()
    ]
    places = sorted((place for place in places if before is None or place < before), reverse=True)
    places = places[:most]
    shown = {campaign: chunks[campaign] for _, campaign in places}
    results = await results_in(connection, shown, user)
    return [
        Message(
            at=at,
            app=rows[campaign].app,
            campaign=campaign,
            sender=rows[campaign].sender,
            name=rows[campaign].name,
            outcome=results[campaign].outcome,
            reason=results[campaign].reason,
        )
        for at, campaign in places
        if campaign in results
    ]


async def results_in(
    connection: AsyncConnection, chunks: Mapping[str, Row[Any]], user: str
) -> dict[str, Result]:
    """The outcome of a person by campaign, whose chunks with the person these are."""
    query = select(OutcomeRow.campaign, OutcomeRow.outcome, OutcomeRow.reason)
    query = query.where(OutcomeRow.userid == user)
    rows = await database.rows_among(connection, query, OutcomeRow.campaign, chunks)
    special = {row.campaign: {user: (row.outcome, row.reason)} for row in rows}
    cancelled = await _cancelled(connection, chunks)
    return {
        campaign: result
        for campaign, chunk in chunks.items()
        for result in _results(chunk, special.get(campaign, {}), cancelled=campaign in cancelled)
        if result.userid == user
    }
