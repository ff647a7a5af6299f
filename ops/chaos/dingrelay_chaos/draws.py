"""Random operations: how often each comes, and how it is drawn."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dingrelay_chaos import broker, dingtalk, operations
from dingrelay_chaos.operations import Approve, Broadcast, Operation, Post, Rows, Send, Sync
from dingrelay_chaos.subscribers import FIRST

LANES = ("urgent", "normal", "normal", "bulk")
SENDERS = ("", "crm", "hr")
MOST_ENDPOINTS = 3
"""Most endpoints that are added in the course of a run: each costs a job for every notice that it gets."""
# The same verb several times: it comes more often.
AT_DINGTALK = (
    *("agree", "agree", "agree", "agree", "refuse", "redirect", "comment", "terminate"),
    *("agree", "agree", "agree", "agree", "refuse", "redirect", "comment", "delete"),
)
BY_JOBS = (
    *("agree", "agree", "agree", "agree", "refuse", "comment", "comment", "look", "terminate"),
)
OF_CAMPAIGNS = (
    *("pause", "pause", "resume", "resume", "resume", "cancel", "recall", "report", "start"),
)
OF_ENDPOINTS = ("pause", "pause", "resume", "resume", "rotate", "rotate", "replay", "test")


@dataclass(slots=True)
class Drawing:
    """The source of operations: randomness, and the requests of the schedule so far.

    Attributes:
        step: the number of the step that is drawn for.
        left: seconds until the end of the run.
        changed: people who were moved, the latest last.
        endpoints: those that were added.
        alone: messages to the pool of robots that are not merged.
    """

    rng: random.Random
    step: int = 0
    left: float = 0
    sends: dict[int, Send] = field(default_factory=dict[int, Send])
    approvals: dict[int, Approve] = field(default_factory=dict[int, Approve])
    campaigns: list[int] = field(default_factory=list[int])
    syncs: list[int] = field(default_factory=list[int])
    changed: list[str] = field(default_factory=list[str])
    endpoints: list[str] = field(default_factory=list[str])
    alone: int = 0

    def draw(self, name: str, step: int, left: float) -> Operation | None:
        """A random operation of a name in the table; None if there is nothing that it could be about."""
        self.step, self.left = step, left
        _, draw = OPERATIONS[name]
        try:
            return draw(self)
        except IndexError:  # there was nothing to choose from
            return None

    def send(self, tag: str, users: tuple[str, ...] = (), **more: Any) -> Operation:
        """A message, which later steps may be about."""
        self.sends[self.step] = Send(tag, users, **more)
        return Operation(operations.send, what=self.sends[self.step])

    def approve(self, what: Approve) -> Operation:
        """An approval likewise."""
        self.approvals[self.step] = what
        return Operation(operations.approve, what=what)

    def users(self, most: int = 8) -> tuple[str, ...]:
        """Some people; one at least."""
        among = (
            (*dingtalk.STAYING, *dingtalk.MOVING) if self.rng.random() < 0.3 else dingtalk.STAYING
        )
        return tuple(self.rng.sample(among, self.rng.randint(1, most)))

    def lane(self) -> str:
        """Any lane."""
        return self.rng.choice(LANES)

    def approval(self) -> int:
        """The step of an approval that is likely to be there by now."""
        return self.rng.choice(list(self.approvals)[-10:])


Draw = Callable[[Drawing], Operation | None]


def _send(of: Drawing) -> Operation:
    return of.send(
        f"通知 {of.step}",
        of.users(),
        lane=of.lane(),
        sender=of.rng.choice(SENDERS),
        key=f"key {of.step}" if of.rng.random() < 0.3 else None,
        confirm=of.rng.random() < 0.1,
    )


def _send_many(of: Drawing) -> Operation:
    alike = of.rng.random() < 0.5
    sends = [
        Send(
            f"批量 {of.step}" if alike else f"批量 {of.step} {number}",
            of.users(2),
            lane=of.rng.choice(("normal", "bulk")),
        )
        for number in range(of.rng.randint(2, 30))
    ]
    return Operation(operations.send_many, sends=tuple(sends))


def _same_key(of: Drawing) -> Operation:
    keyed = [number for number, send in of.sends.items() if send.key and send.same_as is None]
    number = of.rng.choice(keyed)
    first = of.sends[number]
    # Another payload under the key is refused, and must change nothing.
    tag = first.tag if of.rng.random() < 0.8 else f"通知 {of.step}"
    return of.send(tag, first.users, lane=first.lane, sender=first.sender, key=first.key,
                confirm=first.confirm, same_as=number)  # fmt: skip


def _equal_content(of: Drawing) -> Operation:
    recent = [send for send in list(of.sends.values())[-8:] if send.users and not send.addressed]
    first = of.rng.choice(recent)
    users = tuple(dict.fromkeys((*of.rng.sample(first.users, 1), *of.users(4))))
    return of.send(first.tag, users, lane=of.lane(), sender=of.rng.choice(SENDERS))


def _later(of: Drawing) -> Operation:
    send_in = round(of.rng.uniform(0.5, max(1.0, min(20.0, of.left))), 2)
    return of.send(f"稍后 {of.step}", of.users(3), send_in=send_in, lane=of.lane())


def _countdown(of: Drawing) -> Operation:
    send_in = round(of.rng.uniform(0.5, max(1.0, min(12.0, of.left))), 2)
    lane, users = of.lane(), of.users(3)
    return of.send(
        f"倒计时 {of.step}", users, send_in=send_in, lane=lane, bare=True, countdown=True
    )


def _poison(of: Drawing) -> Operation:
    text, lane = of.rng.choice(broker.POISON), of.lane()
    return Operation(broker.publish_poison, text=text, lane=lane)


def _queue(of: Drawing) -> Operation:
    verb = of.rng.choice(("add_consumer", "cancel_consumer"))
    return Operation(broker.command_queue, verb=verb, lane=of.lane())


def _expiring(of: Drawing) -> Operation:
    users = of.users(3)
    return of.send(f"限时 {of.step}", users, expires_in=round(of.rng.uniform(0.5, 15), 2))


def _everyone(of: Drawing) -> Operation | None:
    # Three a day are DingTalk's.
    sent = sum(send.everyone for send in of.sends.values())
    return of.send(f"全员 {of.step}", everyone=True) if sent < 3 else None


def _departments(of: Drawing) -> Operation:
    departments = tuple(of.rng.sample(range(2, dingtalk.DEPARTMENTS + 1), of.rng.randint(1, 3)))
    return of.send(f"部门 {of.step}", departments=departments)


def _addressed(of: Drawing) -> Operation:
    # Those who have just come or gone are most likely to be known wrongly.
    moving = of.changed[-5:] or list(dingtalk.MOVING)
    people = {
        of.rng.choice((*dingtalk.STAYING, *moving, *moving)) for _ in range(of.rng.randint(1, 4))
    }
    addressed = tuple((of.rng.choice(dingtalk.ADDRESSES), user) for user in sorted(people))
    users = of.users(2) if of.rng.random() < 0.3 else ()
    return of.send(f"按址 {of.step}", users, lane=of.lane(), addressed=addressed)


def _approval(of: Drawing) -> Operation:
    rng = of.rng
    rows = tuple(
        (("项目", f"车票 {number}"), ("金额", str(rng.randint(1, 99))))
        for number in range(rng.randint(0, 3))
    )
    optional: list[tuple[str, Any]] = [
        ("备注", rng.choice(("", "", "加急"))),
        ("明细", Rows(rows)),
        ("天数", rng.randint(1, 9)),
        ("开始日期", "2026-11-25"),
        ("类型", rng.choice(dingtalk.OPTIONS)),
        ("标签", tuple(rng.sample(dingtalk.OPTIONS, rng.randint(1, 3)))),
        ("联系人", tuple(rng.sample(dingtalk.STAYING, rng.randint(1, 2)))),
        ("图片", ("https://example.com/a.jpg",)),
    ]
    form = tuple(pair for pair in optional if rng.random() < 0.4)
    key = f"approval {of.step}" if rng.random() < 0.2 else None
    person = rng.choice(dingtalk.STAYING)
    return of.approve(Approve(f"审批 {of.step}", person, dingtalk.TEMPLATE, form, key))


def _equal_approval(of: Drawing) -> Operation:
    return of.approve(of.rng.choice(list(of.approvals.values())[-3:]))


def _at_dingtalk(of: Drawing) -> Operation:
    target = of.approval()
    verb, other = of.rng.choice(AT_DINGTALK), of.rng.choice(dingtalk.STAYING)
    return Operation(operations.act_at_dingtalk, verb=verb, target=target, other=other)


def _act(of: Drawing) -> Operation:
    target = of.approval()
    verb, stranger = of.rng.choice(BY_JOBS), of.rng.random() < 0.1
    return Operation(operations.act, verb=verb, target=target, stranger=stranger)


def _sync(of: Drawing) -> Operation:
    of.syncs.append(of.step)
    what = Sync("everything")
    match of.rng.choice(("everything", "everything", "department", "user")):
        case "department":
            what = Sync("department", str(of.rng.randint(2, dingtalk.DEPARTMENTS)))
        case "user":
            what = Sync("user", of.rng.choice(dingtalk.STAYING))
        case _:
            pass
    return Operation(operations.sync, what=what)


def _organise(of: Drawing) -> Operation:
    departments = (*range(1, dingtalk.DEPARTMENTS + 1), *dingtalk.SHIFTING)
    places = tuple(of.rng.sample(departments, of.rng.choice((0, 1, 1, 1, 2))))
    of.changed.append(of.rng.choice((*dingtalk.MOVING, *dingtalk.JOINING)))
    return Operation(operations.organise, user=of.changed[-1], departments=places)


def _reorganise(of: Drawing) -> Operation:
    parent = None if of.rng.random() < 0.3 else of.rng.choice((1, 2, *dingtalk.SHIFTING))
    department = of.rng.choice(dingtalk.SHIFTING)
    return Operation(operations.reorganise, department=department, parent=parent)


def _broadcast(of: Drawing) -> Operation:
    fields = of.rng.random() < 0.4
    # A person who is named again gets it once.
    users = (
        *of.rng.sample(dingtalk.STAYING, of.rng.randint(3, len(dingtalk.STAYING))),
        of.rng.choice(dingtalk.STAYING),
    )
    of.campaigns.append(of.step)
    what = Broadcast(f"活动 {of.step}", users, fields, of.rng.choice((None, None, 600)))
    return Operation(operations.broadcast, what=what)


def _campaign_command(of: Drawing) -> Operation | None:
    if not of.campaigns:
        return None
    verb, target = of.rng.choice(OF_CAMPAIGNS), of.rng.choice(of.campaigns[-3:])
    return Operation(operations.command_campaign, verb=verb, target=target)


def _command(verb: str) -> Draw:
    def draw(of: Drawing) -> Operation | None:
        jobs = sorted([*of.sends, *of.approvals, *of.syncs])
        if not jobs:
            return None
        # What was asked just now is most likely to be under way.
        target = of.rng.choice(jobs[-12:] if of.rng.random() < 0.7 else jobs)
        return Operation(operations.command_job, verb=verb, target=target)

    return draw


def _subscribe(of: Drawing) -> Operation:
    rng = of.rng
    if len(of.endpoints) < MOST_ENDPOINTS and rng.random() < 0.3:
        of.endpoints.append(f"more-{of.step}")
        types = rng.choice((("job.*",), ("approval.*", "campaign.*"), ("directory.*", "job.dead")))
        return Operation(operations.subscribe, name=of.endpoints[-1], types=types)
    verb, name = rng.choice(OF_ENDPOINTS), rng.choice((*FIRST, *of.endpoints))
    if of.endpoints and rng.random() < 0.1:
        verb, name = rng.choice(("skip", "remove")), rng.choice(of.endpoints)
        return Operation(operations.command_endpoint, verb=verb, name=name, seconds=0)
    seconds = rng.choice((0, 2, 10))
    return Operation(operations.command_endpoint, verb=verb, name=name, seconds=seconds)


def _alert(of: Drawing) -> Operation:
    robot = of.rng.choice((*dingtalk.ROBOTS, *dingtalk.ROBOTS, dingtalk.MADE_UP))
    times = of.rng.choice((1, 1, 2))
    return Operation(operations.alert, robot=robot, text=f"告警 {of.step}", times=times)


MERGED_ONLY = 5
"""Messages at once from which they are always merged: a pool of three takes one a second."""
MOST_ALONE = 100
"""Messages of a run that leave one by one: with digests, twice what the pool takes in a minute, and urgent ones are not merged."""


def _post(of: Drawing) -> Operation:
    texts = tuple(f"群消息 {of.step}-{number}" for number in range(of.rng.choice((1, 1, 2, 12))))
    digest, lane = of.rng.choice(("", "3s", "8s")), of.rng.choice(("normal", "normal", "urgent"))
    if len(texts) >= MERGED_ONLY or of.alone >= MOST_ALONE:
        digest, lane = digest or "3s", "normal"
    of.alone += len(texts) if not digest or lane == "urgent" else 0
    return Operation(operations.post, what=Post(texts, digest, lane))


def _files(of: Drawing) -> Operation:
    count = of.rng.randint(1, 8)
    return Operation(operations.upload_files, tag=f"文件 {of.step}", count=count)


OPERATIONS: Mapping[str, tuple[float, Draw]] = {
    "send": (20, _send),
    "send_many": (4, _send_many),
    "same_key": (4, _same_key),
    "equal_content": (10, _equal_content),
    "bare": (4, lambda of: of.send(f"裸任务 {of.step}", of.users(3), bare=True)),
    "countdown": (4, _countdown),
    "poison": (3, _poison),
    "queue_command": (4, _queue),
    "other_app": (2, lambda _: Operation(broker.hold_elsewhere)),
    "http": (
        8,
        lambda of: of.send(f"网关 {of.step}", of.users(3), lane=of.lane(), http=True),
    ),
    "later": (4, _later),
    "expiring": (4, _expiring),
    "allow_duplicate": (
        2,
        lambda of: of.send(f"可重复 {of.step}", of.users(4), allow_duplicate=True),
    ),
    "stop_on_unknown": (
        3,
        lambda of: of.send(f"停 {of.step}", of.users(3), on_unknown="stop"),
    ),
    "everyone": (1, _everyone),
    "departments": (3, _departments),
    "approval": (10, _approval),
    "equal_approval": (8, _equal_approval),
    "sync": (3, _sync),
    "organisation": (6, _organise),
    "reorganisation": (3, _reorganise),
    "campaign": (3, _broadcast),
    "campaign_command": (5, _campaign_command),
    "cancel": (8, _command("cancel")),
    "requeue": (6, _command("requeue")),
    "discard": (3, _command("discard")),
    "resolve": (3, _command("resolve")),
    "addressed": (8, _addressed),
    "person_acts": (10, _at_dingtalk),
    "approval_action": (8, _act),
    "subscriber": (3, _subscribe),
    "alert": (5, _alert),
    "post": (4, _post),
    "files": (2, _files),
}
"""Operation → weight and draw. A seed leaves some of them out, so that others come more often."""
