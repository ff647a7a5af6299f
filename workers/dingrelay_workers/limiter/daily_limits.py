"""The daily limits of work notifications, kept before the call (API §2.1).

Over these limits DingTalk answers success and delivers nothing, so the loss would go unseen.
Recipients of a call are therefore reserved before it leaves, and given back where it never left. A
reservation is no proof: a job that meets another job's checks the state of that job
(`reservations.lua`). If it has sent, the person has the content. If it runs, its call may be
leaving, and this job checks again later. If it neither runs nor has sent, the reservation is taken
over: that job reserves again before it calls. What was sent is kept in a few bytes a person and
content, for calls of campaigns as for all others.
"""

import asyncio
import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.record import moment_of, transition
from dingrelay_producers.store.scripts import Value, run_async
from dingrelay_producers.store.states import Ownership, OwnershipLost
from dingrelay_tasks import beijing
from dingrelay_tasks.context import DailyVerdict
from dingrelay_tasks.message import digest
from dingrelay_tasks.outcomes import Refused, Wait
from dingrelay_tasks.sentence import en

RESERVE = transition(
    "dingrelay_workers.limiter", "reserve_daily", preludes=["reservations"], together=True
)

DAILY_MESSAGES = 500
"""Work notifications that one user may get of an internal app on a day."""
DAILY_TO_EVERYONE = 3
"""Sends to everyone that an app may make on a day."""
LOOKS = (0.05, 0.15)
"""Seconds before each further look at a job whose call may just be leaving."""
LOOK_LATER = (0.5, 1.5)
"""Seconds between which a job is looked at again that would have to wait for longer: by chance, so
that two that met each other do not meet again."""
SHARDS = 16_384
"""Parts of what is kept of a day (`reservations.lua`)."""
STILL_MS = 2000
"""Milliseconds before midnight from which nothing leaves (`reserve_daily.lua`)."""
DAY_MS = 86_400_000

ADMITTED, DUPLICATE, DAILY_CAP = 0, 1, 2
NO_PLACE_LEFT = 2


def place(text: str) -> tuple[int, int]:
    """The shard of a userid and its digest, as `reservations.lua` has them."""
    found = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return int(found[:4], 16) % SHARDS, int(found[4:17], 16)


@dataclass(frozen=True, slots=True)
class _Day:
    """A Beijing day by DingTalk's clock; it began at this moment of Redis's clock, in ms."""

    name: str
    began: int

    @classmethod
    def of(cls, moment: datetime, ahead: int) -> "_Day":
        """The day of a moment of Redis's clock, which DingTalk's is so many ms ahead of."""
        there = moment.astimezone(beijing.BEIJING) + timedelta(milliseconds=ahead)
        start = there.replace(hour=0, minute=0, second=0, microsecond=0)
        return cls(beijing.day(there), int(start.timestamp() * 1000) - ahead)

    @property
    def until(self) -> int:
        """When the last call of the day may leave, in ms of Redis's clock."""
        return self.began + DAY_MS - STILL_MS


