"""A `Context` in memory: DingTalk with its silent limits, and a record that outlives a run."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from dingrelay_tasks import beijing
from dingrelay_tasks.approval_create import ApprovalCreate
from dingrelay_tasks.context import (
    DailyVerdict,
    DeliveryReport,
    Intent,
    MessageCall,
    RecipientVerdict,
)
from dingrelay_tasks.contract import Json
from dingrelay_tasks.outcomes import CallForgotten

START = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)


class AnswerLost(Exception):
    """The call left; no answer came."""


class Crash(Exception):
    """The call failed for certain."""


@dataclass
class Sent:
    message: Json
    users: list[str]
    departments: list[int]
    everyone: bool


EVERYONE = "@everyone"


@dataclass
class FakeMessages:
    """Admits what DingTalk would deliver. `taken`: (user, content) → job."""

    ctx: "FakeContext"
    sent: list[Sent] = field(default_factory=list)
    taken: dict[tuple[str, str], str] = field(default_factory=dict)
    capped: set[str] = field(default_factory=set)
    deliveries: dict[int, list[DeliveryReport]] = field(default_factory=dict)
    verdicts: int = 0
    recalled: list[int] = field(default_factory=list)
    unrecallable: set[int] = field(default_factory=set)
    lose: int = 0
    """The number of the call, from 1, whose answer is lost."""
    fail: int = 0
    """The number of the call, from 1, that fails for certain."""
    calls: int = 0
    users_per_call: int = 100
    unknown: set[str] = field(default_factory=set)
    outside: set[str] = field(default_factory=set)
    unverified: set[str] = field(default_factory=set)

    async def reachable(self, users: Sequence[str]) -> RecipientVerdict:
        return RecipientVerdict(
            [user for user in users if user not in self.unknown | self.outside],
            [user for user in users if user in self.unknown],
            [user for user in users if user in self.outside],
            [user for user in users if user in self.unverified],
        )

    async def reserve(
        self, call: MessageCall, message: Mapping[str, Any], *, anyway: bool
    ) -> DailyVerdict:
        content = json.dumps(message)
        if call.users:
            return self._reserve_users(call, content, anyway=anyway)
        left = [
            each for each in call.departments if anyway or (str(each), content) not in self.taken
        ]
        key = (EVERYONE, content)
        everyone = call.everyone and (
            anyway or self.taken.setdefault(key, self.ctx.job_id) == self.ctx.job_id
        )
        return DailyVerdict([], departments=left, everyone=everyone)

    def _reserve_users(self, call: MessageCall, content: str, *, anyway: bool) -> DailyVerdict:
        self.verdicts += 1
        verdict = DailyVerdict([])
        for user in call.users:
            key = (user, content)
            if anyway:
                verdict.users.append(user)
            elif self.taken.get(key, self.ctx.job_id) != self.ctx.job_id:
                verdict.duplicate.append(user)
            elif user in self.capped:
                verdict.daily_cap.append(user)
            else:
                self.taken[key] = self.ctx.job_id
                verdict.users.append(user)
        return verdict

    async def send(self, call: MessageCall, message: Mapping[str, Any]) -> tuple[int, str]:
        self.calls += 1
        if self.calls == self.fail:
            raise Crash
        self.ctx.leaves()
        self.sent.append(
            Sent(dict(message), list(call.users), list(call.departments), call.everyone)
        )
        if self.calls == self.lose:
            raise AnswerLost
        self.ctx.intent = None
        return 1000 + self.calls, f"r{self.calls}"

    async def delivery(self, task_id: int) -> DeliveryReport:
        if task_id not in self.deliveries:
            raise CallForgotten
        reports = self.deliveries[task_id]
        return reports.pop(0) if len(reports) > 1 else reports[0]

    async def withdraw_message(self, task_id: int) -> bool:
        self.calls += 1
        if task_id in self.unrecallable:
            return False
        self.ctx.leaves()
        self.recalled.append(task_id)
        if self.calls == self.lose:
            raise AnswerLost
        self.ctx.intent = None
        return True


@dataclass
class FakeApprovals:
    ctx: "FakeContext"
    made: list[tuple[str, datetime, list[tuple[str, str]]]] = field(default_factory=list)
    created_with: ApprovalCreate | None = None
    lookups: int = 0
    lose: bool = False
    lookup_error: Exception | None = None
    hidden_until: datetime = START
    unsettled: timedelta = timedelta()
    checks: int = 0

    async def check(self, process_code: str, form: Sequence[tuple[str, str]]) -> None:
        self.checks += 1

    async def create(self, job: ApprovalCreate) -> str:
        self.ctx.leaves()
        self.created_with = job
        instance_id = f"i{len(self.made) + 1}"
        self.made.append((instance_id, self.ctx.clock, job.form_values))
        if self.lose:
            raise AnswerLost
        self.ctx.intent = None
        return instance_id

    async def find(
        self, job: ApprovalCreate, *, since: datetime
    ) -> tuple[str | None, list[Json], timedelta]:
        self.lookups += 1
        if self.lookup_error:
            raise self.lookup_error
        for instance_id, at, values in self.made:
            visible = self.ctx.clock >= self.hidden_until
            if visible and at >= since and sorted(values) == sorted(job.form_values):
                return instance_id, [], timedelta()
        return None, [], self.unsettled


@dataclass
class FakeApprovalStates:
    followed: list[str] = field(default_factory=list)

    async def follow(self, instance: str, *, at: datetime) -> None:
        self.followed.append(instance)


@dataclass
class FakeCampaigns:
    wanted: bool = True

    async def wants(self, campaign: str, number: int, job: str) -> bool:
        return self.wanted


class FakeContext:
    """One job's machinery. Run a body twice with the same object to see what a rerun does."""

    def __init__(self, job_id: str = "job-1") -> None:
        self.job_id = job_id
        self.intent: Intent | None = None
        self.clock = START
        self.ahead = timedelta()
        self.settle_delay = timedelta(seconds=10)
        self.remembered: dict[str, Json] = {}
        self.messages = FakeMessages(self)
        self.approvals = FakeApprovals(self)
        self.approval_states = FakeApprovalStates()
        self.contacts: Any = None
        self.directory: Any = None
        self.campaigns: Any = FakeCampaigns()
        self.pushes = 0
        self._step = ""

    def count_push(self) -> None:
        self.pushes += 1

    def confirm_not_executed(self) -> None:
        self.intent = None

    def now(self) -> datetime:
        return self.clock

    async def day(self, moment: datetime) -> str:
        return beijing.day(moment + self.ahead)

    def leaves(self) -> None:
        since = self.intent.since if self.intent else self.clock
        self.intent = Intent(self._step, self.clock, since)

    async def once(
        self, step: str, act: Callable[[], Awaitable[Json]], *, again: bool = False
    ) -> Json:
        if again or step not in self.remembered:
            self._step = step
            # What is remembered travels as JSON.
            self.remembered[step] = json.loads(json.dumps(await act()))
        return self.remembered[step]

    def note_step(self, step: str, result: Json) -> None:
        self.remembered[step] = json.loads(json.dumps(result))

    async def step_result(self, step: str) -> Json | None:
        return self.remembered.get(step)

    async def spawn(self, children: Sequence[Any], *, keys: Sequence[str]) -> None:
        raise AssertionError("neither a message nor an approval has child jobs")

    async def wake(self, job_id: str) -> None:
        raise AssertionError("neither a message nor an approval wakes another job")
