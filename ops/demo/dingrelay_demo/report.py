"""The judgement: what was asked, what the records say, and what DingTalk's own audit says."""

import asyncio
from collections import Counter
from dataclasses import dataclass

from rich import box
from rich.table import Table

from dingrelay_demo.acts import taken_over
from dingrelay_demo.stage import Stage, statuses
from dingrelay_producers import JobStatus, State
from dingrelay_producers.record import canonical_json
from dingrelay_workers.directory.store import DirectoryStore

EVERY_JOB = 10_000


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
    """What came out.

    Attributes:
        jobs: all jobs, with those that user-sync made.
        unfinished: those that did not end done.
        throttled: throttling answers that DingTalk gave.
        retried: attempts beyond the first.
        taken_over: jobs finished by another worker than the one that vanished with them.
        dropped: messages that DingTalk had from the vanished worker, and did not deliver again.
        token_fetches: tokens that DingTalk handed out, to both workers together.
    """

    messages: Column
    approvals: Column
    people: Column
    jobs: int
    unfinished: list[str]
    throttled: int
    retried: int
    taken_over: int
    dropped: int
    token_fetches: int

    @property
    def disagreements(self) -> list[str]:
        """What is not as it must be."""
        found = [f"not done: {told}" for told in self.unfinished]
        for name, column in (
            ("messages", self.messages),
            ("approvals", self.approvals),
            ("people", self.people),
        ):
            if column.lost or column.duplicated:
                found.append(f"{name}: {column.lost} lost, {column.duplicated} duplicated")
            if not column.asked == column.accepted == column.delivered:
                found.append(
                    f"{name}: asked {column.asked}, accepted {column.accepted}, "
                    f"delivered {column.delivered}"
                )
        if self.token_fetches != 1:
            found.append(f"{self.token_fetches} token fetches")
        return found

    @property
    def agrees(self) -> bool:
        """Whether all is as it must be."""
        return not self.disagreements

    def table(self) -> Table:
        """All of it, for the terminal."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2))
        table.add_column("")
        for title in ("messages", "approvals", "people"):
            table.add_column(title, justify="right")
        columns = (self.messages, self.approvals, self.people)
        for name, measure in (
            ("asked for", "asked"),
            ("accepted, say the job records", "accepted"),
            ("delivered, says the sandbox", "delivered"),
            ("lost", "lost"),
            ("duplicated", "duplicated"),
        ):
            table.add_row(name, *(f"{getattr(column, measure):,}" for column in columns))
        table.add_section()
        for name, number in (
            ("jobs", self.jobs),
            ("throttling answers", self.throttled),
            ("attempts beyond the first", self.retried),
            ("jobs taken over from the killed worker", self.taken_over),
            ("their repeats that DingTalk dropped", self.dropped),
            ("token fetches", self.token_fetches),
        ):
            table.add_row(name, f"{number:,}")
        return table


async def judge(stage: Stage) -> Verdict:
    """Compare the ledger with the records, the records with the sandbox."""
    every = await asyncio.to_thread(stage.system.client.recent, EVERY_JOB)
    audit = stage.system.sandbox.audit()
    return Verdict(
        messages=await asyncio.to_thread(_messages, stage),
        approvals=await asyncio.to_thread(_approvals, stage),
        people=await _people(stage),
        jobs=len(every),
        unfinished=[_told(status) for status in every if status.state != State.DONE],
        throttled=audit["throttled"],
        retried=sum(max(0, status.attempts - 1) for status in every),
        taken_over=await asyncio.to_thread(
            taken_over, stage, [stage.system.client.job(status.id) for status in every]
        ),
        dropped=audit["duplicates"]["messages_dropped"],
        token_fetches=audit["token_fetches"],
    )


def _messages(stage: Stage) -> Column:
    ledger = stage.ledger
    inboxes = stage.system.sandbox.inboxes(limit=EVERY_JOB)
    delivered = Counter(
        {canonical_json(entry["message"]): entry["delivered"] for entry in inboxes["contents"]}
    )
    return Column(
        asked=ledger.contents.total(),
        accepted=sum(
            status.result["accepted"] for status in statuses(ledger.messages) if status.result
        ),
        delivered=inboxes["delivered"],
        lost=ledger.lost(delivered),
        duplicated=ledger.duplicated(delivered),
    )


def _approvals(stage: Stage) -> Column:
    asked = stage.ledger.approvals
    adopted = [status.result["instance_id"] for status in statuses(asked) if status.result]
    created = [made["id"] for made in stage.system.sandbox.approvals()]
    return Column(
        asked=len(asked),
        accepted=len(adopted),
        delivered=len(created),
        lost=len(asked) - len(set(adopted) & set(created)),
        duplicated=len(set(created) - set(adopted)),
    )


async def _people(stage: Stage) -> Column:
    organisation = stage.system.sandbox.organisation()
    truth = Counter(user["userid"] for user in organisation["users"])
    store = DirectoryStore(stage.system.database)
    try:
        known = Counter([user async for page in store.of("default").everyone() for user in page])
    finally:
        await store.close()
    synced = await asyncio.to_thread(statuses, stage.ledger.syncs)
    return Column(
        asked=len(truth),
        accepted=sum(status.result["users"] for status in synced if status.result),
        delivered=known.total(),
        lost=(truth - known).total(),
        duplicated=(known - truth).total(),
    )


def _told(status: JobStatus) -> str:
    reason = f" {status.error.code} {status.error.message}" if status.error else ""
    return f"{status.kind} {status.id} is {status.state}{reason}"
