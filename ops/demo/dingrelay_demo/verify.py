"""Result of the demo, by the records and by DingTalk's own audit, and its verdict."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from rich import box
from rich.table import Table

from dingrelay_demo.context import DemoContext
from dingrelay_demo.scenarios import taken_over
from dingrelay_producers import JobStatus, State
from dingrelay_producers.language import tr
from dingrelay_producers.store.record import canonical_json
from dingrelay_tasks import ApprovalCreate, MessageSend, UserSync
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.store import AppDirectory


@dataclass(frozen=True)
class Column:
    """One kind of job, in numbers."""

    asked: int
    accepted: int
    delivered: int
    lost: int
    duplicated: int


@dataclass(frozen=True)
class Verdict:
    """The result.

    Attributes:
        columns: by what they are of.
        unfinished: jobs that did not end done.
        misunderstood: approvals whose end is reported in different ways.
        token_fetches: tokens that DingTalk handed out, to both workers together.
        counts: what else is shown, by its name for people.
    """

    columns: Mapping[str, Column]
    unfinished: list[str]
    misunderstood: list[str]
    token_fetches: int
    counts: Mapping[str, int]

    @property
    def disagreements(self) -> list[str]:
        """Deviations from the expected result."""
        found = [tr("not done: {job}", job=job) for job in self.unfinished]
        found += self.misunderstood
        for name, column in self.columns.items():
            values = {"name": tr(name), **asdict(column)}
            if column.lost or column.duplicated:
                found.append(tr("{name}: {lost} lost, {duplicated} duplicated", **values))
            if not column.asked == column.accepted == column.delivered:
                text = tr(
                    "{name}: asked {asked}, accepted {accepted}, delivered {delivered}", **values
                )
                found.append(text)
        if self.token_fetches != 1:
            found.append(tr("{token_fetches} token fetches", token_fetches=self.token_fetches))
        return found

    @property
    def agrees(self) -> bool:
        """Whether all is as it must be."""
        return not self.disagreements

    def table(self) -> Table:
        """All of it, for the terminal."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2))
        table.add_column("")
        for title in self.columns:
            table.add_column(tr(title), justify="right")
        for name, measure in (
            (tr("asked for"), "asked"),
            (tr("accepted, say our records"), "accepted"),
            (tr("delivered, says the sandbox"), "delivered"),
            (tr("lost"), "lost"),
            (tr("duplicated"), "duplicated"),
        ):
            table.add_row(
                name, *(f"{getattr(column, measure):,}" for column in self.columns.values())
            )
        table.add_section()
        counts = {**self.counts, tr("token fetches"): self.token_fetches}
        for name, number in counts.items():
            table.add_row(name, f"{number:,}")
        return table


EVERY_JOB = 10_000


async def verify(context: DemoContext) -> Verdict:
    """Compare what is expected with the records, the records with the sandbox."""
    every = await asyncio.to_thread(context.system.client.recent, EVERY_JOB)
    audit = context.system.sandbox.audit()
    jobs = [context.system.client.job(status.id) for status in every]
    return Verdict(
        columns={
            "messages": await asyncio.to_thread(_messages, context),
            "approvals": await asyncio.to_thread(_approvals, context),
            "people": await _people(context),
        },
        unfinished=[_as_unfinished(status) for status in every if status.state != State.DONE],
        misunderstood=await asyncio.to_thread(_misunderstood, context),
        token_fetches=audit["token_fetches"],
        counts={
            # All jobs, with those that user-sync made.
            tr("jobs"): len(every),
            tr("throttling answers"): audit["throttled"],
            tr("attempts beyond the first"): sum(max(0, each.attempts - 1) for each in every),
            tr("jobs taken over from the killed worker"): await asyncio.to_thread(
                taken_over, context, jobs
            ),
            # What DingTalk had from the killed worker already.
            tr("their repeats that DingTalk dropped"): audit["duplicates"]["messages_dropped"],
        },
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
            status.result["accepted"] for status in expected.statuses(MessageSend) if status.result
        )
        + sum(campaign.status().accepted for campaign in expected.campaigns),
        delivered=inboxes["delivered"],
        lost=(expected.contents - delivered).total(),
        duplicated=(delivered - expected.contents).total(),
    )


def _approvals(context: DemoContext) -> Column:
    expected = context.expected.statuses(ApprovalCreate)
    named = [status.result["instance_id"] for status in expected if status.result]
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
    store = Database(context.system.database)
    try:
        known = Counter(
            [user async for page in AppDirectory(store, "default").everyone() for user in page]
        )
    finally:
        await store.dispose()
    synced = await asyncio.to_thread(context.expected.statuses, UserSync)
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
