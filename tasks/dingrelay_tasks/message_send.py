"""message-send: a work notification to people, departments or everyone (API §2)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from dingrelay_tasks.addresses import CHINA, PARSERS, AddressKind, Email, JobNumber, Mobile, Reason
from dingrelay_tasks.contract import ContractError, Deliverable, DepartmentId, Json, Part, UserId
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.message import STATUS_BAR_USERS, Message, OaMessage, payload
from dingrelay_tasks.message_result import (
    DELIVERY,
    LEFT_OUT,
    STEP,
    MessageSendResult,
    deliveries,
    deliveries_in,
    is_finished,
    refuse_unreachable,
    result_of,
    unreached,
    with_deliveries,
    with_delivery,
)
from dingrelay_tasks.outcomes import Duplicate, OutOfScope, Refused, Unknown
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_tasks.context import Context, MessageCall, RecipientVerdict

ADDRESSES = "addresses"
"""The step that remembers the users behind the addresses."""
SIZE = "users_per_call"
"""The step that remembers how many users a call has, where the limits allow fewer than usual."""
USERS_PER_CALL = 100
DEPARTMENTS_PER_CALL = 20


class Recipients(Part):
    """The people a message goes to: users and departments, or everyone.

    Attributes:
        users: by their userids.
        mobiles: people by their mobile numbers, such as ``13800000000`` or ``+852-51234567``.
        emails: people by their e-mail addresses.
        job_numbers: people by their job numbers.
        departments: all in and below them.
        everyone: all of the organisation.
    """

    users: list[UserId] = Field(default_factory=list)
    mobiles: list[Mobile] = Field(default_factory=list)
    emails: list[Email] = Field(default_factory=list)
    job_numbers: list[JobNumber] = Field(default_factory=list)
    departments: list[DepartmentId] = Field(default_factory=list)
    everyone: bool = False

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        people = self.users or self.addresses
        if self.everyone and (people or self.departments):
            raise ContractError("everyone", "leaves no room for users or departments")
        if not (self.everyone or people or self.departments):
            raise ValueError("name at least one user or department, or everyone")
        return self

    @cached_property
    def addresses(self) -> dict[AddressKind, list[str]]:
        """The addresses of each kind, each once; no kind without any."""
        by_kind: Sequence[tuple[AddressKind, list[str]]] = (
            ("mobile", self.mobiles),
            ("email", self.emails),
            ("job_number", self.job_numbers),
        )
        return {kind: list(dict.fromkeys(values)) for kind, values in by_kind if values}

    @cached_property
    def each(self) -> list[str]:
        """The users, each once, in the order they were named."""
        return list(dict.fromkeys(self.users))

    @cached_property
    def count(self) -> int:
        """How many people are named, at most: two addresses may be one person's."""
        return len(self.each) + sum(map(len, self.addresses.values()))


class MessageSend(Deliverable):
    """Send a work notification.

    Attributes:
        to: any number of recipients; they are split into calls of the size that DingTalk takes.
        message: DingTalk's own ``msg`` object.
        allow_duplicate: send to users, too, that DingTalk would silently drop: same
            content on the same day, 500 messages a day (API §2.1).
        confirm: ask DingTalk what became of the delivery before the job is done, which it is if
            at least one user was reached. Each query is a call that counts against the organisation's
            monthly quota.
        on_unknown: a call left and no answer came: ``repeat`` it, which DingTalk drops for users
            who have it, or ``stop`` with the job `unknown`. Requeueing that repeats it.
    """

    to: Recipients
    message: Message
    allow_duplicate: bool = False
    confirm: bool = False
    on_unknown: Literal["repeat", "stop"] = "repeat"

    @model_validator(mode="after")
    def _status_bar_is_for_a_few_users(self) -> Self:
        if _has_status_bar(self.message):
            beyond_users = self.to.everyone or self.to.departments
            if beyond_users or self.recipients > STATUS_BAR_USERS:
                problem = en("is for at most {} users", STATUS_BAR_USERS)
                raise ContractError("message.oa.status_bar", problem)
        return self

    @property
    def users(self) -> list[str]:
        """The users, each once, in the order they were named."""
        return self.to.each

    @property
    def recipients(self) -> int:
        """How many people are named, at most: two addresses may be one person's."""
        return self.to.count

    @property
    def batch_digest(self) -> str | None:
        """The digest of the message, where one call of the usual kind carries this job to its end.

        What one call can't carry for all of its jobs alike goes alone: more users than a call
        takes, departments, a status bar, a question about the delivery, a repeat to be avoided.
        """
        fits_one_call = (
            self.recipients and not self.to.departments and self.recipients <= USERS_PER_CALL
        )
        usual = not (self.allow_duplicate or self.confirm) and self.on_unknown == "repeat"
        if not (fits_one_call and usual) or _has_status_bar(self.message):
            return None
        return self.message.digest

    def readdressed(self, users: Sequence[str]) -> "MessageSend":
        """This message to these users instead."""
        return self.model_copy(update={"to": Recipients(users=list(users))})

    def summary(self) -> str:
        """One short line for Flower and logs, free of the message's text."""
        return f"{super().summary()} {self.message.msgtype} {self._addressees()}"

    def _addressees(self) -> str:
        if self.to.everyone:
            return "everyone"
        counts = {"users": self.recipients, "departments": len(self.to.departments)}
        return " ".join(f"{noun}={count}" for noun, count in counts.items() if count)


