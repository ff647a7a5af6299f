"""The calls of campaigns that DingTalk took: taken back, and asked what became of them.

`FollowUp` plans the jobs for that without enqueuing them, so that their cost can be shown first.
"""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Annotated, Any, cast

from pydantic import Field, SkipValidation
from redis.asyncio import Redis
from sqlalchemy import ColumnElement, and_, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.actor import current_actor
from dingrelay_producers.client.outcomes import OUTCOMES
from dingrelay_producers.errors import CampaignConflict
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock
from dingrelay_tasks.campaign_confirm import CALLS_PER_CHUNK, CampaignConfirm
from dingrelay_tasks.campaign_recall import CHUNKS_PER_JOB, CampaignRecall
from dingrelay_tasks.context import SAME_CONTENT_CODE, CampaignCall, DeliveryReport
from dingrelay_tasks.contract import Contract, ContractError, batched
from dingrelay_tasks.message_send import MessageSend
from dingrelay_tasks.outcomes import CampaignDeleted
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns.arrivals import note_read
from dingrelay_workers.campaigns.chunks import Release, outcome_row
from dingrelay_workers.campaigns.documents import FollowUpCost, Template
from dingrelay_workers.campaigns.models import (
    HIDDEN,
    CampaignRow,
    ChunkRow,
    ChunkState,
    OutcomeKind,
    OutcomeRow,
    State,
)
from dingrelay_workers.campaigns.queue import chunk_job
from dingrelay_workers.campaigns.report import TEST_KEY, UNDELIVERED
from dingrelay_workers.database.database import Database, change_rows, insert_missing
from dingrelay_workers.http.api_keys import PERSONAL

KEPT = timedelta(hours=24)
"""How long DingTalk can recall a call and report its delivery (API §2.3, §2.4)."""
MARK = "【测试】"
"""Before the texts of a test."""
_MARKED = ("title", "text", "content", "markdown")
_LINES = {
    ("text", "content"): "\n",
    ("markdown", "text"): "\n\n",
    ("action_card", "markdown"): "\n\n",
}
"""Texts before which the mark stands on a line of its own: in Markdown, what follows may be a heading or a list."""

_FORBIDDEN = {
    "143103": en("the app had sent too many messages that minute"),
    "143104": en("the organisation had sent too many messages that minute"),
    "143105": OUTCOMES["daily_cap"].reason,
    SAME_CONTENT_CODE: OUTCOMES["duplicate"].reason,
}


_NOT_REACHED = (OutcomeKind.INVALID, OutcomeKind.FORBIDDEN, OutcomeKind.FAILED)
"""Outcomes of single people that only DingTalk's delivery report shows."""


