"""Detects recipients that DingTalk would silently drop, before the call.

People in the directory, where the app is visible, need no look-up. All others are looked up at DingTalk, since
they may have joined after the last sync, and are left out if it does not know them. A look-up that waits for a
limit makes the job wait; one that DingTalk does not answer, as in an outage, leaves the recipient `unverified`:
they are in the call, and named. Before an app's directory was synced all of its recipients are.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from redis.asyncio import Redis
from structlog.stdlib import get_logger

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_tasks.context import RecipientVerdict
from dingrelay_tasks.organisation import Contacts, Member
from dingrelay_tasks.outcomes import OutOfScope, Wait
from dingrelay_workers.dingtalk.contacts import ROOT_DEPARTMENT, VisibleRange
from dingrelay_workers.dingtalk.errors import Permanent
from dingrelay_workers.dingtalk.lenient import MALFORMED
from dingrelay_workers.dingtalk.request import Calls
from dingrelay_workers.metrics import REASONS_LEFT_OUT, RECIPIENTS_LEFT_OUT
from dingrelay_workers.recipients.visible_ranges import MINE, VisibleRanges
from dingrelay_workers.store.records import RedisTime

if TYPE_CHECKING:
    from dingrelay_workers.recipients.known_people import KnownPeople

Reachability = Literal["reachable", "unknown_user", "out_of_scope", "unverified"]

KNOWN_FOR = 300.0
"""Seconds for which a person who was found is not looked up again. Should they leave in that time,
DingTalk drops messages to them, as it does without a check."""
ANSWERED_FOR = 60.0
"""Seconds for which a person or department unknown to DingTalk is not looked up again. A person
outside the range is so for as long as that was read within the last minute."""
UNANSWERED_FOR = 30.0
"""Back-off in seconds after a look-up that DingTalk did not answer; until then recipients are unverified."""
MOST_KEPT = 50_000
"""People, and answers about them, that a process keeps at hand."""
ASKS_FOR = 10.0
"""Seconds for which one run of a job looks up recipients; the next run goes on with the rest."""
DATABASE_TIMEOUT = 2.0
"""Seconds that a message waits for the directory; then its recipients are unverified."""
DATABASE_REST = 30.0
"""Seconds for which a directory that did not answer is not asked."""
SYNCED_FOR = 10.0
"""Seconds for which an app's directory counts as synced without another look."""
DEEPEST = 50
"""Departments above one another at most; DingTalk allows fewer."""
MOST_LOOKED_AT = 50
"""Departments of a range that are looked up: a message waits for it."""

log = get_logger("dingrelay.recipients")


Value = TypeVar("Value")


