"""The operations: what producers and operators ask for.

Each is drawn as a frozen value, so that a schedule can be printed, and carried out by `run`. What
it asked for is written down in `Asked` before it is asked.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol

from dingrelay_chaos.asked import (
    ApprovalAsked,
    CampaignAsked,
    Command,
    MessageAsked,
    SyncAsked,
)
from dingrelay_chaos.dingtalk import OPTIONS, TEMPLATE
from dingrelay_chaos.system import System
from dingrelay_producers.errors import DingrelayError, IdempotencyConflict, ServiceUnavailable
from dingrelay_tasks import ApprovalCreate, MessageSend, UserSync
from dingrelay_tasks.contract import Contract, ContractError

STAYING = tuple(f"u{number}" for number in range(1, 41))
"""People who are there all the time, where they are."""
MOVING = tuple(f"u{number}" for number in range(41, 61))
"""People whom changes of the organisation move, remove and bring back."""
PEOPLE = len(STAYING) + len(MOVING)
DEPARTMENTS = 8
LANES = ("urgent", "normal", "normal", "bulk")
CampaignVerb = Literal["pause", "resume", "cancel", "recall", "report", "start"]
CAMPAIGN_VERBS: tuple[CampaignVerb, ...] = (
    *("pause", "pause", "resume", "resume", "resume", "cancel", "recall", "report", "start"),
)
"""The same verb several times: it comes more often."""
JobVerb = Literal["cancel", "requeue", "discard", "resolve"]
SENDERS = ("", "crm", "hr")


class Operation(Protocol):
    """Something that is asked for."""

    def run(self, system: System, step: int) -> None:
        """Ask for it. What the system refuses in its own words is no failure."""
        ...


@dataclass(slots=True)
class Past:
    """What a schedule has asked for so far, for operations that are about it."""

    sends: dict[int, "Send"] = field(default_factory=dict[int, "Send"])
    approvals: dict[int, "Approve"] = field(default_factory=dict[int, "Approve"])
    campaigns: list[int] = field(default_factory=list[int])
    syncs: list[int] = field(default_factory=list[int])

    def jobs(self) -> list[int]:
        """The steps that asked for a job, in order."""
        return sorted([*self.sends, *self.approvals, *self.syncs])


@dataclass(frozen=True, slots=True)
class Send:
    """A message. Times are in seconds from when it is asked for."""

    tag: str
    users: tuple[str, ...] = ()
    departments: tuple[int, ...] = ()
    everyone: bool = False
    lane: str = "normal"
    sender: str = ""
    key: str | None = None
    send_in: float | None = None
    expires_in: float | None = None
    allow_duplicate: bool = False
    confirm: bool = False
    on_unknown: Literal["repeat", "stop"] = "repeat"
    bare: bool = False
    same_as: int | None = None

    def run(self, system: System, step: int) -> None:
        """Enqueue it, by our client or by a bare Celery one."""
        asked = self.asked(system, step)
        system.asked.messages.append(asked)
        if self.bare:
            asked.accepted = "yes" if _sent_bare(system, asked, self.document()) else "perhaps"
        else:
            _enqueue(system, MessageSend.parse(self.document()), asked)

    def asked(self, system: System, step: int) -> MessageAsked:
        """What the oracle is to know of it."""
        now = system.now()
        return MessageAsked(
            step,
            now,
            self.tag,
            self.users,
            self.departments,
            self.everyone,
            bare=self.bare,
            not_before=None if self.send_in is None else now + self.send_in,
            not_after=None if self.expires_in is None else now + self.expires_in,
            same_as=self.same_as,
        )

    def document(self) -> dict[str, Any]:
        """The job as JSON values."""
        job: dict[str, Any] = {
            "to": {
                "users": list(self.users),
                "departments": list(self.departments),
                "everyone": self.everyone,
            },
            "message": {"msgtype": "text", "text": {"content": self.tag}},
            "lane": self.lane,
            "idempotency_key": self.key,
            "send_at": _moment(self.send_in),
            "expires_at": _moment(self.expires_in),
            "allow_duplicate": self.allow_duplicate,
            "confirm": self.confirm,
            "on_unknown": self.on_unknown,
        }
        return job | ({"sender": self.sender} if self.sender else {})


@dataclass(frozen=True, slots=True)
class SendMany:
    """Messages to one person each, in one batch."""

    sends: tuple[Send, ...]

    def run(self, system: System, step: int) -> None:
        """Enqueue them; equal ones become one job."""
        asked = [each.asked(system, step) for each in self.sends]
        system.asked.messages.extend(asked)
        left = iter(asked)

        def accept(job: Any) -> None:
            each = next(left)
            each.job, each.accepted = job.id, "yes"

        with suppress(ServiceUnavailable):
            jobs = [MessageSend.parse(each.document()) for each in self.sends]
            system.client.send_many(jobs, on_sent=accept)


@dataclass(frozen=True, slots=True)
class Approve:
    """An approval. Those of one tag have equal forms."""

    tag: str
    originator: str
    process_code: str
    form: tuple[tuple[str, Any], ...]
    key: str | None = None

    def run(self, system: System, step: int) -> None:
        """Enqueue it."""
        asked = ApprovalAsked(step, system.now(), self.tag)
        system.asked.approvals.append(asked)
        job = {
            "process_code": self.process_code,
            "originator": self.originator,
            "form": {"事由": self.tag, **{name: _thawed(value) for name, value in self.form}},
            "idempotency_key": self.key,
        }
        _enqueue(system, ApprovalCreate.parse(job), asked)


@dataclass(frozen=True, slots=True)
class Sync:
    """A user-sync."""

    scope: Literal["everything", "department", "user"]
    target: str = ""

    def run(self, system: System, step: int) -> None:
        """Enqueue it."""
        asked = SyncAsked(step, system.now())
        system.asked.syncs.append(asked)
        job: dict[str, Any] = {"scope": self.scope, "confirm_removals": True}
        if self.scope != "everything":
            job[self.scope] = int(self.target) if self.scope == "department" else self.target
        _enqueue(system, UserSync.parse(job), asked)


@dataclass(frozen=True, slots=True)
class Organise:
    """A change of the organisation, at DingTalk."""

    user: str
    departments: tuple[int, ...]
    """Where the person is now; nowhere: they leave."""

    def run(self, system: System, step: int) -> None:
        """Change it."""
        if self.departments:
            name = f"{self.user} #{step}"
            system.sandbox.put_user(self.user, dept_id_list=list(self.departments), name=name)
        elif self.user in {person["userid"] for person in system.sandbox.organisation()["users"]}:
            system.asked.absent.add(self.user)
            system.sandbox.delete_user(self.user)


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A campaign, created and started."""

    tag: str
    users: tuple[str, ...]
    fields: bool
    rate: int | None

    def run(self, system: System, step: int) -> None:
        """Store and start it."""
        asked = CampaignAsked(step, system.now(), self.tag, tuple(dict.fromkeys(self.users)))
        system.asked.campaigns.append(asked)
        rows: list[object] = [{"userid": user, "name": user} for user in self.users]
        text = f"{self.tag} {{name}}" if self.fields else self.tag
        plan = system.client.campaign(
            name=self.tag,
            message={"msgtype": "text", "text": {"content": text}},
            recipients=rows,
            rate=self.rate,
        )
        # Ten people a chunk would need a setting; what is small here is the audience.
        with suppress(DingrelayError):
            campaign = plan.create()
            asked.campaign = campaign.id
            campaign.start()
            asked.started = True


