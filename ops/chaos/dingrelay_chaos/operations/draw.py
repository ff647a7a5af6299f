"""Random operations: by name, as the table of weights has them."""

import random
from collections.abc import Callable
from typing import Any

from dingrelay_chaos.dingtalk import MADE_UP, OPTIONS, ROBOTS, TEMPLATE
from dingrelay_chaos.operations.actions import Act, AtDingTalk, PersonVerb
from dingrelay_chaos.operations.actions import JobVerb as ActVerb
from dingrelay_chaos.operations.approvals import Approve, Rows
from dingrelay_chaos.operations.campaigns import CAMPAIGN_VERBS, Broadcast, CampaignCommand
from dingrelay_chaos.operations.commands import JobCommand, JobVerb
from dingrelay_chaos.operations.directory import Organise, Reorganise, Sync
from dingrelay_chaos.operations.files import UploadFiles
from dingrelay_chaos.operations.messages import Send, SendMany
from dingrelay_chaos.operations.operation import Operation
from dingrelay_chaos.operations.past import Past
from dingrelay_chaos.operations.robots import Alert
from dingrelay_chaos.operations.subscribers import Subscribe, SubscriberVerb
from dingrelay_chaos.people import DEPARTMENTS, JOINING, KINDS, MOVING, SHIFTING, STAYING
from dingrelay_chaos.subscribers import FIRST

LANES = ("urgent", "normal", "normal", "bulk")
SENDERS = ("", "crm", "hr")
MOST_ENDPOINTS = 3
"""That come in the course of a run: each costs a job for all that it hears of."""

Draw = Callable[[random.Random, int, Past, float], Operation | None]
"""From the schedule's randomness, the step, what was asked before, and the seconds left."""


def draw(rng: random.Random, name: str, step: int, past: Past, left: float) -> Operation | None:
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
    recent = [send for send in list(past.sends.values())[-8:] if send.users and not send.addressed]
    if not recent:
        return None
    first = rng.choice(recent)
    users = tuple(dict.fromkeys((*rng.sample(first.users, 1), *_users(rng, 4))))
    return Send(first.tag, users, lane=rng.choice(LANES), sender=rng.choice(SENDERS))


def _later(rng: random.Random, step: int, past: Past, left: float) -> Send:
    send_in = round(rng.uniform(0.5, max(1.0, min(20.0, left))), 2)
    return Send(f"稍后 {step}", _users(rng, 3), send_in=send_in, lane=rng.choice(LANES))


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
        ("明细", Rows(rows)),
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
    departments = (*range(1, DEPARTMENTS + 1), *SHIFTING)
    places = tuple(rng.sample(departments, rng.choice((0, 1, 1, 1, 2))))
    user = rng.choice((*MOVING, *JOINING))
    past.changed.append(user)
    return Organise(user, places)


def _reorganise(rng: random.Random, step: int, past: Past, left: float) -> Reorganise:
    parent = None if rng.random() < 0.3 else rng.choice((1, 2, *SHIFTING))
    return Reorganise(rng.choice(SHIFTING), parent)


def _addressed(rng: random.Random, step: int, past: Past, left: float) -> Send:
    # Whoever has just come or gone is most likely to be known wrongly.
    moving = past.changed[-5:] or list(MOVING)
    people = {rng.choice((*STAYING, *moving, *moving)) for _ in range(rng.randint(1, 4))}
    addressed = tuple((rng.choice(KINDS), user) for user in sorted(people))
    users = _users(rng, 2) if rng.random() < 0.3 else ()
    return Send(f"按址 {step}", users, lane=rng.choice(LANES), addressed=addressed)


def _person_acts(rng: random.Random, step: int, past: Past, left: float) -> AtDingTalk | None:
    verbs: tuple[PersonVerb, ...] = (
        *("agree", "agree", "agree", "agree", "refuse", "redirect", "comment", "terminate"),
        *("agree", "agree", "agree", "agree", "refuse", "redirect", "comment", "delete"),
    )
    target = _approval_of(rng, past)
    return None if target is None else AtDingTalk(rng.choice(verbs), target, rng.choice(STAYING))


