"""Campaigns in the simulation: created, started, paused, cancelled and recalled by a producer, and their reports."""

import math
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from dingrelay_producers.errors import DingrelayError
from dingrelay_simulation.clock import CLOCK
from dingrelay_simulation.fleet import Fleet
from dingrelay_simulation.plan import Step
from dingrelay_workers.campaigns.report import Report, Result
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.database.database import Database

ENDS = frozenset({"done", "cancelled"})


@dataclass(frozen=True, slots=True)
class Order:
    """A command about a campaign: when it was given and answered, and whether it was carried out."""

    verb: str
    at: float
    answered: float
    done: bool


@dataclass
class Broadcast:
    """A campaign that was requested.

    Attributes:
        id: empty if it was not created.
        started: whether that was answered.
        state, totals, people: what it reports at the end.
        orders: commands about it.
    """

    number: int
    tag: str
    users: tuple[str, ...]
    id: str = ""
    started: bool = False
    state: str = ""
    totals: dict[str, int] = field(default_factory=dict[str, int])
    people: list[Result] = field(default_factory=list[Result])
    orders: list[Order] = field(default_factory=list[Order])


class Campaigns:
    """The campaigns of a run."""

    names = frozenset({"campaign", "campaign_command"})

    def __init__(self, fleet: Fleet, database: Database, note: Callable[..., None]) -> None:
        self.broadcasts: list[Broadcast] = []
        self._fleet = fleet
        self._note = note
        self._database = database
        self._service = CampaignService(fleet.settings, self._database)

    def perform(self, step: Step) -> Coroutine[Any, Any, None]:
        """Create a campaign, or command something about one."""
        return self._create(step) if step.name == "campaign" else self._command(step)

    async def _create(self, step: Step) -> None:
        """Create a campaign and start it."""
        values = step.values
        broadcast = Broadcast(
            values["number"], values["tag"], tuple(dict.fromkeys(values["users"]))
        )
        self.broadcasts.append(broadcast)
        text = values["tag"] + (" {name}" if values["fields"] else "")
        plan: Any = {
            "name": values["tag"],
            "message": {"msgtype": "text", "text": {"content": text}},
            "recipients": [{"userid": user, "name": user} for user in values["users"]],
            "rate": values["rate"],
        }
        with suppress(DingrelayError, SQLAlchemyError, RedisError, OSError):
            campaign = await CampaignStore(self._database).create(plan, writers=["producer"])
            broadcast.id = campaign.id
            await self._service.start(campaign.id)
            broadcast.started = True
        self._note("campaign", broadcast.tag, broadcast.id, broadcast.started)

    async def _command(self, step: Step) -> None:
        """Start, pause, resume, cancel or recall one."""
        verb, answer, at = step.values["verb"], "done", CLOCK.now
        broadcast = next(
            (one for one in self.broadcasts if one.number == step.values["target"] and one.id), None
        )
        if not broadcast:
            return
        try:
            if verb == "recall":
                plan = await self._service.plan_recall(broadcast.id)
                self._fleet.client.send_many(plan.jobs)
            else:
                await getattr(self._service, verb)(broadcast.id)
        except (DingrelayError, SQLAlchemyError, RedisError, OSError) as error:
            answer = type(error).__name__
        broadcast.orders.append(Order(verb, at, CLOCK.now, answer == "done"))
        self._note("campaign command", verb, broadcast.tag, answer)

    async def mend(self) -> None:
        """Let paused campaigns run on."""
        for broadcast in self.broadcasts:
            if broadcast.id:
                with suppress(DingrelayError):
                    await self._service.start(broadcast.id)
                await self._resume(broadcast)

    async def _resume(self, broadcast: Broadcast) -> None:
        broadcast.orders.append(Order("resume", CLOCK.now, math.inf, done=True))
        with suppress(DingrelayError):
            await self._service.resume(broadcast.id)

    async def ended(self) -> bool:
        """Whether all campaigns have ended. One that pauses itself, since what was lost counts as failed, is resumed."""
        for broadcast in self.broadcasts:
            if broadcast.id and broadcast.state not in ENDS:
                broadcast.state = str((await self._service.status(broadcast.id)).state)
                if broadcast.state == "paused":
                    await self._resume(broadcast)
                if broadcast.state not in ENDS:
                    return False
        return True

    async def collect(self) -> dict[str, Any]:
        """All campaigns, with their reports."""
        for broadcast in self.broadcasts:
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
        return {"broadcasts": self.broadcasts, "chunk_runs": self._fleet.chunk_runs}
