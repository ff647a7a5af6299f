"""Follow-ups to a campaign besides sending it: a test, a recall, a confirmation.

Each returns jobs without enqueuing them, so that the caller can show their cost first.
`Client.send` and `Client.send_many` take them, as on the command line; a Python API does the
same.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import select

from dingrelay_producers.errors import CampaignConflict
from dingrelay_tasks.campaign_confirm import CALLS_PER_CHUNK, CampaignConfirm
from dingrelay_tasks.campaign_recall import CHUNKS_PER_JOB, CampaignRecall
from dingrelay_tasks.contract import Contract, ContractError
from dingrelay_tasks.message_send import MessageSend
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns.calls import CampaignCalls
from dingrelay_workers.campaigns.models import CampaignRow, ChunkRow, State
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.campaigns.template import Template


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUpPlan:
    """Jobs to enqueue, and what they take.

    Attributes:
        app: the app whose campaign it is.
        jobs: none where nothing is to be done.
        chunks: calls of the campaign that the jobs are about.
        people: how many are in these.
        calls: calls to DingTalk that the jobs make; each counts against the month.
        too_old: calls that are left alone since DingTalk knows nothing of them after 24 hours.
        under_way: of the chunks, those that may still be called; the jobs wait for them.
        repeated: people of calls that repeat one whose answer was lost. Those that the first one
            reached keep its message.
        unknown: people of calls whose outcome is unknown, which can't be recalled.
    """

    app: str
    jobs: Sequence[Contract]
    chunks: int
    people: int
    calls: int
    too_old: int
    under_way: int = 0
    repeated: int = 0
    unknown: int = 0


class FollowUp:
    """Plans the jobs.

    Each method raises CampaignNotFound: there is no campaign with this id.
    """

    def __init__(
        self, store: CampaignStore, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._store = store
        self._now = now
        self._calls = CampaignCalls(store.database, now=now)

    async def recall(self, campaign: str) -> FollowUpPlan:
        """Take back all that was sent in the last 24 hours and is not taken back yet.

        Calls that a campaign had under way when it was paused or cancelled are waited for.

        Raises:
            CampaignConflict: it runs, so more could be sent during the recall.
        """
        row = await self._store.get(campaign)
        if row.state == State.RUNNING:
            raise CampaignConflict(campaign, "is running: pause or cancel it first")
        # Asked before the calls are read: a chunk that ends between them is among these.
        under_way = await self._calls.under_way(campaign)
        taken, repeated, too_old = await self._calls.taken(campaign, unrecalled=True)
        fresh = under_way | taken
        jobs = [
            CampaignRecall(app=row.app, sender=row.sender, campaign=campaign, numbers=some)
            for some in _parts(fresh)
        ]
        plan = _plan(row, jobs, fresh, too_old, cost=1)
        return replace(
            plan,
            calls=plan.calls + len(repeated) * CALLS_PER_CHUNK,
            under_way=len(fresh) - len(taken),
            repeated=sum(repeated.values()),
            unknown=await self._calls.unknown(campaign),
        )

    async def confirm(self, campaign: str, *, sample: int | None = None) -> FollowUpPlan:
        """Ask DingTalk which people the calls of the last 24 hours reached, and who has read it.

        Args:
            campaign: its id.
            sample: how many calls to ask about, spread over all; None for all.
        """
        row = await self._store.get(campaign)
        fresh, _, too_old = await self._calls.taken(campaign)
        if sample is not None and sample < len(fresh):
            numbers = list(fresh)
            step = len(numbers) / sample
            picked = (numbers[int(step * (at + 0.5))] for at in range(sample))
            fresh = {number: fresh[number] for number in picked}
        now = self._now()
        jobs = [
            CampaignConfirm(
                app=row.app, sender=row.sender, campaign=campaign, numbers=some, since=now
            )
            for some in _parts(fresh)
        ]
        return _plan(row, jobs, fresh, too_old, cost=CALLS_PER_CHUNK)

    async def test(
        self, campaign: str, users: Sequence[str], fields: Mapping[str, str] | None = None
    ) -> MessageSend:
        """The campaign's message for testers: one job in the urgent lane.

        DingTalk brings a person the same content once a day, so a tester who is a recipient as
        well is left out of the campaign that day.

        Args:
            campaign: its id.
            users: the testers.
            fields: values of the message's fields; without them it is that of the first recipient.

        Raises:
            ContractError: fields are missing or unknown, or the message is none with these values.
        """
        row = await self._store.get(campaign)
        async with self._store.database.read() as connection:
            first = await connection.scalar(
                select(ChunkRow.message).where(ChunkRow.campaign == campaign, ChunkRow.number == 0)
            )
        # Only a message with fields is kept as it was written; another is ready to be sent.
        template = Template(row.message) if first is not None else None
        known = template.fields if template else ()
        for name in fields or ():
            if name not in known:
                raise ContractError("fields", en("the message has no field {{{}}}", name))
        if template is None or not fields:
            message = first or row.message
        else:
            message = _filled(template, fields)
        return MessageSend.parse(
            {
                "app": row.app,
                "sender": row.sender,
                "lane": "urgent",
                "to": {"users": list(users)},
                "message": message,
            }
        )


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


def _parts(fresh: Mapping[int, int]) -> Sequence[list[int]]:
    numbers = list(fresh)
    return [
        numbers[start : start + CHUNKS_PER_JOB] for start in range(0, len(numbers), CHUNKS_PER_JOB)
    ]


def _filled(template: Template, fields: Mapping[str, str]) -> object:
    missing = [name for name in template.fields if name not in fields]
    if missing:
        raise ContractError("fields", en("{{{}}} has no value", missing[0]))
    return json.loads(template.fill(tuple(fields[name] for name in template.fields)).json)
