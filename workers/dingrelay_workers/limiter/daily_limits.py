"""The daily limits of work notifications, kept before the call (API §2.1).

Over these limits DingTalk answers success and delivers nothing, so nobody would ever know. So what
a call would bring is reserved before it leaves, and given back where it never left. A reservation
is no proof: who meets another job's looks at that job (`reservations.lua`). If it has sent, the
person has the content. If it runs, its call may be leaving, and this job looks again. If it neither
runs nor has sent, the reservation is taken over: that job asks again before it calls.

A campaign has no count for each of its people here, so it might have brought everybody a message. SQL
is asked how many really did, about those only who would be at the cap if all had (`near_cap.lua`).
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.ownership import Ownership, OwnershipLost
from dingrelay_producers.store.scripts import Call, Script, Value, run_async
from dingrelay_tasks import beijing
from dingrelay_tasks.campaign_chunk import STEP
from dingrelay_tasks.context import DailyVerdict
from dingrelay_tasks.message import digest
from dingrelay_tasks.message_result import LEFT_OUT
from dingrelay_tasks.outcomes import Refused, Wait

_PACKAGE = "dingrelay_workers.limiter"
_PRELUDES = ("reservations", "beijing_day")
_OWN = ("owned", *_PRELUDES)
RESERVE = Script.load(_PACKAGE, "near_cap", "reserve_daily", preludes=_OWN, together=True)
RESERVE_DEPARTMENTS = Script.load(_PACKAGE, "reserve_daily_departments", preludes=_OWN)
RESERVE_EVERYONE = Script.load(_PACKAGE, "reserve_daily_everyone", preludes=_OWN)
CHECK = Script.load(_PACKAGE, "near_cap", "check_daily", preludes=_PRELUDES)
RELEASE = Script.load(_PACKAGE, "release_daily", preludes=("reservations",))

DAILY_MESSAGES = 500
"""Work notifications that one user may get of an internal app on a day."""
DAILY_TO_EVERYONE = 3
"""Sends to everyone that an app may make on a day."""
USERS_AT_ONCE = 500
"""Users of one script call, so that no call holds up the server for long."""
LOOKS = (0.05, 0.15)
"""Seconds before each further look at a job whose call may just be leaving."""
LOOK_LATER = (0.5, 1.5)
"""Seconds between which a job is looked at again that would have to wait for longer: by chance, so
that two that met each other do not meet again."""
STILL_MS = 2000
"""Milliseconds before midnight from which nothing leaves (`beijing_day.lua`)."""
DAY_MS = 86_400_000

ASK_AGAIN = 5
"""Times that SQL is asked about somebody that a campaign calls meanwhile, before the job waits a little."""

ADMITTED, DUPLICATE, DAILY_CAP = 0, 1, 2
NO_PLACE_LEFT = 2


@dataclass(frozen=True, slots=True)
class Reach:
    """What campaigns of a content have to do with some users.

    Attributes:
        called: user → how many of the campaigns have called them.
        coming: id of a job that calls some of them, or has just called them → these users.
    """

    called: Counter[str] = field(default_factory=Counter[str])
    coming: dict[str, list[str]] = field(default_factory=dict[str, list[str]])


Reached = Callable[[str, Sequence[str], Sequence[str], str | None, datetime], Awaitable[Reach]]
"""Finds an app's users in campaigns, by the digest of a content, since the start of the day. None stands
for any content: then whoever may have been called counts as called."""


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
    def start(self) -> datetime:
        return datetime.fromtimestamp(self.began / 1000, UTC)

    @property
    def until(self) -> int:
        """When the last call of the day may leave, in ms of Redis's clock."""
        return self.began + DAY_MS - STILL_MS