class DailyLimits:
    """Counts what each user has had today, shared by the fleet.

    Every method returns until when (ms of Redis's clock) the call may leave: after that it counts
    for another day and needs a new reservation. The days are DingTalk's: `ahead` is by how many ms its
    clock is ahead of Redis's, as far as that was measured.
    """

    def __init__(self, redis: Redis, *, now: Callable[[], datetime] | None = None) -> None:
        """Sends nothing to Redis yet.

        Args:
            redis: where the days are.
            now: the time, in tests; Redis's own otherwise.
        """
        self._redis = redis
        self._now = now

    async def reserve(
        self,
        app: str,
        run: Ownership,
        users: Sequence[str],
        message: Mapping[str, Any],
        *,
        step: str = "call:1",
        anyway: bool = False,
        ahead: int = 0,
    ) -> tuple[DailyVerdict, int]:
        """Reserve today's limits for those users who would get the message.

        The same job may ask again and gets the same answer.

        Args:
            app: the app that sends.
            run: of the job whose reservations they are.
            users: who it is for: those of one call.
            message: DingTalk's ``msg`` object.
            step: of the job, whose call it is.
            anyway: admit all of them, and reserve for those who would get it.
            ahead: of Redis's clock, in ms: DingTalk's.

        Raises:
            Wait: another job's call to one of them may just be leaving, or the day ends.
            OwnershipLost: the job is another worker's by now.
        """
        day, (by_department, *codes) = await self._reserve(
            "users", app, run, users, message, step, ahead, anyway=anyway, most=DAILY_MESSAGES
        )
        verdicts = dict(zip(users, codes, strict=True))
        return _admission(users, verdicts, by_department=bool(by_department)), day.until

    async def reserve_departments(
        self,
        app: str,
        run: Ownership,
        departments: Sequence[int],
        message: Mapping[str, Any],
        *,
        step: str = "call:1",
        anyway: bool = False,
        ahead: int = 0,
    ) -> tuple[list[int], int]:
        """Those of the departments that have not got this content today; they are noted.

        Raises:
            Wait, OwnershipLost: as of `reserve`.
        """
        day, (_, *verdicts) = await self._reserve(
            "departments", app, run, departments, message, step, ahead, anyway=anyway
        )
        left = [
            department
            for department, verdict in zip(departments, verdicts, strict=True)
            if verdict == ADMITTED
        ]
        return left, day.until

    async def reserve_everyone(
        self,
        app: str,
        run: Ownership,
        message: Mapping[str, Any],
        *,
        step: str = "call:1",
        anyway: bool = False,
        ahead: int = 0,
    ) -> tuple[bool, int]:
        """Reserve one of the day's sends to everyone; False: everyone has this content today.

        Raises:
            Refused: the day's sends to everyone are used up.
            Wait, OwnershipLost: as of `reserve`.
        """
        day, (_, verdict) = await self._reserve(
            "everyone", app, run, (), message, step, ahead, anyway=anyway, most=DAILY_TO_EVERYONE
        )
        if verdict == NO_PLACE_LEFT:
            raise Refused(
                "everyone_cap",
                en("app {} has sent to everyone {} times today", app, DAILY_TO_EVERYONE),
                "send it tomorrow, or to departments",
            )
        return verdict == ADMITTED, day.until

    async def _reserve(
        self,
        to: str,
        app: str,
        run: Ownership,
        names: Sequence[str] | Sequence[int],
        message: Mapping[str, Any],
        step: str,
        ahead: int,
        *,
        anyway: bool,
        most: int = 0,
    ) -> tuple[_Day, list[Any]]:
        """The script's verdicts, for the day that it is when Redis runs it."""
        content = digest(message)
        day = _Day.of(self._now() if self._now else beijing.now(), ahead)  # most likely
        looks = iter(LOOKS)
        while True:
            where = [
                keys.content(app, day.name, content),
                keys.content_departments(app, day.name, content),
                keys.everyone(app, day.name),
                keys.job(run.job),
            ]
            values: list[Value] = [to, *run, step, content, most, keys.DAY_TTL_MS, day.began]
            values += (self._time(), int(anyway), keys.received(app, day.name), *names)
            call = RESERVE.call(where, values)._replace(besides=len(names))
            verdict, *answer = await run_async(self._redis, call)
            match verdict:
                case b"lost":
                    raise OwnershipLost
                case b"another day":
                    day = _Day.of(moment_of(answer[0]), ahead)
                case b"wait":
                    raise Wait(timedelta(milliseconds=answer[0]), "the day changes in Beijing")
                case b"busy":
                    pause = next(looks, None)
                    if pause is None:
                        raise _look_later()
                    await asyncio.sleep(pause)
                case _:
                    return day, answer

    def _time(self) -> Value:
        return int(self._now().timestamp() * 1000) if self._now else ""


def _look_later() -> Wait:
    delay = random.uniform(*LOOK_LATER)
    return Wait(timedelta(seconds=delay), "an equal message may just be leaving")


def _admission(
    users: Sequence[str], verdicts: Mapping[str, int], *, by_department: bool
) -> DailyVerdict:
    def having(verdict: int) -> list[str]:
        return [user for user in users if verdicts[user] == verdict]

    admitted = having(ADMITTED)
    return DailyVerdict(
        admitted, having(DUPLICATE), having(DAILY_CAP), admitted if by_department else []
    )
