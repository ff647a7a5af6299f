"""Approvals in the simulation after they were created: people decide them, and the product learns of it by look-ups."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from dingrelay_producers.store import keys, record
from dingrelay_simulation.fleet import Fleet
from dingrelay_simulation.plan import Step
from dingrelay_tasks.approval_follow import ApprovalFollow
from dingrelay_workers.approvals.models import ApprovalRow
from dingrelay_workers.database.database import Database

LONGEST_MS = 60_000
"""Time that a run waits for a look-up, beside its looks."""
FORM_FIELD = "事由"
"""Control of an approval's form that holds its tag."""


@dataclass(frozen=True)
class Followed:
    """State of an approval, as the product has it.

    Attributes:
        state: in its table.
        job: that created it, as the table has it.
    """

    state: str
    job: str


class Decisions:
    """The decisions of people about the approvals of a run."""

    names = frozenset({"decide"})

    def __init__(self, fleet: Fleet, database: Database, note: Callable[..., None]) -> None:
        self._fleet = fleet
        self._database = database
        self._note = note
        self._deleted: set[str] = set()

    def instances(self, tag: str = "") -> Iterator[Any]:
        """The approvals at DingTalk, or those with a tag."""
        for instance in list(self._fleet.dingtalk.state.approvals.instances.values()):
            if not tag or (FORM_FIELD, tag) in instance.request.form:
                yield instance

    def perform(self, step: Step) -> None:
        """Let a person decide an approval, or delete it."""
        values = step.values
        for instance in self.instances(values["tag"]):
            if instance.status != "RUNNING":
                continue
            self._act(instance, values["verb"])
            self._note("decided", values["verb"], values["tag"])
            return

    def _act(self, instance: Any, verb: str) -> None:
        at = self._fleet.dingtalk.state.clock()
        match verb:
            case "terminate":
                instance.terminate(instance.request.originator, at=at)
            case "delete":
                self._fleet.dingtalk.state.approvals.delete(instance.id, at=at)
                self._deleted.add(instance.id)
            case _:
                instance.advance(agree=verb == "agree", at=at)

    async def mend(self) -> None:
        """Let all that is open be decided, also what is still created."""
        for instance in self.instances():
            while instance.status == "RUNNING":
                self._act(instance, "agree")

    async def ended(self) -> bool:
        """Whether no approval is followed any more."""
        await self.mend()
        approvals = [*(instance.id for instance in self.instances()), *sorted(self._deleted)]
        followers = map(self._follower, approvals)
        following = [job for job in followers if not self._fleet.have_ended([job])]
        for job in following:
            self._hasten(job)
        return not following

    def _hasten(self, job: str) -> None:
        """Let minutes pass for a job that waits for so long where DingTalk could not be asked."""
        valkey = self._fleet.valkey
        now, due = valkey.micros // 1_000, valkey.call("ZSCORE", keys.SCHEDULE, job)
        if due is not None and float(due) > now + LONGEST_MS:
            valkey.call("HSET", keys.job(job), "due", now)
            valkey.call("ZADD", keys.SCHEDULE, now, job)

    def _follower(self, instance: str) -> str:
        return record.keyed_id("default", ApprovalFollow.kind, instance)

    async def collect(self) -> dict[str, Any]:
        """State at DingTalk, and in the product."""
        row = ApprovalRow.__table__.c
        async with self._database.read() as connection:
            rows = await connection.execute(select(row.instance, row.state, row.job))
            followed = {instance: Followed(state, job) for instance, state, job in rows}
        by_tag: dict[str, list[Any]] = {}
        for instance in self.instances():
            for name, value in instance.request.form:
                if name == FORM_FIELD:
                    by_tag.setdefault(value, []).append(instance)
        return {"instances": by_tag, "deleted": self._deleted, "followed": followed}


def true_state(instance: Any) -> str:
    """How an approval stands at DingTalk, in the product's words."""
    if instance.status == "COMPLETED":
        return "approved" if instance.result == "agree" else "refused"
    return str(instance.status).lower()
