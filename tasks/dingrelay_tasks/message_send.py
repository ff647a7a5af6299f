"""message-send: a work notification to people, departments or everyone (API §2)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from dingrelay_tasks import beijing
from dingrelay_tasks.context import Context, DailyVerdict, DeliveryReport, Json
from dingrelay_tasks.contract import Deliverable, DepartmentId, Part, UserId
from dingrelay_tasks.message import STATUS_BAR_USERS, Message, OaMessage, payload
from dingrelay_tasks.outcomes import Duplicate, Unknown, Wait

STEP = "call:"
"""What the steps that call begin with."""
SIZE = "users_per_call"
"""The step that remembers how many users a call has, where the limits allow fewer than usual."""
USERS_PER_CALL = 100
DEPARTMENTS_PER_CALL = 20

CONFIRM_FIRST = timedelta(seconds=2)
CONFIRM_LATER = timedelta(seconds=30)
"""Shortest and longest time between two questions about a call's delivery."""
CONFIRM_WITHIN = timedelta(minutes=10)
"""After this, a delivery that is not finished counts as it stands: each question is a call."""


class Recipients(Part):
    """The people a message goes to: users and departments, or everyone."""

    users: list[UserId] = Field(default_factory=list)
    departments: list[DepartmentId] = Field(default_factory=list)
    everyone: bool = False

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if self.everyone and (self.users or self.departments):
            raise ValueError("everyone: leaves no room for users or departments")
        if not (self.everyone or self.users or self.departments):
            raise ValueError("name at least one user or department, or everyone")
        return self

    @cached_property
    def each(self) -> list[str]:
        """The users, each once, in the order they were named."""
        return list(dict.fromkeys(self.users))


class MessageSend(Deliverable):
    """Send a work notification.

    Attributes:
        to: any number of recipients; they are split into calls of the size that DingTalk takes.
        message: DingTalk's own ``msg`` object.
        allow_duplicate: send to users, too, that DingTalk would silently drop: same
            content on the same day, 500 messages a day (API §2.1).
        confirm: ask DingTalk what became of the delivery before the job is done. Each question is
            a call that counts against the organisation's month.
        on_unknown: a call left and no answer came: ``repeat`` it, which DingTalk drops for users
            who have it, or ``stop`` with the job `unknown`. Requeueing that repeats it.
    """

    kind: ClassVar[str] = "message-send"

    to: Recipients
    message: Message
    allow_duplicate: bool = False
    confirm: bool = False
    on_unknown: Literal["repeat", "stop"] = "repeat"

    @model_validator(mode="after")
    def _status_bar_is_for_a_few_users(self) -> Self:
        if _has_status_bar(self.message):
            others = self.to.everyone or self.to.departments
            if others or len(self.users) > STATUS_BAR_USERS:
                raise ValueError(f"message.oa.status_bar: is for at most {STATUS_BAR_USERS} users")
        return self

    @property
    def users(self) -> list[str]:
        """The users, each once, in the order they were named."""
        return self.to.each

    @property
    def recipients(self) -> int:
        """How many users are named."""
        return len(self.users)

    @property
    def batch_digest(self) -> str | None:
        """The digest of the message, where one call of the usual kind carries this job to its end.

        What one call can't carry for all of its jobs alike goes alone: more users than a call
        takes, departments, a status bar, a question about the delivery, a repeat to be avoided.
        """
        named = self.users and not self.to.departments and len(self.users) <= USERS_PER_CALL
        usual = not (self.allow_duplicate or self.confirm) and self.on_unknown == "repeat"
        if not (named and usual) or _has_status_bar(self.message):
            return None
        return self.message.digest

    def readdressed(self, users: Sequence[str]) -> "MessageSend":
        """This message to these users instead."""
        return self.model_copy(update={"to": Recipients(users=list(users))})

    def summary(self) -> str:
        """One short line for Flower and logs, free of the message's text."""
        return f"{super().summary()} {self.message.msgtype} to {self._addressees()}"

    def _addressees(self) -> str:
        if self.to.everyone:
            return "everyone"
        named = ((self.recipients, "user"), (len(self.to.departments), "department"))
        return ", ".join(f"{count} {noun}{'s' * (count > 1)}" for count, noun in named if count)