@dataclass(frozen=True, slots=True)
class CampaignCommand:
    """What is asked of a campaign that there is."""

    verb: CampaignVerb
    target: int

    def run(self, system: System, step: int) -> None:
        """Ask for it."""
        campaign = system.asked.campaign_of(self.target)
        if not campaign:
            return
        answer = _answered(lambda: _call(system.client.campaign_ref(campaign), self.verb))
        system.asked.commands.append(Command(step, system.now(), self.verb, campaign, answer))


@dataclass(frozen=True, slots=True)
class JobCommand:
    """What is asked of a job that there is."""

    verb: JobVerb
    target: int

    def run(self, system: System, step: int) -> None:
        """Ask for it."""
        job = system.asked.job_of(self.target)
        if not job:
            return
        at = system.now()
        if self.verb == "resolve":
            answer = _answered(lambda: system.resolve(job))
        else:
            answer = _answered(lambda: getattr(system.client, self.verb)(job))
        system.asked.commands.append(Command(step, at, self.verb, job, answer))


def draw(rng: random.Random, name: str, step: int, past: Past, left: float) -> "Operation | None":
    """A random operation of that name; None if there is nothing that it could be about.

    Args:
        rng: of the schedule.
        name: a name in the table of weights.
        step: its number in the schedule.
        past: what was asked before; it is brought up to date.
        left: seconds until the end of the run.
    """
    operation = _DRAWS[name](rng, step, past, left)
    match operation:
        case Send():
            past.sends[step] = operation
        case Approve():
            past.approvals[step] = operation
        case Broadcast():
            past.campaigns.append(step)
        case Sync():
            past.syncs.append(step)
        case _:
            pass
    return operation


