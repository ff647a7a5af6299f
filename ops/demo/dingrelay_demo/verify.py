"""The verification: what was asked, what the records say, and what DingTalk's own audit says."""

import asyncio
from collections import Counter

from dingrelay_demo.context import DemoContext, statuses
from dingrelay_demo.scenarios import taken_over
from dingrelay_demo.verdict import Column, Verdict
from dingrelay_producers import JobStatus, State
from dingrelay_producers.language import tr
from dingrelay_producers.store.record import canonical_json
from dingrelay_workers.directory.store import DirectoryStore

EVERY_JOB = 10_000


async def verify(context: DemoContext) -> Verdict:
    """Compare what is expected with the records, the records with the sandbox."""
    every = await asyncio.to_thread(context.system.client.recent, EVERY_JOB)
    audit = context.system.sandbox.audit()
    return Verdict(
        messages=await asyncio.to_thread(_messages, context),
        approvals=await asyncio.to_thread(_approvals, context),
        people=await _people(context),
        jobs=len(every),
        unfinished=[_as_unfinished(status) for status in every if status.state != State.DONE],
        throttled=audit["throttled"],
        retried=sum(max(0, status.attempts - 1) for status in every),
        taken_over=await asyncio.to_thread(
            taken_over, context, [context.system.client.job(status.id) for status in every]
        ),
        dropped=audit["duplicates"]["messages_dropped"],
        misunderstood=await asyncio.to_thread(_misunderstood, context),
        token_fetches=audit["token_fetches"],
    )


def _messages(context: DemoContext) -> Column:
    expected = context.expected
    inboxes = context.system.sandbox.inboxes(limit=EVERY_JOB)
    delivered = Counter(
        {canonical_json(entry["message"]): entry["delivered"] for entry in inboxes["contents"]}
    )
    return Column(
        asked=expected.contents.total(),
        accepted=sum(
            status.result["accepted"] for status in statuses(expected.messages) if status.result
        )
        + sum(campaign.status().accepted for campaign in expected.campaigns),
        delivered=inboxes["delivered"],
        lost=expected.lost(delivered),
        duplicated=expected.duplicated(delivered),
    )


def _approvals(context: DemoContext) -> Column:
    expected = context.expected.approvals
    named = [status.result["instance_id"] for status in statuses(expected) if status.result]
    created = [made["id"] for made in context.system.sandbox.approvals()]
    return Column(
        asked=len(expected),
        accepted=len(named),
        delivered=len(created),
        lost=len(expected) - len(set(named) & set(created)),
        duplicated=len(set(created) - set(named)),
    )


def _misunderstood(context: DemoContext) -> list[str]:
    """Approvals of which DingTalk, the table and the webhook do not say the same."""
    ends = {"agree": "approved", "refuse": "refused"}
    found: list[str] = []
    for made in context.system.sandbox.approvals():
        dingtalk = ends.get(made["result"], "running")
        table = context.system.client.approval(made["id"]).status().state
        webhook = context.expected.decisions.get(made["id"], "nothing")
        if not dingtalk == table == webhook:
            found.append(
                tr(
                    "approval {id}: DingTalk says {dingtalk}, the table {table}, the webhook {webhook}",
                    id=made["id"],
                    dingtalk=dingtalk,
                    table=table,
                    webhook=webhook,
                )
            )
    return found


async def _people(context: DemoContext) -> Column:
    organisation = context.system.sandbox.organisation()
    actual = Counter(user["userid"] for user in organisation["users"])
    store = DirectoryStore(context.system.database)
    try:
        known = Counter([user async for page in store.of("default").everyone() for user in page])
    finally:
        await store.close()
    synced = await asyncio.to_thread(statuses, context.expected.syncs)
    return Column(
        asked=len(actual),
        accepted=sum(status.result["users"] for status in synced if status.result)
        + len(context.expected.joined),
        delivered=known.total(),
        lost=(actual - known).total(),
        duplicated=(known - actual).total(),
    )


def _as_unfinished(status: JobStatus) -> str:
    reason = f" {status.error.code} {status.error.message}" if status.error else ""
    return f"{status.kind} {status.id} is {status.state}{reason}"