class CampaignCalls:
    """`dingrelay_tasks.context.CalledChunks` on the database of campaigns."""

    def __init__(
        self,
        database: Database,
        *,
        keeps_unread: bool = True,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._database = database
        self._keeps_unread = keeps_unread
        self._now = now

    async def wants(self, campaign: str, number: int, job: str) -> bool:
        """Whether the campaign runs and this job is that of the chunk's release, which is not over."""
        query = (
            select(CampaignRow.app, ChunkRow.generation)
            .join(ChunkRow, ChunkRow.campaign == CampaignRow.id)
            .where(
                CampaignRow.id == campaign,
                CampaignRow.state == State.RUNNING,
                ChunkRow.number == number,
                ChunkRow.state == ChunkState.QUEUED,
            )
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return row is not None and job == chunk_job(
            row.app, campaign, Release(number, row.generation)
        )

    async def recallable(self, campaign: str, numbers: Sequence[int]) -> list[CampaignCall]:
        """Calls of these chunks in the last 24 hours that are not recalled yet."""
        return await self._calls(campaign, numbers, ChunkRow.recalled_at.is_(None))

    async def under_way(
        self, campaign: str, numbers: Sequence[int] | None = None
    ) -> dict[int, int]:
        """The chunks among these, or among all, that may still be called → their people."""
        queued = ChunkRow.in_state(campaign, ChunkState.QUEUED)
        query = select(ChunkRow.number, ChunkRow.size).where(queued)
        if numbers is not None:
            query = query.where(ChunkRow.number.in_(numbers))
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(ChunkRow.number))
            return {row.number: row.size for row in rows}

    async def confirmable(
        self, campaign: str, numbers: Sequence[int], *, since: datetime
    ) -> list[CampaignCall]:
        """Calls of these chunks in the last 24 hours without a delivery report since then."""
        unconfirmed = or_(ChunkRow.confirmed_at.is_(None), ChunkRow.confirmed_at < since)
        return await self._calls(campaign, numbers, unconfirmed)

    async def note_recall(self, campaign: str, number: int, kept: Sequence[str]) -> None:
        """The chunk's message is taken back, but from the people of it who have it by a lost call."""
        async with self._database.write(f"campaign {campaign}") as connection:
            chunk = ChunkRow.campaign == campaign, ChunkRow.number == number
            await change_rows(connection, ChunkRow, *chunk, recalled_at=self._now())
            users = await _users(connection, campaign, number)
            why = en("has it by a call whose answer was lost, which can't be recalled")
            rows = [
                outcome_row(campaign, number, user, OutcomeKind.KEPT, why)
                for user in dict.fromkeys(kept)
                if user in users
            ]
            await connection.execute(
                delete(OutcomeRow).where(
                    OutcomeRow.campaign == campaign,
                    OutcomeRow.userid.in_([row["userid"] for row in rows]),
                )
            )
            await insert_missing(connection, OutcomeRow, rows)

    async def note_delivery(
        self, campaign: str, call: CampaignCall, delivery: DeliveryReport
    ) -> None:
        """Store DingTalk's delivery report of a call: its counts, and people it did not reach.

        It replaces an earlier report. One stored since the call was read stands: both come from
        the same query, and each person counts once.
        """
        forbidden = {entry["userid"]: entry["code"] for entry in delivery.forbidden}
        had_it: list[str] = []
        if call.ambiguous:
            # The call whose answer was lost brought it to them, and this one was its repeat.
            had_it = delivery.had_it
        outcomes = [
            *(
                (user, OutcomeKind.INVALID, en("DingTalk doesn't know them"))
                for user in delivery.invalid
            ),
            *(
                (user, OutcomeKind.FORBIDDEN, f"{code} {_FORBIDDEN.get(code, '')}".strip())
                for user, code in forbidden.items()
                if user not in had_it
            ),
            *((user, *UNDELIVERED) for user in delivery.failed),
        ]
        rows = [outcome_row(campaign, call.number, *outcome) for outcome in outcomes]
        now, of_chunk = self._now(), (ChunkRow.campaign == campaign, ChunkRow.number == call.number)
        async with self._database.write(f"campaign {campaign}") as connection:
            read_before = await connection.scalar(select(ChunkRow.read).where(*of_chunk))
            same = *of_chunk, ChunkRow.confirmed_at.is_not_distinct_from(call.confirmed_at)
            counts = {
                "delivered": len(delivery.read) + len(delivery.unread) + len(had_it),
                "read": len(delivery.read),
                "unread": len(delivery.unread),
            }
            if not await change_rows(connection, ChunkRow, *same, confirmed_at=now, **counts):
                return
            await note_read(connection, campaign, now, len(delivery.read) - (read_before or 0))
            chunk_users = await _users(connection, campaign, call.number)
            if self._keeps_unread:
                unread = ",".join(user for user in delivery.unread if user in chunk_users)
                await change_rows(connection, ChunkRow, *of_chunk, unread_users=unread)
            # People that the call was not for would be counted beside its own.
            chunk_outcomes = [row for row in rows if row["userid"] in chunk_users]
            reached = chunk_users & {*delivery.read, *delivery.unread, *had_it}
            await connection.execute(
                delete(OutcomeRow).where(
                    OutcomeRow.campaign == campaign,
                    OutcomeRow.chunk == call.number,
                    or_(
                        OutcomeRow.outcome.in_(_NOT_REACHED),
                        and_(
                            OutcomeRow.outcome == OutcomeKind.UNVERIFIED,
                            OutcomeRow.userid.in_(
                                {*reached, *(row["userid"] for row in chunk_outcomes)}
                            ),
                        ),
                    ),
                )
            )
            await insert_missing(connection, OutcomeRow, chunk_outcomes)

    async def taken(
        self, campaign: str, *, unrecalled: bool = False
    ) -> tuple[dict[int, int], dict[int, int], int]:
        """Number → people of the calls that DingTalk still knows of; of the repeated ones; how many are too old."""
        taken = [ChunkRow.campaign == campaign, ChunkRow.task_id.is_not(None)]
        if unrecalled:
            taken.append(ChunkRow.recalled_at.is_(None))
        retained = or_(ChunkRow.called_at.is_(None), ChunkRow.called_at > self.oldest())
        query = select(ChunkRow.number, ChunkRow.accepted, ChunkRow.ambiguous).where(
            *taken, retained
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(ChunkRow.number))).all()
            every = await connection.scalar(
                select(func.count()).select_from(ChunkRow).where(*taken)
            )
        repeated = {row.number: row.accepted for row in rows if row.ambiguous}
        return {row.number: row.accepted for row in rows}, repeated, (every or 0) - len(rows)

    async def unknown(self, campaign: str) -> int:
        """How many people are in calls whose outcome is unknown."""
        async with self._database.read() as connection:
            people = await connection.scalar(
                select(func.sum(ChunkRow.size)).where(
                    ChunkRow.campaign == campaign,
                    ChunkRow.error["class"].as_string() == OutcomeKind.UNKNOWN,
                )
            )
        return int(people or 0)

    def oldest(self) -> datetime:
        """Calls from before this moment can be neither recalled nor asked about."""
        return self._now() - KEPT

    async def _calls(
        self, campaign: str, numbers: Sequence[int], which: ColumnElement[bool]
    ) -> list[CampaignCall]:
        async with self._database.read() as connection:
            state = await connection.scalar(
                select(CampaignRow.state).where(CampaignRow.id == campaign)
            )
            if state in {None, *HIDDEN}:
                raise CampaignDeleted
            rows = await connection.execute(
                select(
                    ChunkRow.number,
                    ChunkRow.task_id,
                    ChunkRow.called_at.label("at"),
                    ChunkRow.ambiguous,
                    ChunkRow.confirmed_at,
                )
                .where(
                    ChunkRow.campaign == campaign,
                    ChunkRow.number.in_(numbers),
                    ChunkRow.task_id.is_not(None),
                    ChunkRow.called_at > self.oldest(),
                    which,
                )
                .order_by(ChunkRow.number)
            )
            return [CampaignCall(**row) for row in rows.mappings()]