class _Kept(Generic[Value]):
    """Cached facts of an app's people or departments."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._values: dict[tuple[str, str], tuple[Value, float]] = {}

    def get(self, app: str, name: str) -> Value | None:
        entry = self._values.get((app, name))
        return entry[0] if entry and time.monotonic() < entry[1] else None

    def clear(self) -> None:
        self._values.clear()

    def put(self, app: str, name: str, value: Value, *, seconds: float | None = None) -> Value:
        if len(self._values) >= MOST_KEPT:
            self._values.clear()
        kept_for = self._seconds if seconds is None else seconds
        self._values[app, name] = value, time.monotonic() + kept_for
        return value


class RecipientChecks:
    """Checks the recipients of one process's messages.

    Args:
        redis: of the fleet.
        settings: whether it checks at all.
        people: the directory; opened by the first app whose directory was synced.
    """

    def __init__(
        self, redis: Redis, settings: Settings, people: "Callable[[], KnownPeople]"
    ) -> None:
        self._redis = redis
        self._off = not settings.sync.check_recipients
        self._people = people
        self._ranges = VisibleRanges(redis)
        self._synced = _Kept[bool](SYNCED_FOR)
        self._here = _Kept[frozenset[int]](KNOWN_FOR)
        self._answered = _Kept[Reachability](ANSWERED_FOR)
        self._parents = _Kept[int](ANSWERED_FOR)
        self._unanswered = _Kept[bool](UNANSWERED_FOR)
        self._rests_until = 0.0

    async def note_synced(self, app: str) -> None:
        """The app's whole directory was read: from now on it says which people surely exist."""
        await self._redis.set(keys.synced(app), 1, px=keys.SYNCED_TTL_MS)
        self._synced.put(app, "", True)

    def forget(self) -> None:
        """Drop everything cached."""
        self._ranges.forget()
        for cache in (self._synced, self._here, self._answered, self._parents, self._unanswered):
            cache.clear()

    async def check(
        self,
        calls: Calls,
        contacts: Contacts,
        now: RedisTime,
        users: Sequence[str],
        answers: dict[str, Reachability],
    ) -> RecipientVerdict:
        """Split recipients into those to send to, and those that DingTalk would drop.

        Args:
            calls: asks DingTalk, as the app that sends.
            contacts: the same for people and departments.
            now: Redis's clock.
            users: userids.
            answers: look-ups that earlier runs of the job made; those of this run are added.

        Raises:
            Wait: there are more look-ups than one run makes.
            Exception: one of `MINE`, such as that a look-up waits for its limit.
        """
        if self._off:
            return RecipientVerdict(list(users))
        if not await self._is_synced(calls.app):
            return RecipientVerdict(list(users), unverified=list(users))
        visible = await self._ranges.of(calls, now)
        unconfirmed = await self._unconfirmed(calls.app, users, visible)
        if time.monotonic() < self._rests_until:
            return RecipientVerdict(list(users), unverified=list(unconfirmed))
        if not unconfirmed:
            return RecipientVerdict(list(users))
        saves = len(unconfirmed) == len({*users})
        lookup = _Lookup(calls, contacts, now, self._ranges, self._parents, saves=saves)
        until = time.monotonic() + ASKS_FOR
        for user in unconfirmed:
            if user not in answers:
                if time.monotonic() >= until:
                    raise Wait(timedelta(0), "looks up its recipients")
                answers[user] = await self._reachability(calls.app, user, lookup, visible)
        return _verdict(calls.app, users, answers)

    async def _is_synced(self, app: str) -> bool:
        if self._synced.get(app, ""):
            return True
        # That it was not yet is never kept: the next message may follow the end of the first sync.
        return bool(await self._redis.exists(keys.synced(app))) and self._synced.put(app, "", True)

    async def _unconfirmed(
        self, app: str, users: Sequence[str], visible: VisibleRange | None
    ) -> Collection[str]:
        """Users that the directory does not show in the range, or may not, where it can't be read."""
        departments = None
        if visible is not None and visible.is_known and not visible.everybody:
            departments = visible.departments
        mark = frozenset({ROOT_DEPARTMENT}) if departments is None else departments
        unsure = [user for user in users if self._here.get(app, user) != mark]
        if not unsure or time.monotonic() < self._rests_until:
            return unsure
        try:
            confirmed = await asyncio.wait_for(
                self._find_people(app, unsure, visible, departments), DATABASE_TIMEOUT
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the message goes on
            log.warning("recipients_unchecked", app=app, reason=type(error).__name__)
            self._rests_until = time.monotonic() + DATABASE_REST
            return unsure
        for user in confirmed:
            self._here.put(app, user, mark)
        return [user for user in dict.fromkeys(unsure) if user not in confirmed]

    async def _find_people(
        self,
        app: str,
        users: Sequence[str],
        visible: VisibleRange | None,
        departments: frozenset[int] | None,
    ) -> set[str]:
        people = await self._people().find(app, users, departments)
        listed_users = (
            {*users} & visible.users if visible and departments is not None else set[str]()
        )
        return people | (
            await self._people().find(app, listed_users, None) if listed_users else set()
        )

    async def _reachability(
        self, app: str, user: str, lookup: "_Lookup", visible: VisibleRange | None
    ) -> Reachability:
        reachability = self._answered.get(app, user)
        if reachability is not None:
            return reachability
        if self._unanswered.get(app, ""):
            return "unverified"
        try:
            reachability, seconds = await lookup.reachability(user, visible)
        except MINE:
            raise
        except Exception as error:  # noqa: BLE001 - an outage, say: the message goes on
            log.info("recipient_check_failed", app=app, reason=type(error).__name__)
            about_one = isinstance(error, Permanent) or getattr(error, "code", "") == MALFORMED
            if not about_one:
                self._unanswered.put(app, "", True)
            return "unverified"
        return self._answered.put(app, user, reachability, seconds=seconds)


class _Lookup:
    """Asks DingTalk about people."""

    def __init__(
        self,
        calls: Calls,
        contacts: Contacts,
        now: RedisTime,
        ranges: VisibleRanges,
        parents: _Kept[int],
        *,
        saves: bool,
    ) -> None:
        self._calls = calls
        self._contacts = contacts
        self._now = now
        self._ranges = ranges
        self._parents = parents
        self._saves = saves

    async def reachability(
        self, user: str, visible: VisibleRange | None
    ) -> tuple[Reachability, float]:
        """Whether a message reaches a user, and for how many seconds that answer counts."""
        member = None
        try:
            member = await self._contacts.user(user)
            if member is None:
                return "unknown_user", ANSWERED_FOR
        except OutOfScope:
            pass  # says nothing about whether they exist
        if _sees(user, visible):
            return "reachable", KNOWN_FOR
        fresh, seconds = await self._ranges.fresh(self._calls, self._now, saves=self._saves)
        if fresh is None:
            return "unverified", ANSWERED_FOR
        if _sees(user, fresh) or await self._is_below(member, fresh):
            return "reachable", KNOWN_FOR
        return "out_of_scope", seconds

    async def _is_below(self, member: Member | None, visible: VisibleRange) -> bool:
        """Whether a person is in a department of the range, or might be."""
        places = None if member is None else member.fields.get("dept_id_list")
        if member is not None and not isinstance(places, list):
            return True  # the app may not read where they are
        ways = [await self._leads_to(place, visible) for place in places or ()]
        if True in ways:
            return True
        # DingTalk may leave out places that the app may not read: that is undocumented. But people
        # in a department that the app may read can be read by it, and so can the departments above
        # them up to there. Of the others nothing is known.
        return not await self._all_readable(visible)

    async def _leads_to(self, place: int, visible: VisibleRange) -> bool | None:
        """Whether the way up from a department meets one of the range; None: it can't be read so far."""
        for _ in range(DEEPEST):
            if place in visible.departments:
                return True
            if place == ROOT_DEPARTMENT:
                return False
            above = await self._above(place)
            if above is None:
                return None
            if above == 0:
                return True  # it has a department above it that is not in the answer
            place = above
        return None

    async def _all_readable(self, visible: VisibleRange) -> bool:
        if len(visible.departments) > MOST_LOOKED_AT:
            return False
        for department in visible.departments:
            if await self._above(department) is None:
                return False
        return True

    async def _above(self, department: int) -> int | None:
        """The department above one, 0 above the first; None if the app may not read it."""
        cached_parent = self._parents.get(self._calls.app, str(department))
        if cached_parent is not None:
            return cached_parent
        try:
            answer = await self._contacts.department(department)
        except OutOfScope:
            return None
        if answer is None:
            return None
        parent = answer.fields.get("parent_id")
        above = parent if isinstance(parent, int) else 0
        return self._parents.put(self._calls.app, str(department), above)


def _sees(user: str, visible: VisibleRange | None) -> bool:
    """Whether a person sees the app, or might: DingTalk has no API for that."""
    if visible is None or not visible.is_known:
        return True
    return visible.everybody or user in visible.users


def _verdict(app: str, users: Sequence[str], answers: dict[str, Reachability]) -> RecipientVerdict:
    def those(*what: Reachability) -> list[str]:
        return [user for user in users if answers.get(user, "reachable") in what]

    verdict = RecipientVerdict(
        those("reachable", "unverified"),
        those("unknown_user"),
        those("out_of_scope"),
        those("unverified"),
    )
    for reason in REASONS_LEFT_OUT:
        left_out: list[str] = getattr(verdict, reason)
        if left_out:
            RECIPIENTS_LEFT_OUT.labels(app, reason).inc(len(left_out))
    return verdict