def _approval_action(rng: random.Random, step: int, past: Past, left: float) -> Act | None:
    verbs: tuple[ActVerb, ...] = (
        *("agree", "agree", "agree", "agree", "refuse", "comment", "comment", "look", "terminate"),
    )
    target = _approval_of(rng, past)
    return None if target is None else Act(rng.choice(verbs), target, rng.random() < 0.1)


def _approval_of(rng: random.Random, past: Past) -> int | None:
    """An approval that is likely to be there by now."""
    approvals = list(past.approvals)
    return rng.choice(approvals[-10:]) if approvals else None


def _subscriber(rng: random.Random, step: int, past: Past, left: float) -> Subscribe:
    if len(past.endpoints) < MOST_ENDPOINTS and rng.random() < 0.3:
        past.endpoints.append(f"more-{step}")
        types = rng.choice((("job.*",), ("approval.*", "campaign.*"), ("directory.*", "job.dead")))
        return Subscribe("add", past.endpoints[-1], types)
    verbs: tuple[SubscriberVerb, ...] = (
        *("pause", "pause", "resume", "resume", "rotate", "rotate", "replay", "test"),
    )
    verb, name = rng.choice(verbs), rng.choice((*FIRST, *past.endpoints))
    if past.endpoints and rng.random() < 0.1:
        return Subscribe(rng.choice(("skip", "remove")), rng.choice(past.endpoints))
    return Subscribe(verb, name, seconds=rng.choice((0, 2, 10)))


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


def _command(verb: JobVerb) -> Draw:
    def draw(rng: random.Random, step: int, past: Past, left: float) -> JobCommand | None:
        jobs = past.jobs()
        if not jobs:
            return None
        # What was asked just now is most likely to be under way.
        return JobCommand(verb, rng.choice(jobs[-12:] if rng.random() < 0.7 else jobs))

    return draw


_DRAWS: dict[str, Draw] = {
    "send": _send,
    "send_many": _send_many,
    "same_key": _same_key,
    "equal_content": _equal_content,
    "bare": lambda rng, step, _, __: Send(f"裸任务 {step}", _users(rng, 3), bare=True),
    "http": lambda rng, step, _, __: Send(
        f"网关 {step}", _users(rng, 3), lane=rng.choice(LANES), http=True
    ),
    "later": _later,
    "expiring": lambda rng, step, _, __: Send(
        f"限时 {step}", _users(rng, 3), expires_in=round(rng.uniform(0.5, 15), 2)
    ),
    "allow_duplicate": lambda rng, step, _, __: Send(
        f"可重复 {step}", _users(rng, 4), allow_duplicate=True
    ),
    "stop_on_unknown": lambda rng, step, _, __: Send(
        f"停 {step}", _users(rng, 3), on_unknown="stop"
    ),
    "everyone": _everyone,
    "departments": _departments,
    "approval": _approval,
    "equal_approval": _equal_approval,
    "sync": _sync,
    "organisation": _organise,
    "reorganisation": _reorganise,
    "campaign": _campaign,
    "campaign_command": _campaign_command,
    "cancel": _command("cancel"),
    "requeue": _command("requeue"),
    "discard": _command("discard"),
    "resolve": _command("resolve"),
    "addressed": _addressed,
    "person_acts": _person_acts,
    "approval_action": _approval_action,
    "subscriber": _subscriber,
    "files": lambda rng, step, _, __: UploadFiles(f"文件 {step}", rng.randint(1, 8)),
    "alert": lambda rng, step, _, __: Alert(
        rng.choice((*ROBOTS, *ROBOTS, MADE_UP)), f"告警 {step}", rng.choice((1, 1, 2))
    ),
}