class DailyLimits:
    """What each user has had today, shared by the fleet.

    A campaign leaves no trace of its recipients here, only of its contents. Where another message
    has the same content, or somebody may have had the day's messages, `reached` finds out who they are.

    Every method tells until when (ms of Redis's clock) the call may leave: after that it counts for
    another day, for which it has to ask anew. The days are DingTalk's: `ahead` says by how many ms its
    clock is ahead of Redis's, as far as that was measured.
    """

    def __init__(
        self, redis: Redis, reached: Reached, *, now: Callable[[], datetime] | None = None
    ) -> None:
        """Nothing is asked of Redis yet.

        Args:
            redis: where the days are.
            reached: finds users in campaigns.
            now: the time, in tests; Redis's own otherwise.
        """
        self._redis = redis
        self._reached = reached
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
            users: who it is for.
            message: DingTalk's ``msg`` object.
            step: of the job, whose call it is.
            anyway: admit all of them, and reserve for those who would get it.
            ahead: of Redis's clock, in ms: DingTalk's.

        Raises:
            Wait: another job's call to one of them may just be leaving, or the day ends.
            OwnershipLost: the job is another worker's by now.
        """
        content = digest(message)
        verdicts: dict[str, int] = {}
        campaigns, departments = "", False
        day = self._guess(ahead)
        for some in _parts(users):
            head: list[Value] = [*run, step, content, DAILY_MESSAGES, keys.DAY_TTL_MS]

            def call(
                day: _Day, found: str, head: list[Value] = head, some: list[str] = some
            ) -> Call:
                names = [*_keys(app, day, content), keys.job(run.job)]
                tail: list[Value] = [keys.job(""), int(anyway), found, *some]
                return RESERVE.call(names, [*head, day.began, self._time(), *tail])

            day, (alike, by_department, *codes) = await self._ask_near(app, day, ahead, call)
            campaigns = alike.decode()
            departments = departments or bool(by_department)
            verdicts |= zip(some, codes, strict=True)
        admitted = [user for user in users if verdicts[user] == ADMITTED]
        if campaigns and admitted and not anyway:
            # They are reserved by now, so whoever comes later waits for this job.
            had = await self._had(app, admitted, _names(campaigns), content, day)
            await self._give_back(app, run.job, admitted if had is None else had, content, day)
            verdicts |= dict.fromkeys(self._known(had), DUPLICATE)
        return _admission(users, verdicts, by_department=departments), day.until

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
        content = digest(message)

        def call(day: _Day) -> Call:
            names = [keys.content_departments(app, day.name, content), keys.job(run.job)]
            arguments: list[Value] = [*run, step, keys.DAY_TTL_MS, day.began, self._time()]
            return RESERVE_DEPARTMENTS.call(
                names, [*arguments, keys.job(""), int(anyway), *departments]
            )

        day, (_, *verdicts) = await self._ask(self._guess(ahead), ahead, call)
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
        content = digest(message)
        head: list[Value] = [*run, step, content, DAILY_TO_EVERYONE, keys.DAY_TTL_MS]

        def call(day: _Day) -> Call:
            names = [keys.everyone(app, day.name), keys.job(run.job)]
            arguments = [*head, day.began, self._time(), keys.job(""), int(anyway)]
            return RESERVE_EVERYONE.call(names, arguments)

        day, (_, verdict) = await self._ask(self._guess(ahead), ahead, call)
        if verdict == NO_PLACE_LEFT:
            raise Refused(
                "everyone_cap",
                f"app {app} has sent to everyone {DAILY_TO_EVERYONE} times today",
                "send it tomorrow, or to departments",
            )
        return verdict == ADMITTED, day.until

    async def check(
        self,
        app: str,
        users: Sequence[str],
        message: Mapping[str, Any],
        *,
        campaign: str,
        uniform: bool,
        ahead: int = 0,
    ) -> tuple[DailyVerdict, int]:
        """Which users would get a campaign's message today; reserves nothing.

        Args:
            app: the app that sends.
            users: who it is for; nobody is in another call of the campaign.
            message: DingTalk's ``msg`` object.
            campaign: is registered as one message more for everybody today.
            uniform: the message is the same in all its calls.
            ahead: as of `reserve`.

        Raises:
            Wait: as of `reserve`.
        """
        content = digest(message)
        head: list[Value] = [campaign, content, int(uniform), DAILY_MESSAGES, keys.DAY_TTL_MS]

        def call(day: _Day, found: str) -> Call:
            arguments = [*head, day.began, self._time(), keys.job(""), found, *users]
            return CHECK.call(_keys(app, day, content), arguments)

        day, (alike, _, *codes) = await self._ask_near(
            app, self._guess(ahead), ahead, call, besides=campaign
        )
        verdicts = dict(zip(users, codes, strict=True))
        admitted = [user for user in users if verdicts[user] == ADMITTED]
        others = [name for name in _names(alike.decode()) if name != campaign]
        if others and admitted:
            had = await self._had(app, admitted, others, content, day)
            verdicts |= dict.fromkeys(self._known(had), DUPLICATE)
        return _admission(users, verdicts), day.until

    async def _had(
        self,
        app: str,
        users: Sequence[str],
        campaigns: Sequence[str],
        content: str | None,
        day: _Day,
    ) -> Counter[str] | None:
        """User → how many of these campaigns have called them today; None: it is not known yet.

        Without a content, a call counts, too, that may have left and whose answer was lost.
        """
        without_record: set[str] = set()
        while True:
            reach = await self._reached(app, users, campaigns, content, day.start)
            had = reach.called.copy()
            missed: set[str] = set()
            for job_id, some in reach.coming.items():
                # The row in SQL follows the job's record, which is the truth.
                state, result, answer, intent = await self._redis.hmget(
                    keys.job(job_id), ["state", "result", f"step:{STEP}", "intent"]
                )
                if state == b"running":
                    return None
                if state == b"done" or answer is not None:
                    had.update(_called(result if state == b"done" else answer, some))
                elif intent is not None and content is None:
                    had.update(some)
                elif state is None:
                    missed.add(job_id)
            # A record is deleted once SQL has the job's end: SQL tells it now. One that SQL takes for open
            # again is still to be enqueued, and will meet this job's reservation.
            if missed <= without_record:
                return had
            without_record |= missed

    @staticmethod
    def _known(had: Counter[str] | None) -> Counter[str]:
        if had is None:
            raise _look_later()
        return had

    async def _give_back(
        self, app: str, job_id: str, users: Collection[str], content: str, day: _Day
    ) -> None:
        reservations = _keys(app, day, content)[:2]
        for some in _parts(users):
            await run_async(self._redis, RELEASE.call(reservations, [job_id, *some]))

    async def _ask_near(
        self,
        app: str,
        day: _Day,
        ahead: int,
        call: Callable[[_Day, str], Call],
        *,
        besides: str = "",
    ) -> tuple[_Day, list[Any]]:
        """As `_ask`, for a script that wants to know how many campaigns reached somebody.

        Raises:
            Wait: a campaign may just be calling them.
        """
        found: dict[_Day, dict[str, tuple[str, int]]] = {}
        looks = iter(LOOKS)

        def ask(day: _Day) -> Call:
            return call(day, json.dumps(found[day]) if day in found else "")

        for _ in range(ASK_AGAIN):
            day, answer = await self._ask(day, ahead, ask)
            if answer[0] != b"near":
                return day, answer[1:]
            campaigns, *entries = (each.decode() for each in answer[1:])
            users = entries[::2]
            others = [name for name in _names(campaigns) if name != besides]
            while (had := await self._had(app, users, others, None, day)) is None:
                pause = next(looks, None)
                if pause is None:
                    raise _look_later()
                await asyncio.sleep(pause)
            found.setdefault(day, {}).update(
                {user: (entry, had[user]) for user, entry in zip(users, entries[1::2], strict=True)}
            )
        raise _look_later()

    async def _ask(
        self, day: _Day, ahead: int, call: Callable[[_Day], Call]
    ) -> tuple[_Day, list[Any]]:
        """The script's answer, for the day that it is when Redis runs it."""
        looks = iter(LOOKS)
        while True:
            answer = await run_async(self._redis, call(day))
            match answer[0]:
                case b"lost":
                    raise OwnershipLost
                case b"another day":
                    day = _Day.of(datetime.fromtimestamp(answer[1] / 1000, UTC), ahead)
                case b"wait":
                    raise Wait(timedelta(milliseconds=answer[1]), "the day changes in Beijing")
                case b"busy":
                    pause = next(looks, None)
                    if pause is None:
                        raise _look_later()
                    await asyncio.sleep(pause)
                case _:
                    return day, answer

    def _guess(self, ahead: int) -> _Day:
        """The day that it most likely is; the scripts know better."""
        return _Day.of(self._now() if self._now else beijing.now(), ahead)

    def _time(self) -> Value:
        return int(self._now().timestamp() * 1000) if self._now else ""


