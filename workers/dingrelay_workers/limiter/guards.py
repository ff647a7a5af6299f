"""The silent limits of work notifications, guarded before the call (API §2.1).

Over these limits DingTalk answers success and delivers nothing, so nobody would ever know.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers import keys
from dingrelay_producers.scripts import Script, run_async
from dingrelay_tasks.context import Admission
from dingrelay_tasks.message import digest
from dingrelay_tasks.outcomes import Refused
from dingrelay_workers.limiter import beijing

ADMIT = Script.load("dingrelay_workers.limiter", "admit")
ADMIT_EVERYONE = Script.load("dingrelay_workers.limiter", "admit_everyone")
SCREEN = Script.load("dingrelay_workers.limiter", "screen")
RELEASE = Script.load("dingrelay_workers.limiter", "release")

DAILY_MESSAGES = 500
"""Work notifications that one user may get of an internal app on a day."""
DAILY_TO_EVERYONE = 3
"""Sends to everyone that an app may make on a day."""
USERS_AT_ONCE = 500
"""Users of one script call, so that no call holds up the server for long."""

ADMITTED, DUPLICATE, DAILY_CAP, UNRESOLVED = 0, 1, 2, 3

Reached = Callable[[Sequence[str], Sequence[str]], Awaitable[set[str]]]
"""Tells whom of some users these campaigns have called today, or are about to."""


class Guards:
    """What each user has had today, shared by the fleet.

    A campaign leaves no trace of its recipients here, only one of its content. Where another
    message has the same content, `reached` finds out who they are.
    """

    def __init__(
        self, redis: Redis, reached: Reached, *, now: Callable[[], datetime] = beijing.now
    ) -> None:
        self._redis = redis
        self._reached = reached
        self._now = now

    async def admit(
        self,
        app: str,
        job_id: str,
        users: Sequence[str],
        message: Mapping[str, Any],
        *,
        to_everyone: bool = False,
    ) -> Admission:
        """Reserve today's limits for those users who would get the message.

        The same job may ask again and gets the same answer.

        Args:
            app: the app that sends.
            job_id: whose reservations they are.
            users: whom it is for; ignored with `to_everyone`.
            message: DingTalk's ``msg`` object.
            to_everyone: reserve one of the day's sends to everyone instead.

        Raises:
            Refused: the day's sends to everyone are used up.
        """
        if to_everyone:
            await self._admit_everyone(app, job_id)
            return Admission(users=[])
        verdicts = await self._reserve(app, job_id, users, message, content=digest(message))
        unresolved = [user for user in users if verdicts[user] == UNRESOLVED]
        if unresolved:
            reached = await self._reached_alike(app, unresolved, message)
            verdicts |= dict.fromkeys(reached, DUPLICATE)
            others = [user for user in unresolved if user not in reached]
            verdicts |= await self._reserve(app, job_id, others, message, content="")
        return _admission(users, verdicts)

    async def screen(
        self,
        app: str,
        users: Sequence[str],
        message: Mapping[str, Any],
        *,
        campaign: str,
        uniform: bool,
    ) -> Admission:
        """Which users would get a campaign's message today; reserves nothing.

        Args:
            app: the app that sends.
            users: whom it is for; nobody is in another call of the campaign.
            message: DingTalk's ``msg`` object.
            campaign: is registered as one message more for everybody today.
            uniform: the message is the same in all its calls.
        """
        content = digest(message)
        sends = content if uniform else ""
        call = SCREEN.call(
            self._keys(app, message),
            [campaign, content, sends, DAILY_MESSAGES, keys.DAY_TTL_MS, *users],
        )
        verdicts = dict(zip(users, await run_async(self._redis, call), strict=True))
        unresolved = [user for user in users if verdicts[user] == UNRESOLVED]
        if unresolved:
            reached = await self._reached_alike(app, unresolved, message, but=campaign)
            verdicts |= {user: DUPLICATE if user in reached else ADMITTED for user in unresolved}
        return _admission(users, verdicts)

    async def release(
        self,
        app: str,
        job_id: str,
        users: Collection[str],
        message: Mapping[str, Any],
        *,
        to_everyone: bool = False,
    ) -> None:
        """Give back what this job reserved for users that did not get the message."""
        if to_everyone:
            await self._redis.hdel(keys.everyone(app, beijing.day(self._now())), job_id)
            return
        reservations = self._keys(app, message)[:2]
        for some in _parts(users):
            await run_async(self._redis, RELEASE.call(reservations, [job_id, *some]))

    async def _admit_everyone(self, app: str, job_id: str) -> None:
        key = keys.everyone(app, beijing.day(self._now()))
        call = ADMIT_EVERYONE.call([key], [job_id, DAILY_TO_EVERYONE, keys.DAY_TTL_MS])
        if not await run_async(self._redis, call):
            raise Refused(
                "everyone_cap",
                f"app {app} has sent to everyone {DAILY_TO_EVERYONE} times today",
                "send it tomorrow, or to departments",
            )

    async def _reserve(
        self,
        app: str,
        job_id: str,
        users: Sequence[str],
        message: Mapping[str, Any],
        *,
        content: str,
    ) -> dict[str, int]:
        reservations = self._keys(app, message)
        verdicts: dict[str, int] = {}
        for some in _parts(users):
            call = ADMIT.call(
                reservations, [job_id, DAILY_MESSAGES, keys.DAY_TTL_MS, content, *some]
            )
            verdicts |= zip(some, await run_async(self._redis, call), strict=True)
        return verdicts

    async def _reached_alike(
        self, app: str, users: Sequence[str], message: Mapping[str, Any], *, but: str = ""
    ) -> set[str]:
        """Whom of the users today's campaigns of this content have called."""
        today: Any = await self._redis.hgetall(keys.broadcasts(app, beijing.day(self._now())))
        content = digest(message).encode()
        alike = [campaign.decode() for campaign, sends in today.items() if sends == content]
        return await self._reached(users, [campaign for campaign in alike if campaign != but])

    def _keys(self, app: str, message: Mapping[str, Any]) -> tuple[str, str, str, str]:
        today = beijing.day(self._now())
        return (
            keys.content(app, today, digest(message)),
            keys.received(app, today),
            keys.everyone(app, today),
            keys.broadcasts(app, today),
        )


def _admission(users: Sequence[str], verdicts: Mapping[str, int]) -> Admission:
    def judged(verdict: int) -> list[str]:
        return [user for user in users if verdicts[user] == verdict]

    return Admission(judged(ADMITTED), judged(DUPLICATE), judged(DAILY_CAP))


def _parts(users: Collection[str]) -> Iterator[list[str]]:
    everyone = list(users)
    for start in range(0, len(everyone), USERS_AT_ONCE):
        yield everyone[start : start + USERS_AT_ONCE]
