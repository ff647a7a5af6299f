"""Lanes in the simulation: an operator pauses them, and lets them go on."""

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from dingrelay_producers.errors import DingrelayError
from dingrelay_simulation.clock import CLOCK
from dingrelay_simulation.fleet import Fleet
from dingrelay_simulation.plan import Step
from dingrelay_tasks.contract import ContractError


@dataclass
class LanePause:
    """A pause that was answered.

    Attributes:
        lane: ``all`` for each.
        since: when that was, in seconds from the beginning.
        until: when its jobs may go on: at its end, or once it may have been resumed, or paused again.
    """

    lane: str
    since: float
    until: float


class Lanes:
    """The pauses of a run."""

    names = frozenset({"pause_lane", "resume_lane"})

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._pauses: list[LanePause] = []

    def perform(self, step: Step) -> Coroutine[Any, Any, None] | None:
        """Pause a lane, or let it go on."""
        lane = step.values["lane"]
        for pause in self._pauses:
            if pause.lane == lane:
                pause.until = min(pause.until, CLOCK.now)
        name = f"default:{lane}"
        try:
            if step.name == "resume_lane":
                self._fleet.client.resume_lane(name)
            else:
                # The producer's clock is right, and Redis' may not be: some are over before they begin.
                until = datetime.now(UTC) + timedelta(seconds=step.values["seconds"])
                ends = self._fleet.client.pause_lane(name, until=until).until.timestamp()
                ends -= CLOCK.epoch + self._fleet.valkey.offset
                self._pauses.append(LanePause(lane, CLOCK.now, ends))
        except (DingrelayError, ContractError):
            """It may have been carried out, or not: nothing is known of such a pause."""
        return None

    async def mend(self) -> None:
        """Each pause ends by itself."""

    async def ended(self) -> bool:
        """Held jobs have not ended, which is asked for all."""
        return True

    async def collect(self) -> dict[str, Any]:
        """The pauses."""
        return {"lane_pauses": self._pauses}
