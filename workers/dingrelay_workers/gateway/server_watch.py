"""Polls a gateway's servers, so that an outage is known before a request meets it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import Gauge
from structlog.stdlib import get_logger

from dingrelay_producers.errors import ServiceUnavailable

CHECK_SECONDS = 1.8
"""What takes so long to answer is away."""
EVERY = 10.0
"""Seconds between two looks: as often as Prometheus asks."""

Check = Callable[[], Awaitable[None]]

log = get_logger("dingrelay.gateway.servers")


async def problem_of(check: Awaitable[None]) -> str:
    """What is wrong with a server; empty if nothing."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check
    except ServiceUnavailable as error:
        return str(error)
    except TimeoutError:
        return "does not answer"
    return ""


async def _answer(check: Check) -> str:
    try:
        return await problem_of(check())
    except Exception as error:  # noqa: BLE001 - the watch goes on, and reports a server that can't be reached
        return type(error).__name__


class ServerWatch:
    """Looks at servers until it is cancelled.

    Args:
        away: where it is kept, by the labels of each server.
        checks: labels → asks the server; raises `ServiceUnavailable` if it is away.
    """

    def __init__(self, away: Gauge, checks: Mapping[tuple[str, str], Check]) -> None:
        self._away = away
        self._checks = checks
        self._reasons = dict.fromkeys(checks, "")
        for labels in checks:
            away.labels(*labels).set(0)

    async def run(self) -> None:
        """Look, and look again."""
        while True:
            await self.look()
            await asyncio.sleep(EVERY)

    async def look(self) -> None:
        """Ask all servers at the same time, and keep which are away; the log has what changes."""
        answers = await asyncio.gather(*map(_answer, self._checks.values()))
        for place, reason in zip(self._checks, answers, strict=True):
            server = " ".join(filter(None, place))
            self._away.labels(*place).set(bool(reason))
            before, self._reasons[place] = self._reasons[place], reason
            if reason and not before:
                log.warning("server_away", server=server, reason=reason)
            elif before and not reason:
                log.info("server_back", server=server)