async def _users(connection: AsyncConnection, campaign: str, number: int) -> set[str]:
    query = select(ChunkRow.users).where(ChunkRow.campaign == campaign, ChunkRow.number == number)
    return set((await connection.scalar(query) or "").split(","))


class FollowUpPlan(FollowUpCost):
    """Jobs to enqueue, and what they take.

    Attributes:
        app: the app whose campaign it is.
        jobs: none where nothing is to be done.
    """

    app: Annotated[str, Field(exclude=True)]
    jobs: Annotated[Sequence[SkipValidation[Contract]], Field(exclude=True)]


class FollowUp:
    """Plans the jobs."""

    def __init__(self, database: Database) -> None:
        self._calls = CampaignCalls(database)

    async def recall(self, row: CampaignRow) -> FollowUpPlan:
        """Take back all that was sent in the last 24 hours and is not taken back yet.

        Calls that a campaign had under way when it was paused or cancelled are waited for.

        Raises:
            CampaignConflict: it runs, so more could be sent during the recall.
        """
        campaign = row.id
        if row.state == State.RUNNING:
            raise CampaignConflict(campaign, "is running: pause or cancel it first")
        # Asked before the calls are read: a chunk that ends between them is among these.
        under_way = await self._calls.under_way(campaign)
        taken, repeated, too_old = await self._calls.taken(campaign, unrecalled=True)
        fresh = under_way | taken
        jobs = [
            CampaignRecall(app=row.app, sender=row.sender, campaign=campaign, numbers=numbers)
            for numbers in batched(fresh, CHUNKS_PER_JOB)
        ]
        plan = _plan(row, jobs, fresh, too_old, cost=1)
        return plan.model_copy(
            update={
                "calls": plan.calls + len(repeated) * CALLS_PER_CHUNK,
                "under_way": len(fresh) - len(taken),
                "repeated": sum(repeated.values()),
                "unknown": await self._calls.unknown(campaign),
            }
        )

    async def confirm(self, row: CampaignRow, *, sample: int | None = None) -> FollowUpPlan:
        """Ask DingTalk which people the calls of the last 24 hours reached, and who has read it.

        Args:
            row: the campaign.
            sample: how many calls to ask about, spread over all; None for all.
        """
        fresh, _, too_old = await self._calls.taken(row.id)
        if sample is not None and sample < len(fresh):
            numbers = list(fresh)
            step = len(numbers) / sample
            picked = (numbers[int(step * (at + 0.5))] for at in range(sample))
            fresh = {number: fresh[number] for number in picked}
        now = clock.now()
        jobs = [
            CampaignConfirm(
                app=row.app, sender=row.sender, campaign=row.id, numbers=numbers, since=now
            )
            for numbers in batched(fresh, CHUNKS_PER_JOB)
        ]
        return _plan(row, jobs, fresh, too_old, cost=CALLS_PER_CHUNK)