def _users(rng: random.Random, most: int = 8) -> tuple[str, ...]:
    everybody = (*STAYING, *MOVING)
    return tuple(rng.sample(everybody if rng.random() < 0.3 else STAYING, rng.randint(1, most)))


def _send(rng: random.Random, step: int, past: Past, left: float) -> Send:
    return Send(
        f"通知 {step}",
        _users(rng),
        lane=rng.choice(LANES),
        sender=rng.choice(SENDERS),
        key=f"key {step}" if rng.random() < 0.3 else None,
        confirm=rng.random() < 0.1,
    )


def _send_many(rng: random.Random, step: int, past: Past, left: float) -> SendMany:
    alike = rng.random() < 0.5
    sends = [
        Send(
            f"批量 {step}" if alike else f"批量 {step} {number}",
            _users(rng, 2),
            lane=rng.choice(("normal", "bulk")),
        )
        for number in range(rng.randint(2, 30))
    ]
    return SendMany(tuple(sends))


def _same_key(rng: random.Random, step: int, past: Past, left: float) -> Operation | None:
    keyed = [number for number, send in past.sends.items() if send.key and send.same_as is None]
    if not keyed:
        return None
    number = rng.choice(keyed)
    first = past.sends[number]
    # Another payload under the key is refused, and must change nothing.
    tag = first.tag if rng.random() < 0.8 else f"通知 {step}"
    return Send(tag, first.users, lane=first.lane, sender=first.sender, key=first.key,
                confirm=first.confirm, same_as=number)  # fmt: skip


def _equal_content(rng: random.Random, step: int, past: Past, left: float) -> Send | None:
    recent = [send for send in list(past.sends.values())[-8:] if send.users]
    if not recent:
        return None
    first = rng.choice(recent)
    users = tuple(dict.fromkeys((*rng.sample(first.users, 1), *_users(rng, 4))))
    return Send(first.tag, users, lane=rng.choice(LANES), sender=rng.choice(SENDERS))


def _bare(rng: random.Random, step: int, past: Past, left: float) -> Send:
    return Send(f"裸任务 {step}", _users(rng, 3), bare=True)


def _later(rng: random.Random, step: int, past: Past, left: float) -> Send:
    send_in = round(rng.uniform(0.5, max(1.0, min(20.0, left))), 2)
    return Send(f"稍后 {step}", _users(rng, 3), send_in=send_in, lane=rng.choice(LANES))


def _expiring(rng: random.Random, step: int, past: Past, left: float) -> Send:
    return Send(f"限时 {step}", _users(rng, 3), expires_in=round(rng.uniform(0.5, 15), 2))


def _allow_duplicate(rng: random.Random, step: int, past: Past, left: float) -> Send:
    return Send(f"可重复 {step}", _users(rng, 4), allow_duplicate=True)


def _stop(rng: random.Random, step: int, past: Past, left: float) -> Send:
    return Send(f"停 {step}", _users(rng, 3), on_unknown="stop")


def _everyone(rng: random.Random, step: int, past: Past, left: float) -> Send | None:
    # Three a day are DingTalk's.
    if sum(send.everyone for send in past.sends.values()) >= 3:
        return None
    return Send(f"全员 {step}", everyone=True)


def _departments(rng: random.Random, step: int, past: Past, left: float) -> Send:
    departments = tuple(rng.sample(range(2, DEPARTMENTS + 1), rng.randint(1, 3)))
    return Send(f"部门 {step}", departments=departments)