def _look_later() -> Wait:
    delay = random.uniform(*LOOK_LATER)
    return Wait(timedelta(seconds=delay), "an equal message may just be leaving")


def _names(campaigns: str) -> list[str]:
    """The campaigns that a script names, each once."""
    return list(dict.fromkeys(name for name in campaigns.split(",") if name))


def _called(answer: Any, users: Sequence[str]) -> set[str]:
    """Those of a chunk's users that its call was for, by what that brought."""
    result: dict[str, Any] = json.loads(answer)
    left_out = {user for name in LEFT_OUT for user in result.get(name, ())}
    return {*users} - left_out if result["call"] else set()


def _keys(app: str, day: _Day, content: str) -> tuple[str, ...]:
    return (
        keys.content(app, day.name, content),
        keys.received(app, day.name),
        keys.everyone(app, day.name),
        keys.broadcasts(app, day.name),
        keys.filled_in(app, day.name),
        keys.content_departments(app, day.name, content),
        keys.near_cap(app, day.name),
    )


def _admission(
    users: Sequence[str], verdicts: Mapping[str, int], *, by_department: bool = False
) -> DailyVerdict:
    def having(verdict: int) -> list[str]:
        return [user for user in users if verdicts[user] == verdict]

    admitted = having(ADMITTED)
    return DailyVerdict(
        admitted, having(DUPLICATE), having(DAILY_CAP), admitted if by_department else []
    )


def _parts(users: Collection[str]) -> Iterator[list[str]]:
    everyone = list(users)
    for start in range(0, len(everyone), USERS_AT_ONCE):
        yield everyone[start : start + USERS_AT_ONCE]
