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
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from redis.asyncio import Redis

from dingrelay_producers.store import clock, keys
from dingrelay_producers.store.record import moment_of
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.states import Ownership, OwnershipLost
from dingrelay_tasks import beijing
from dingrelay_tasks.context import DailyVerdict, MessageCall
from dingrelay_tasks.contract import batched
from dingrelay_tasks.message import digest
from dingrelay_tasks.outcomes import Refused, Wait
from dingrelay_tasks.sentence import en
from dingrelay_workers.dingtalk.clock import DingTalkClock, Offset
from dingrelay_workers.limiter import transitions
from dingrelay_workers.limiter.transitions import AddressedContent

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
LOOKED_UP = 200
"""Users that one call looks up: a few ms of Redis."""
ARRIVES_MS = 3000
"""Milliseconds that a request may need to arrive once it is on its way over a connection that stands: a packet that is
lost is sent again after 0.2 s, 0.4 s and so on, four times in this time."""
SERVERS_APART_MS = 1000
"""Milliseconds by which the server of DingTalk's that counts may be from the one whose clock was read."""
UNMEASURED = Offset(-1000, 1000)
"""The offset that is assumed where DingTalk's answers show no time."""
DAY_MS = 86_400_000

ADMITTED, DUPLICATE, DAILY_CAP = 0, 1, 2
NO_PLACE_LEFT = 2


def place(text: str) -> tuple[int, int]:
    """The shard of a userid and its digest, as `reservations.lua` has them."""
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return int(digest[:4], 16) % SHARDS, int(digest[4:17], 16)


@dataclass(frozen=True, slots=True)
class _Day:
    """A Beijing day by DingTalk's clock.

    Attributes:
        began: when it had certainly begun, in ms of Redis's clock.
        until: when the last call may leave that certainly arrives on it, likewise.
    """

    name: str
    began: int
    until: int

    @classmethod
    def of(cls, moment: datetime, offset: Offset) -> "_Day":
        """The day that has certainly begun at a moment of Redis's clock, from which DingTalk's is so far."""
        least, most = offset.least - SERVERS_APART_MS, offset.most + SERVERS_APART_MS
        beijing_time = moment.astimezone(beijing.BEIJING) + timedelta(milliseconds=least)
        start = beijing_time.replace(hour=0, minute=0, second=0, microsecond=0)
        start_ms = int(start.timestamp() * 1000)
        until = start_ms + DAY_MS - most - ARRIVES_MS
        return cls(beijing.day(beijing_time), start_ms - least, until)


class DailyLimits:
    """Counts what each user has had today, shared by the fleet.

    The days are DingTalk's: `offset` is how far its clock is from Redis's, as far as that was measured.
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
        call: MessageCall,
        message: Mapping[str, Any],
        *,
        anyway: bool = False,
        offset: Offset,
    ) -> tuple[DailyVerdict, int]:
        """Reserve today's limits for those recipients of a call who would get the message.

        The same job may ask again and gets the same answer.

        Args:
            app: the app that sends.
            run: of the job whose reservations they are.
            call: to be made.
            message: DingTalk's ``msg`` object.
            anyway: admit all of them, and reserve for those who would get it.
            offset: of DingTalk's clock.

        Returns:
            Until when (ms of Redis's clock) the call may leave as well: after that it counts for another day
            and needs a new reservation.

        Raises:
            Wait: another job's call to one of them may just be leaving, or the day ends.
            OwnershipLost: the job is another worker's by now.
            Refused: the day's sends to everyone are used up.
        """
        day, (by_department, *codes) = await self._reserve(app, run, call, message, anyway, offset)
        if call.users:
            having = defaultdict[int, list[str]](list)
            for user, code in zip(call.users, codes, strict=True):
                having[code].append(user)
            users = having[ADMITTED]
            perhaps = users if by_department else []
            verdict = DailyVerdict(users, having[DUPLICATE], having[DAILY_CAP], perhaps=perhaps)
            return verdict, day.until
        if call.departments:
            admitted = [
                department
                for department, code in zip(call.departments, codes, strict=True)
                if code == ADMITTED
            ]
            return DailyVerdict([], departments=admitted), day.until
        if codes == [NO_PLACE_LEFT]:
            raise Refused(
                "everyone_cap",
                en("app {} has sent to everyone {} times today", app, DAILY_TO_EVERYONE),
                "send it tomorrow, or to departments",
            )
        return DailyVerdict([], everyone=codes == [ADMITTED]), day.until

    async def _reserve(
        self,
        app: str,
        run: Ownership,
        call: MessageCall,
        message: Mapping[str, Any],
        anyway: bool,
        offset: Offset,
    ) -> tuple[_Day, list[Any]]:
        """The script's verdicts, for the day that it is when Redis runs it."""
        to: Literal["users", "departments", "everyone"] = "users" if call.users else "departments"
        most = DAILY_MESSAGES
        if call.everyone:
            to, most = "everyone", DAILY_TO_EVERYONE
        names = call.users or call.departments
        content = digest(message)
        day = _Day.of(self._now() if self._now else clock.now(), offset)  # most likely
        looks = iter(LOOKS)
        while True:
            reserve = transitions.reserve_daily(
                users_today=keys.content(app, day.name, content),
                departments_today=keys.content_departments(app, day.name, content),
                everyone_today=keys.everyone(app, day.name),
                record=keys.job(run.job),
                to=to,
                job=run.job,
                owner=run.owner,
                fence=run.fence,
                step=call.step,
                content=content,
                most=most,
                ttl=keys.DAY_TTL_MS,
                began=day.began,
                leaves_until=day.until,
                time_ms=int(self._now().timestamp() * 1000) if self._now else None,
                anyway=anyway,
                received=keys.received(app, day.name),
                recipients=names,
            )._replace(besides=len(names))
            verdict, *answer = await run_async(self._redis, reserve)
            match verdict:
                case b"lost":
                    raise OwnershipLost
                case b"another day":
                    day = _Day.of(moment_of(answer[0]), offset)
                case b"wait":
                    raise Wait(timedelta(milliseconds=answer[0]), "the day changes in Beijing")
                case b"busy":
                    pause = next(looks, None)
                    if pause is None:
                        raise _look_later()
                    await asyncio.sleep(pause)
                case _:
                    return day, answer


async def had_today(
    redis: Redis, app: str, messages: Sequence[tuple[str, str]]
) -> tuple[set[str], set[str]]:
    """Users who have a content today or are just getting it, and users who get no more today. Reserves nothing.

    Args:
        redis: where the days are.
        app: the app that would send.
        messages: a user, and the digest of the content for them.
    """
    day, codes = beijing.day(await DingTalkClock(redis).now()), ""
    for batch in batched(messages, LOOKED_UP):
        call = transitions.had_today(
            everyone_today=keys.everyone(app, day),
            received=keys.received(app, day),
            called=keys.content(app, day, ""),
            most=DAILY_MESSAGES,
            messages=[AddressedContent(*message) for message in batch],
        )
        codes += (await run_async(redis, call)).decode()
    users = defaultdict[str, set[str]](set)
    for (user, _), code in zip(messages, codes, strict=True):
        users[code].add(user)
    return users["1"], users["2"]


def _look_later() -> Wait:
    delay = random.uniform(*LOOK_LATER)
    return Wait(timedelta(seconds=delay), "an equal message may just be leaving")