def _has_status_bar(message: Message) -> bool:
    return isinstance(message, OaMessage) and message.oa.status_bar is not None


def so_far(steps: Mapping[str, Json]) -> Json | None:
    """The result of the calls that were answered, of a job that ended otherwise; None without any.

    Args:
        steps: what the job remembers.
    """
    outcomes = [outcome for step, outcome in steps.items() if step.startswith(STEP)]
    addresses = steps.get(ADDRESSES)
    if not outcomes and addresses is None:
        return None
    result = result_of(outcomes, addresses["unresolved"] if addresses else ())
    return with_deliveries(result, deliveries_in(steps)).model_dump(mode="json")


def _users_by_step(job: Json, steps: Mapping[str, Json]) -> dict[str, list[str]]:
    """The users of each call that names some, by its step."""
    listed = job["to"].get("users") or ()  # a bare Celery client may write null for its default
    users = list(dict.fromkeys([*listed, *steps.get(ADDRESSES, {"users": []})["users"]]))
    size = steps.get(SIZE, {"users": USERS_PER_CALL})["users"]
    starts = range(0, len(users), size)
    return {
        f"{STEP}{number}": users[start : start + size] for number, start in enumerate(starts, 1)
    }


def stated(job: Json, steps: Mapping[str, Json], step: str) -> tuple[Json, bool]:
    """The outcome of a call of which a person says that it was carried out, and whether others are left.

    Its people count as accepted; its id is unknown, so it can't be taken back.
    """
    by_step, to = _users_by_step(job, steps), job["to"]
    departments = len(dict.fromkeys(to.get("departments") or ()))
    calls = len(by_step) + math.ceil(departments / DEPARTMENTS_PER_CALL)
    calls += bool(to.get("everyone"))
    names = {f"{STEP}{number}" for number in range(1, calls + 1)}
    outcome = {"task_id": None, "stated": len(by_step.get(step, ()))}
    return outcome, not names <= {*steps, step}


def outcomes(job: Json, steps: Mapping[str, Json]) -> dict[str, str]:
    """Outcome of each user: ``accepted``, one of `LEFT_OUT`, ``invalid``, ``forbidden``, ``failed``.

    ``unverified`` are accepted users that may not exist; ``not_sent`` were in no call that was
    answered; ``unresolved`` are the addresses that name no user, as given. Departments and everyone
    list no users.

    Args:
        job: a `MessageSend` as JSON values.
        steps: what the job remembers.
    """
    addresses = steps.get(ADDRESSES, {"users": [], "unresolved": []})
    by_user: dict[str, str] = {}
    for step, users in _users_by_step(job, steps).items():
        outcome = steps.get(step)
        verdict = "not_sent" if outcome is None else "accepted"
        by_user |= dict.fromkeys(users, verdict)
        for reason in LEFT_OUT:
            by_user |= dict.fromkeys(outcome.get(reason, ()) if outcome else (), reason)
        if outcome and not is_finished(steps.get(f"{DELIVERY}{outcome['task_id']}")):
            by_user |= dict.fromkeys(outcome.get("unverified", ()), "unverified")
    for delivery in deliveries_in(steps):
        by_user |= dict.fromkeys(delivery["invalid"], "invalid")
        by_user |= {user["userid"]: "forbidden" for user in delivery["forbidden"]}
        by_user |= dict.fromkeys(delivery.get("failed", ()), "failed")
    for address in addresses["unresolved"]:
        by_user |= {address[kind]: "unresolved" for kind in PARSERS if kind in address}
    return by_user


