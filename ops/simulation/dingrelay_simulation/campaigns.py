"""Campaigns in the simulation: made, started, paused, cancelled and recalled by a producer, and what they report."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from dingrelay_producers.errors import DingrelayError
from dingrelay_simulation.fleet import Fleet
from dingrelay_simulation.plan import Step
from dingrelay_workers.campaigns.calls import FollowUp
from dingrelay_workers.campaigns.report import Report, Result
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.database.database import Database

ENDS = frozenset({"done", "cancelled"})
NOT_SENT = frozenset({"cancelled", "failed", "pending", "unknown_user", "out_of_scope"})
"""Outcomes that say: no call was made for this person."""


@dataclass
class Broadcast:
    """A campaign that was asked for.

    Attributes:
        id: empty if it was not made.
        started: whether that was answered.
        state, totals, people: what it reports at the end.
    """

    number: int
    tag: str
    users: tuple[str, ...]
    id: str = ""
    started: bool = False
    recalled: bool = False
    state: str = ""
    totals: dict[str, int] = field(default_factory=dict[str, int])
    people: list[Result] = field(default_factory=list[Result])


class Campaigns:
    """The campaigns of a run."""

    def __init__(self, fleet: Fleet, note: Callable[..., None]) -> None:
        self.asked: list[Broadcast] = []
        self._fleet = fleet
        self._note = note
        self._database = Database(fleet.settings.database)
        self._service = CampaignService(fleet.settings, self._database)

    async def create(self, step: Step) -> None:
        """Make a campaign and start it."""
        values = step.values
        broadcast = Broadcast(
            values["number"], values["tag"], tuple(dict.fromkeys(values["users"]))
        )
        self.asked.append(broadcast)
        text = values["tag"] + (" {name}" if values["fields"] else "")
        plan: Any = {
            "name": values["tag"],
            "message": {"msgtype": "text", "text": {"content": text}},
            "recipients": [{"userid": user, "name": user} for user in values["users"]],
            "rate": values["rate"],
        }
        with suppress(DingrelayError, SQLAlchemyError, RedisError, OSError):
            made = await CampaignStore(self._database).create(plan, writers=["producer"])
            broadcast.id = made.id
            await self._service.move(made.id, "start")
            broadcast.started = True
        self._note("campaign", broadcast.tag, broadcast.id, broadcast.started)

    async def command(self, step: Step) -> None:
        """Start, pause, resume, cancel or recall one."""
        found = [each for each in self.asked if each.number == step.values["target"] and each.id]
        if not found:
            return
        verb, answer = step.values["verb"], "done"
        try:
            if verb == "recall":
                plan = await FollowUp(CampaignStore(self._database)).recall(found[0].id)
                found[0].recalled = found[0].recalled or bool(plan.jobs)
                self._fleet.client.send_many(plan.jobs)
            else:
                await self._service.move(found[0].id, verb)
        except (DingrelayError, SQLAlchemyError, RedisError, OSError) as error:
            answer = type(error).__name__
        self._note("campaign command", verb, found[0].tag, answer)

    async def resume_all(self) -> None:
        """Let those that were paused run on."""
        for broadcast in self.asked:
            if broadcast.id:
                with suppress(DingrelayError):
                    await self._service.move(broadcast.id, "start")
                with suppress(DingrelayError):
                    await self._service.move(broadcast.id, "resume")

    async def open_ones(self) -> list[str]:
        """Those that have not ended."""
        states = {
            each.id: str((await self._service.status(each.id)).state)
            for each in self.asked
            if each.id
        }
        return [campaign for campaign, state in states.items() if state not in ENDS]

    async def read(self) -> Sequence[Broadcast]:
        """All, with what they report."""
        for broadcast in self.asked:
            if not broadcast.id:
                continue
            status = await self._service.status(broadcast.id)
            broadcast.state = str(status.state)
            broadcast.totals = {
                name: getattr(status, name)
                for name in ("recipients", "accepted", "left_out", "failed")
            }
            async for page in Report(self._database).results(broadcast.id):
                broadcast.people += page
        await self._database.dispose()
        return self.asked


def violations(
    broadcasts: Sequence[Broadcast], got: dict[str, dict[str, int]]
) -> Iterator[tuple[str, str, str]]:
    """What does not hold of campaigns: kind, text and id.

    Args:
        broadcasts: with their reports.
        got: text → user → how often it arrived.
    """
    for broadcast in broadcasts:
        if not broadcast.id:
            continue
        if broadcast.state not in ENDS:
            yield "open", f"campaign {broadcast.tag} is {broadcast.state} for ever", broadcast.id
        outcomes = {result.userid: result.outcome for result in broadcast.people}
        if sorted(outcomes) != sorted(broadcast.users):
            yield "people", f"campaign {broadcast.tag} has other people than asked", broadcast.id
        for user in broadcast.users:
            times = sum(
                people.get(user, 0)
                for tag, people in got.items()
                if tag.split(" ")[0] == broadcast.tag
            )
            outcome = outcomes.get(user, "missing")
            text = f"campaign {broadcast.tag} says {outcome} of {user}, who got it {times} times"
            if (
                times > 1
                or (outcome == "accepted" and not times)
                or (outcome in NOT_SENT and times)
            ) or (outcome == "duplicate" and not times):
                yield "campaign", text, broadcast.id
        totals = broadcast.totals
        total = totals.get("accepted", 0) + totals.get("left_out", 0) + totals.get("failed", 0)
        if broadcast.state == "done" and total != totals.get("recipients"):
            yield "sums", f"campaign {broadcast.tag} is done with {totals}", broadcast.id