def _has_status_bar(message: Message) -> bool:
    return isinstance(message, OaMessage) and message.oa.status_bar is not None


class SentMessage(Part):
    """One call that DingTalk took. `recipients` is 0 for departments and everyone: not known."""

    task_id: int
    request_id: str
    recipients: Annotated[int, Field(ge=0)]


class MessageSendResult(Part):
    """What became of a message.

    Attributes:
        calls: the calls that DingTalk took.
        accepted: users that the calls named.
        duplicate: users left out: they have this content already today.
        daily_cap: users left out: they have had the day's messages.
        duplicate_departments: departments left out: this content was sent to them today.
        perhaps_duplicate: of the accepted, users who may have had this content already, through a
            department that it was sent to today. DingTalk drops the copy of whoever has it.
        invalid: users that DingTalk does not know; told by `confirm` only.
        forbidden: users that DingTalk did not deliver to, as ``{"userid", "code", "count"}`` with
            the code of API §2.3; told by `confirm` only.
    """

    calls: list[SentMessage] = Field(default_factory=list[SentMessage])
    accepted: int = 0
    duplicate: list[str] = Field(default_factory=list)
    daily_cap: list[str] = Field(default_factory=list)
    duplicate_departments: list[int] = Field(default_factory=list[int])
    perhaps_duplicate: list[str] = Field(default_factory=list)
    invalid: list[str] = Field(default_factory=list)
    forbidden: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])


@dataclass(frozen=True, slots=True)
class Call:
    """One call to make. Its step names it in what the job remembers."""

    step: str
    users: Sequence[str] = ()
    departments: Sequence[int] = ()
    everyone: bool = False


@dataclass(slots=True)
class Outcome:
    """What is remembered of one call.

    Attributes:
        task_id: None if nobody was left to call for.
        at: when DingTalk took it, ISO 8601.
    """

    task_id: int | None = None
    request_id: str = ""
    recipients: int = 0
    at: str = ""
    duplicate: list[str] = field(default_factory=list[str])
    daily_cap: list[str] = field(default_factory=list[str])
    perhaps_duplicate: list[str] = field(default_factory=list[str])
    duplicate_departments: list[int] = field(default_factory=list[int])

    def as_json(self) -> Json:
        """This outcome as `Context.once` remembers it."""
        return {name: getattr(self, name) for name in self.__slots__}


async def run(job: MessageSend, ctx: Context) -> Json:
    """Send the message in as many calls as it takes; a rerun repeats none that was answered.

    Returns:
        A `MessageSendResult` as JSON values.

    Raises:
        Duplicate: nobody is left to send to.
        Unknown: a call of an earlier attempt left without an answer, and `on_unknown` is ``stop``,
            or it was on another Beijing day.
        Wait: an equal message may just be leaving, or DingTalk has not finished the delivery that
            `confirm` asks about.
        Refused: the day's sends to everyone are used up.
    """
    # Whoever requeued it accepts that the message may arrive twice.
    intent = None if ctx.intent and ctx.intent.requeued else ctx.intent
    if intent is not None and job.on_unknown == "stop":
        raise Unknown("a call left and its answer did not come; it may have been delivered")
    if intent is not None and beijing.day(intent.since) != beijing.day(ctx.now()):
        raise Unknown("a call's answer was lost, and a repeat on another day could arrive twice")
    outcomes = [
        Outcome(**await ctx.once(call.step, partial(_send, job, ctx, call)))
        for call in _calls(job, await _users_per_call(ctx))
    ]
    result = _result(outcomes)
    if not result.calls:
        raise Duplicate(result.model_dump(mode="json"))
    if job.confirm:
        result = await _confirmed(result, outcomes, ctx)
    return result.model_dump(mode="json")


def so_far(steps: Mapping[str, Json]) -> Json | None:
    """The result of the calls that were answered, of a job that ended otherwise; None without any.

    Args:
        steps: what the job remembers.
    """
    outcomes = [Outcome(**outcome) for step, outcome in steps.items() if step.startswith(STEP)]
    return _result(outcomes).model_dump(mode="json") if outcomes else None