@kind(
    "message-send",
    MessageSend,
    result=MessageSendResult,
    scope="messages:write",
    path="/v1/messages",
    operation="sendMessage",
    api="message.send",
    rules={"message.send": {"recipients": "5000/60s"}},
    outcomes=outcomes,
    so_far=so_far,
    resolved_by="sent",
    stated=stated,
)
async def run(job: MessageSend, ctx: "Context") -> Json:
    """Send the message in as many calls as it takes; a rerun repeats none that was answered.

    Returns:
        A `MessageSendResult` as JSON values.

    Raises:
        Duplicate: no recipient is left.
        Unknown: a call of an earlier attempt left without an answer, and `on_unknown` is ``stop``,
            or it was on another Beijing day.
        Wait: an equal message may just be leaving, or DingTalk has not finished the delivery that
            `confirm` asks about.
        Refused: the day's sends to everyone are used up, no address names a user, no user can be
            reached, or, with `confirm`, none was.
    """
    # A requeue accepts that the message may arrive twice.
    intent = None if ctx.intent and ctx.intent.requeued else ctx.intent
    if intent is not None and job.on_unknown == "stop":
        raise Unknown("a call left and its answer did not come; it may have been delivered")
    if intent is not None and await ctx.day(intent.since) != await ctx.day(ctx.now()):
        raise Unknown("a call's answer was lost, and a repeat on another day could arrive twice")
    addressees = await _resolved(job, ctx)
    users = list(dict.fromkeys([*job.users, *addressees["users"]]))
    calls = list(_calls(job, users, await _users_per_call(ctx)))
    again = job.confirm and await _reached_nobody(calls, ctx)
    outcomes = [await _outcome(job, ctx, call, again=again) for call in calls]
    result = result_of(outcomes, addressees["unresolved"])
    if not (result.calls or any("stated" in outcome for outcome in outcomes)):
        refuse_unreachable(result)
        raise Duplicate(result.model_dump(mode="json"))
    if job.confirm:
        result = with_delivery(result, await deliveries(outcomes, ctx))
    return result.model_dump(mode="json")


async def _resolved(job: MessageSend, ctx: "Context") -> Json:
    """The userids behind the job's addresses, and the addresses that name no user.

    The result is remembered: a rerun sends to the same people.

    Raises:
        Refused: no recipient is left.
    """
    if not job.to.addresses:
        return {"users": [], "unresolved": []}
    addressees = await ctx.once(ADDRESSES, partial(_resolve, job.to.addresses, ctx))
    if not (addressees["users"] or job.users or job.to.departments):
        raise Refused(
            "nobody_found",
            en("none of {} addresses belongs to one person", len(addressees["unresolved"])),
            "`unresolved` in the result gives each with its reason: correct them, or run a user-sync.",
        )
    return addressees


async def _users_per_call(ctx: "Context") -> int:
    """How many users a call has, the same at each attempt although the limits may change."""
    most = ctx.messages.users_per_call
    remembered = await ctx.step_result(SIZE)
    if remembered is None and (
        most >= USERS_PER_CALL or await ctx.step_result(f"{STEP}1") is not None
    ):
        return USERS_PER_CALL
    from dingrelay_tasks.context import remember

    return int((await remember(ctx, SIZE, {"users": most}))["users"])


def _calls(job: MessageSend, users: Sequence[str], users_per_call: int) -> "Iterator[MessageCall]":
    """The calls of a job, in an order that is the same at each attempt."""
    from dingrelay_tasks.context import MessageCall

    number = 0
    for start in range(0, len(users), users_per_call):
        number += 1
        yield MessageCall(f"{STEP}{number}", users=users[start : start + users_per_call])
    departments = list(dict.fromkeys(job.to.departments))
    for start in range(0, len(departments), DEPARTMENTS_PER_CALL):
        number += 1
        part = departments[start : start + DEPARTMENTS_PER_CALL]
        yield MessageCall(f"{STEP}{number}", departments=part)
    if job.to.everyone:
        yield MessageCall(f"{STEP}{number + 1}", everyone=True)


async def _reached_nobody(calls: "Sequence[MessageCall]", ctx: "Context") -> bool:
    """Whether DingTalk reports that all calls before the requeue reached no user."""
    steps = {call.step: await ctx.step_result(call.step) for call in calls}
    outcomes = [outcome for outcome in steps.values() if outcome]
    reports = [
        await ctx.step_result(f"{DELIVERY}{outcome['task_id']}")
        for outcome in outcomes
        if outcome.get("recipients")
    ]
    result = result_of(outcomes, ())
    is_stated = any("stated" in outcome for outcome in outcomes)
    if len(outcomes) < len(calls) or not result.calls or None in reports or is_stated:
        return False
    return bool(
        unreached(with_deliveries(result, [report for report in reports if report]), reports)
    )


