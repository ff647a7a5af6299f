"""Work notifications, as the body of one job sees them, with the day's silent limits."""

from collections.abc import Mapping, Sequence
from typing import Any

from dingrelay_producers.store import keys
from dingrelay_tasks.context import DailyVerdict, DeliveryReport, RecipientVerdict, SentCall
from dingrelay_tasks.organisation import Contacts
from dingrelay_tasks.outcomes import Wait
from dingrelay_workers.calls.job_calls import JobCalls
from dingrelay_workers.dingtalk.apis import MESSAGE_SEND
from dingrelay_workers.dingtalk.app_scope import ROOT_DEPARTMENT
from dingrelay_workers.dingtalk.errors import Throttled
from dingrelay_workers.dingtalk.messages import WorkNotifications
from dingrelay_workers.limiter.slot import Parked
from dingrelay_workers.resources import Resources
from dingrelay_workers.store.claim import Claim

LOOK_UPS = "look-ups"
"""The step that keeps the look-ups of a run that had to wait: else each run would repeat them."""
LOOK_UPS_KEPT_MS = 600_000
"""How long they count."""
MOST_RECIPIENTS = 5000
"""People that one call can reach, and that a minute may hold (API §2.1)."""


class JobMessages:
    """`dingrelay_tasks.context.Messages` for one job."""

    def __init__(
        self, claim: Claim, calls: JobCalls, resources: Resources, contacts: Contacts
    ) -> None:
        self._app = claim.app
        self._steps = claim.steps
        self._run = claim.ownership
        self._intents = calls.intents
        self._redis = resources.redis
        self._calls = calls
        self._time = claim.time
        self._contacts = contacts
        self._recipient_checks = resources.recipient_checks
        self._daily_limits = resources.daily_limits
        self._notifications = WorkNotifications(calls)
        self._limiter = resources.limiter

    @property
    def users_per_call(self) -> int:
        """How many users a call may have."""
        return self._limiter.recipients_per_call(self._app, MESSAGE_SEND.name)

    async def reachable(self, users: Sequence[str]) -> RecipientVerdict:
        """Which of these users can be reached at all, as far as that is surely known."""
        kept = self._steps.get(LOOK_UPS, {"until": 0})
        answers = kept["answers"] if self._time.now() < kept["until"] else {}
        try:
            return await self._recipient_checks.check(
                self._calls, self._contacts, self._time, users, answers
            )
        except (Parked, Throttled, Wait):
            until = self._time.now() + LOOK_UPS_KEPT_MS
            self._intents.finish(LOOK_UPS, {"until": until, "answers": answers})
            raise

    async def reserve(
        self, users: Sequence[str], message: Mapping[str, Any], *, step: str, anyway: bool
    ) -> DailyVerdict:
        """Reserve today's limits for these users."""
        verdict, self._intents.leaves_until = await self._daily_limits.reserve(
            self._app,
            self._run,
            users,
            message,
            step=step,
            anyway=anyway,
            ahead=self._intents.ahead,
        )
        self._intents.reserved = len(users)
        return verdict

    async def reserve_departments(
        self, departments: Sequence[int], message: Mapping[str, Any], *, step: str, anyway: bool
    ) -> list[int]:
        """Reserve the message of today for these departments; those that have not got it yet."""
        left, self._intents.leaves_until = await self._daily_limits.reserve_departments(
            self._app,
            self._run,
            departments,
            message,
            step=step,
            anyway=anyway,
            ahead=self._intents.ahead,
        )
        return left

    async def reserve_everyone(
        self, message: Mapping[str, Any], *, step: str, anyway: bool
    ) -> bool:
        """Reserve one of the day's sends to everyone; False: everyone has the message."""
        admitted, self._intents.leaves_until = await self._daily_limits.reserve_everyone(
            self._app, self._run, message, step=step, anyway=anyway, ahead=self._intents.ahead
        )
        return admitted

    async def send(
        self,
        message: Mapping[str, Any],
        *,
        users: Sequence[str] = (),
        departments: Sequence[int] = (),
        everyone: bool = False,
    ) -> SentCall:
        """One call: at most 100 users, or at most 20 departments, or everyone."""
        whole = [ROOT_DEPARTMENT] if everyone else departments
        people = len(users) + sum([await self._size(department) for department in whole])
        return await self._notifications.send(
            message,
            users=users,
            departments=departments,
            everyone=everyone,
            recipients=min(max(people, 1), MOST_RECIPIENTS),
        )

    async def _size(self, department: int) -> int:
        """How many people a department and all below hold: what a call to it costs.

        DingTalk's own count, read once an hour; the limit of a call where it gives none.
        """
        key = keys.member_count(self._app)
        known = await self._redis.hget(key, str(department))
        if known is not None:
            return int(known)
        found = await self._contacts.department(department)
        count = found.fields.get("member_count") if found else 0
        size = count if isinstance(count, int) else MOST_RECIPIENTS
        if await self._redis.hlen(key) < keys.MEMBER_COUNTS:
            await self._redis.hset(key, str(department), str(size))
            # From the first one on: no count is used for longer.
            await self._redis.pexpire(key, keys.MEMBER_COUNT_TTL_MS, nx=True)
        return size

    async def delivery(self, task_id: int) -> DeliveryReport:
        """The delivery of an accepted call."""
        return await self._notifications.delivery(task_id)

    async def withdraw_message(self, task_id: int) -> bool:
        """Take back what a call brought; whether DingTalk did."""
        return await self._notifications.withdraw_message(task_id)