async def _users_per_call(ctx: Context) -> int:
    """How many users a call has, the same at each attempt although the limits may change."""
    most = ctx.messages.users_per_call
    known = await ctx.step_result(SIZE)
    if known is None and (most >= USERS_PER_CALL or await ctx.step_result(f"{STEP}1") is not None):
        return USERS_PER_CALL

    async def size() -> Json:
        return {"users": most}

    users: int = (await ctx.once(SIZE, size))["users"]
    return users


def _calls(job: MessageSend, users_per_call: int) -> Iterator[Call]:
    """The calls of a job, in an order that is the same at each attempt."""
    number = 0
    for start in range(0, len(users := job.users), users_per_call):
        number += 1
        yield Call(f"{STEP}{number}", users=users[start : start + users_per_call])
    departments = list(dict.fromkeys(job.to.departments))
    for start in range(0, len(departments), DEPARTMENTS_PER_CALL):
        number += 1
        part = departments[start : start + DEPARTMENTS_PER_CALL]
        yield Call(f"{STEP}{number}", departments=part)
    if job.to.everyone:
        yield Call(f"{STEP}{number + 1}", everyone=True)


async def _send(job: MessageSend, ctx: Context, call: Call) -> Json:
    """Make one call for those who would get the message."""
    message = payload(job.message)
    step, anyway = call.step, job.allow_duplicate
    users, departments, everyone = DailyVerdict([]), list[int](), False
    if call.users:
        users = await ctx.messages.reserve(call.users, message, step=step, anyway=anyway)
    elif call.departments:
        departments = await ctx.messages.reserve_departments(
            call.departments, message, step=step, anyway=anyway
        )
    else:
        everyone = await ctx.messages.reserve_everyone(message, step=step, anyway=anyway)
    outcome = Outcome(
        duplicate=users.duplicate,
        daily_cap=users.daily_cap,
        perhaps_duplicate=users.perhaps,
        duplicate_departments=[each for each in call.departments if each not in departments],
    )
    if users.users or departments or everyone:
        sent = await ctx.messages.send(
            message, users=users.users, departments=departments, everyone=everyone
        )
        outcome.task_id, outcome.request_id = sent.task_id, sent.request_id
        outcome.recipients = len(users.users)
        outcome.at = ctx.now().isoformat()
    return outcome.as_json()


def _result(outcomes: Sequence[Outcome]) -> MessageSendResult:
    return MessageSendResult(
        calls=[
            SentMessage(
                task_id=outcome.task_id,
                request_id=outcome.request_id,
                recipients=outcome.recipients,
            )
            for outcome in outcomes
            if outcome.task_id is not None
        ],
        accepted=sum(outcome.recipients for outcome in outcomes),
        duplicate=[user for outcome in outcomes for user in outcome.duplicate],
        daily_cap=[user for outcome in outcomes for user in outcome.daily_cap],
        duplicate_departments=[each for out in outcomes for each in out.duplicate_departments],
        perhaps_duplicate=[user for outcome in outcomes for user in outcome.perhaps_duplicate],
    )


async def _confirmed(
    result: MessageSendResult, outcomes: Sequence[Outcome], ctx: Context
) -> MessageSendResult:
    """The result with what DingTalk tells of the delivery of the calls that named users."""
    invalid: list[str] = []
    forbidden: list[Json] = []
    for outcome in outcomes:
        if outcome.task_id is not None and outcome.recipients:
            told = await ctx.once(
                f"delivery:{outcome.task_id}",
                partial(_delivery, ctx, outcome.task_id, datetime.fromisoformat(outcome.at)),
            )
            invalid += told["invalid"]
            forbidden += told["forbidden"]
    return result.model_copy(update={"invalid": invalid, "forbidden": forbidden})


async def _delivery(ctx: Context, task_id: int, since: datetime) -> Json:
    """What became of one call, or `Wait`: the older the call, the longer."""
    delivery: DeliveryReport = await ctx.messages.delivery(task_id)
    age = ctx.now() - since
    if not delivery.finished and age < CONFIRM_WITHIN:
        raise Wait(min(max(age, CONFIRM_FIRST), CONFIRM_LATER), "DingTalk still delivers")
    return {"invalid": delivery.invalid, "forbidden": delivery.forbidden}