async def _outcome(job: MessageSend, ctx: "Context", call: "MessageCall", *, again: bool) -> Json:
    """Outcome of a call, made once; with `again` once more.

    A call that was not made because its people were unreachable is tried again: they may be reachable
    now, for instance after a requeue.
    """
    outcome = await ctx.step_result(call.step) or {}
    unreachable = outcome.get("unknown_user") or outcome.get("out_of_scope")
    # After a call that reached no user, the day's records still list all of them as having it.
    send = partial(_send, job, ctx, call, anyway=job.allow_duplicate or again)
    again = again or (bool(unreachable) and outcome.get("task_id") is None)
    return await ctx.once(call.step, send, again=again)


async def reachable(users: Sequence[str], ctx: "Context", *, repeats: bool) -> "RecipientVerdict":
    """The users that a call goes to. A repeat goes to all: the call whose answer was lost may have reached them."""
    reach = await ctx.messages.reachable(users)
    if not repeats:
        return reach
    from dingrelay_tasks.context import RecipientVerdict

    verified = {*reach.users} - {*reach.unverified}
    return RecipientVerdict(
        list(users), unverified=[user for user in users if user not in verified]
    )


async def _send(job: MessageSend, ctx: "Context", call: "MessageCall", *, anyway: bool) -> Json:
    """Make one call for those who would get the message."""
    from dingrelay_tasks.context import DailyVerdict, RecipientVerdict

    message = payload(job.message)
    reach = RecipientVerdict(list(call.users))
    if call.users:
        reach = await reachable(call.users, ctx, repeats=ctx.intent is not None)
    to = DailyVerdict([])
    if reach.users or not call.users:
        to = await ctx.messages.reserve(replace(call, users=reach.users), message, anyway=anyway)
    outcome: Json = {
        "duplicate": to.duplicate,
        "daily_cap": to.daily_cap,
        "unknown_user": reach.unknown_user,
        "out_of_scope": reach.out_of_scope,
        "perhaps_duplicate": to.perhaps,
        "unverified": [user for user in reach.unverified if user in to.users],
        "duplicate_departments": [
            department for department in call.departments if department not in to.departments
        ],
    }
    task_id = None
    if to.users or to.departments or to.everyone:
        outcome |= {"repeated": ctx.intent is not None, "recipients": len(to.users)}
        admitted = replace(call, users=to.users, departments=to.departments)
        task_id, outcome["request_id"] = await ctx.messages.send(admitted, message)
        outcome["at"] = ctx.now().isoformat()
    # A worker of 0.2.0 reads it while what it does not know is empty.
    return {"task_id": task_id, **{name: field for name, field in outcome.items() if field}}


async def _resolve(addresses: Mapping[AddressKind, Sequence[str]], ctx: "Context") -> Json:
    """Look up the users who have these addresses.

    No guesses: an address that several people have resolves to none of them.

    Args:
        addresses: of each kind, as `addresses` compares them.
        ctx: of the job that names them.

    Returns:
        ``users``, and ``unresolved`` as in `MessageSendResult`.
    """
    users: list[str] = []
    unresolved: list[Json] = []
    for by, values in addresses.items():
        userids = await ctx.directory.find(by, values)
        for value in values:
            if len(userids[value]) > 1:
                unresolved.append({by: value, "reason": "ambiguous", "users": userids[value]})
                continue
            userid, reason = (
                (userids[value][0], "")
                if userids[value]
                else await _ask_for_address(by, value, ctx)
            )
            if userid is None:
                unresolved.append({by: value, "reason": reason})
            else:
                users.append(userid)
    return {"users": users, "unresolved": unresolved}


async def _ask_for_address(
    kind: AddressKind, value: str, ctx: "Context"
) -> tuple[str | None, Reason]:
    """Look up an address at DingTalk that the directory does not know.

    DingTalk is queried for Chinese mobile numbers only; for others it has no API (API §3.1, §11.3).
    """
    country, _, number = value.partition("-")
    if kind != "mobile" or country != f"+{CHINA}":
        return None, "unknown"
    try:
        return await ctx.contacts.by_mobile(number), "unknown"
    except OutOfScope:
        return None, "hidden"