def _approval(rng: random.Random, step: int, past: Past, left: float) -> Approve:
    rows = tuple(
        (("项目", f"车票 {number}"), ("金额", str(rng.randint(1, 99))))
        for number in range(rng.randint(0, 3))
    )
    optional: list[tuple[str, Any]] = [
        ("备注", rng.choice(("", "", "加急"))),
        ("明细", _Rows(rows)),
        ("天数", rng.randint(1, 9)),
        ("开始日期", "2026-11-25"),
        ("类型", rng.choice(OPTIONS)),
        ("标签", tuple(rng.sample(OPTIONS, rng.randint(1, 3)))),
        ("联系人", tuple(rng.sample(STAYING, rng.randint(1, 2)))),
        ("图片", ("https://example.com/a.jpg",)),
    ]
    form = tuple(pair for pair in optional if rng.random() < 0.4)
    key = f"approval {step}" if rng.random() < 0.2 else None
    return Approve(f"审批 {step}", rng.choice(STAYING), TEMPLATE, form, key)


def _equal_approval(rng: random.Random, step: int, past: Past, left: float) -> Approve | None:
    if not past.approvals:
        return None
    return rng.choice(list(past.approvals.values())[-3:])


def _sync(rng: random.Random, step: int, past: Past, left: float) -> Sync:
    match rng.choice(("everything", "everything", "department", "user")):
        case "department":
            return Sync("department", str(rng.randint(2, DEPARTMENTS)))
        case "user":
            return Sync("user", rng.choice(STAYING))
        case _:
            return Sync("everything")


def _organise(rng: random.Random, step: int, past: Past, left: float) -> Organise:
    places = tuple(rng.sample(range(1, DEPARTMENTS + 1), rng.choice((0, 1, 1, 1, 2))))
    return Organise(rng.choice(MOVING), places)


def _campaign(rng: random.Random, step: int, past: Past, left: float) -> Broadcast:
    fields = rng.random() < 0.4
    # Who is named again gets it once.
    users = (*rng.sample(STAYING, rng.randint(3, len(STAYING))), rng.choice(STAYING))
    rate = rng.choice((None, None, 600))
    return Broadcast(f"活动 {step}", users, fields, rate)


def _campaign_command(
    rng: random.Random, step: int, past: Past, left: float
) -> CampaignCommand | None:
    if not past.campaigns:
        return None
    return CampaignCommand(rng.choice(CAMPAIGN_VERBS), rng.choice(past.campaigns[-3:]))


def _command(
    verb: JobVerb,
) -> "Callable[[random.Random, int, Past, float], JobCommand | None]":
    def draw(rng: random.Random, step: int, past: Past, left: float) -> JobCommand | None:
        jobs = past.jobs()
        if not jobs:
            return None
        # What was asked just now is most likely to be under way.
        return JobCommand(verb, rng.choice(jobs[-12:] if rng.random() < 0.7 else jobs))

    return draw


_DRAWS: dict[str, Callable[[random.Random, int, Past, float], Operation | None]] = {
    "send": _send,
    "send_many": _send_many,
    "same_key": _same_key,
    "equal_content": _equal_content,
    "bare": _bare,
    "later": _later,
    "expiring": _expiring,
    "allow_duplicate": _allow_duplicate,
    "stop_on_unknown": _stop,
    "everyone": _everyone,
    "departments": _departments,
    "approval": _approval,
    "equal_approval": _equal_approval,
    "sync": _sync,
    "organisation": _organise,
    "campaign": _campaign,
    "campaign_command": _campaign_command,
    "cancel": _command("cancel"),
    "requeue": _command("requeue"),
    "discard": _command("discard"),
    "resolve": _command("resolve"),
}


class _Rows(tuple[Any, ...]):
    """The rows of a table in a form: each a tuple of (column, value)."""

    __slots__ = ()


def _thawed(value: Any) -> Any:
    if isinstance(value, _Rows):
        return [dict(row) for row in value]
    return list(value) if isinstance(value, tuple) else value


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def _enqueue(
    system: System, job: Contract, asked: MessageAsked | ApprovalAsked | SyncAsked
) -> None:
    try:
        asked.job = system.client.send(job).id
        asked.accepted = "yes"
    except IdempotencyConflict as conflict:
        asked.job, asked.accepted = conflict.job_id, "no"
    except ServiceUnavailable:
        pass


def _sent_bare(system: System, asked: MessageAsked, document: dict[str, Any]) -> bool:
    try:
        asked.job = system.send_bare("dingrelay.message-send", document)
    except Exception:  # noqa: BLE001 - kombu raises what its transport does
        return False
    return True


def _call(of: object, verb: str) -> object:
    return getattr(of, verb)()


def _answered(act: Callable[[], object]) -> str:
    try:
        return str(act())
    except (DingrelayError, ContractError) as error:
        return type(error).__name__