async def test_of(
    connection: AsyncConnection, row: CampaignRow, users: Sequence[str], fields: Mapping[str, str]
) -> tuple[MessageSend, bool]:
    """A campaign's message for testers: one job in the urgent lane; and whether it says that it is a test.

    DingTalk brings a person the same content once a day. The mark before its texts makes it another, so that a tester
    who is a recipient as well gets the real one, too; a message without a text has none. The job is the same for a
    request of the actor that is repeated.

    Args:
        connection: to the database of the campaign.
        row: the campaign.
        users: the testers.
        fields: values of the message's fields; without them it is that of the first recipient.

    Raises:
        ContractError: fields are missing or unknown, or the message is none with these values; or what is filled in
            for the first recipient may be the directory's, and not the actor's to read.
    """
    first = await connection.scalar(
        select(ChunkRow.message).where(ChunkRow.campaign == row.id, ChunkRow.number == 0)
    )
    # Only a message with fields is kept as it was written; another is ready to be sent.
    template = Template(row.message) if first is not None else None
    names = template.fields if template else ()
    for name in fields:
        if name not in names:
            raise ContractError("fields", en("the message has no field {{{}}}", name))
    if template is not None and not fields and not current_actor().reads_directory:
        problem = en("are needed: those of the first recipient need the scope {}", PERSONAL)
        raise ContractError("fields", problem)
    message = _filled(template, fields) if template and fields else first or row.message
    job = {
        "app": row.app,
        "sender": row.sender,
        "lane": "urgent",
        "to": {"users": list(users)},
        "message": message,
        "idempotency_key": f"{TEST_KEY}{row.id} {current_actor().once or uuid.uuid4()}",
    }
    said = marked(message)
    with suppress(ContractError):  # a text may have no room for the mark
        return MessageSend.parse({**job, "message": said}), said != message
    return MessageSend.parse(job), False


def _plan(
    row: CampaignRow, jobs: Sequence[Contract], fresh: Mapping[int, int], too_old: int, *, cost: int
) -> FollowUpPlan:
    return FollowUpPlan(
        app=row.app,
        jobs=jobs,
        chunks=len(fresh),
        people=sum(fresh.values()),
        calls=len(fresh) * cost,
        too_old=too_old,
    )


def marked(message: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """A message whose title and text say that it is a test; `within` is the name of a part of one."""
    return {
        name: f"{MARK}{_LINES.get((within, name), '')}{value}"
        if name in _MARKED and isinstance(value, str)
        else marked(cast("dict[str, Any]", value), name)
        if isinstance(value, dict)
        else value
        for name, value in message.items()
    }


def _filled(template: Template, fields: Mapping[str, str]) -> dict[str, Any]:
    missing = [name for name in template.fields if name not in fields]
    if missing:
        raise ContractError("fields", en("{{{}}} has no value", missing[0]))
    message: dict[str, Any] = json.loads(
        template.fill(tuple(fields[name] for name in template.fields)).json
    )
    return message


def for_jobs(database: Database, _: Redis, settings: Settings) -> CampaignCalls:
    """The calls of campaigns, for the jobs of a worker."""
    return CampaignCalls(database, keeps_unread=settings.campaigns.unread_days > 0)
