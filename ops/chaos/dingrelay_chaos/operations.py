"""Operations of producers, operators and people at DingTalk. What asks the system is noted in `Requests` first."""

import hashlib
import random
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

from redis.exceptions import RedisError

from dingrelay_chaos.dingtalk import MADE_UP, POOL, STAYING, holds, text_of
from dingrelay_chaos.fleet import UPLOADS
from dingrelay_chaos.requests import Absence, AlertRequest, Command, Request
from dingrelay_chaos.system import System
from dingrelay_producers import State
from dingrelay_producers.errors import DingrelayError, IdempotencyConflict, ServiceUnavailable
from dingrelay_sandbox.admin import Row, SandboxError
from dingrelay_tasks import ApprovalCreate, MessageSend, RobotMessage, UserSync
from dingrelay_tasks.contract import Contract, ContractError

PLURALS = {"mobile": "mobiles", "email": "emails", "job_number": "job_numbers"}
"""Names of recipient fields in a message."""
FILE_BYTES = 4_000_000
MOST_MEMORY = 500_000_000
"""Bytes that a gateway has taken at most: as many again for each copy of a file on its way."""
UNKNOWN_ROBOT = 300_005
LOST = 15
"""The answer to a call that may have been made; it counts as none."""


class Operation(partial[None]):
    """Carries something out, given the system and the number of the step.

    What the system refuses in its own words is no failure.
    """

    def __eq__(self, other: object) -> bool:
        values = isinstance(other, Operation) and (other.func, other.keywords)
        return values == (self.func, self.keywords)

    __hash__ = partial[None].__hash__


def brief(value: Any) -> str:
    """A value of a schedule as short text, without the fields that have their defaults."""
    if isinstance(value, Operation):
        name, shown = value.func.__name__, value.keywords
    elif is_dataclass(value) and not isinstance(value, type):
        held = [(each.name, getattr(value, each.name), each.default) for each in fields(value)]
        shown = {name: each for name, each, usual in held if each != usual}
        name = type(value).__name__
    elif isinstance(value, tuple):
        return f"[{', '.join(map(brief, value))}]"
    else:
        return repr(value)
    return f"{name}({', '.join(f'{key}={brief(each)}' for key, each in shown.items())})"


def _ask(system: System, step: int, what: Any) -> Request[Any]:
    """Note that a job is asked for."""
    request = Request[Any](step, system.now(), what)
    system.requests.jobs.append(request)
    return request


def _enqueue(system: System, request: Request[Any], job: Contract) -> None:
    _accept(system, request, lambda: system.client.send(job).id)


def _accept(system: System, request: Request[Any], act: Callable[[], str]) -> None:
    """Do what enqueues a job and returns its id, and note what became of it."""
    try:
        request.job = act()
        request.accepted, request.answered = "yes", system.now()
    except IdempotencyConflict as conflict:
        request.job, request.accepted = conflict.job_id, "no"
    except ServiceUnavailable:
        pass


def _command(system: System, step: int, verb: str, of: str, act: Callable[[], object]) -> None:
    """Do what asks something of a job or campaign, and note the answer, also where it was refused."""
    at = system.now()
    try:
        answer = str(act())
    except (DingrelayError, ContractError) as error:
        answer = type(error).__name__
    system.requests.commands.append(Command(step, at, verb, of, answer))


@dataclass(frozen=True, slots=True)
class Send:
    """A message, by our client, over HTTP or by a bare Celery client.

    Attributes:
        send_in: seconds from when it is asked for, as `expires_in` is.
        countdown: `send_in` is Celery's countdown, and not in the job.
        addressed: recipients by something else than a userid: what, and who it is; once it is asked for, with
            the address between them.
    """

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
    countdown: bool = False
    http: bool = False
    same_as: int | None = None
    addressed: tuple[tuple[str, ...], ...] = ()

    @property
    def named(self) -> tuple[str, ...]:
        """Every recipient that it names."""
        return (*self.users, *(each[-1] for each in self.addressed))

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
            "send_at": None if self.countdown else _moment(self.send_in),
            "expires_at": _moment(self.expires_in),
            "allow_duplicate": self.allow_duplicate,
            "confirm": self.confirm,
            "on_unknown": self.on_unknown,
        }
        return job | ({"sender": self.sender} if self.sender else {})


def send(system: System, step: int, what: Send) -> None:
    """Enqueue a message."""
    addressed = tuple(_address(system, *each) for each in what.addressed)
    request, document = _ask(system, step, replace(what, addressed=addressed)), what.document()
    if what.bare:
        # kombu raises what its transport does.
        with suppress(Exception):
            countdown = what.send_in if what.countdown else None
            request.job = system.send_bare("dingrelay.message-send", document, countdown)
            request.accepted = "yes"
    elif what.http:
        status, answer = system.gateway.post("/v1/messages", document, f"step-{step}")
        if status == 202:
            request.job, request.accepted, request.answered = answer["id"], "yes", system.now()
        elif status:
            request.accepted = "no"
            raise AssertionError(f"the gateway refused a message: {status} {answer}")
    else:
        for kind, address, _ in addressed:
            document["to"].setdefault(PLURALS[kind], []).append(address)
        _enqueue(system, request, MessageSend.parse(document))


def _address(system: System, kind: str, user: str) -> tuple[str, str, str]:
    """Kind, address and userid; some people have no e-mail address."""
    known = system.addresses[user]
    kind = kind if kind in known else "job_number"
    return kind, known[kind], user


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def send_many(system: System, step: int, sends: tuple[Send, ...]) -> None:
    """Enqueue messages to one person each, in one batch; equal ones become one job."""
    left = iter([_ask(system, step, each) for each in sends])

    def accept(job: Any) -> None:
        each = next(left)
        each.job, each.accepted, each.answered = job.id, "yes", system.now()

    with suppress(ServiceUnavailable):
        jobs = [MessageSend.parse(each.document()) for each in sends]
        system.client.send_many(jobs, on_sent=accept)


class Rows(tuple[Any, ...]):
    """The rows of a table in a form: each a tuple of (column, value)."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Approve:
    """An approval. Those of one tag have equal forms."""

    tag: str
    originator: str
    process_code: str
    form: tuple[tuple[str, Any], ...]
    key: str | None = None


def approve(system: System, step: int, what: Approve) -> None:
    """Enqueue an approval."""
    request = _ask(system, step, what)
    job = {
        "process_code": what.process_code,
        "originator": what.originator,
        "form": {"事由": what.tag, **{name: _thawed(value) for name, value in what.form}},
        "idempotency_key": what.key,
    }
    _enqueue(system, request, ApprovalCreate.parse(job))


def _thawed(value: Any) -> Any:
    if isinstance(value, Rows):
        return [dict(row) for row in value]
    return list(value) if isinstance(value, tuple) else value


def act_at_dingtalk(system: System, step: int, verb: str, target: int, other: str) -> None:
    """Let a person do something to an approval in DingTalk's client, if it is there by now and takes it.

    Args:
        system: where it is.
        step: part of what is said.
        verb: ``agree``, ``refuse``, ``redirect``, ``comment``, ``terminate`` or ``delete``.
        target: the step that asked for the approval.
        other: who gets a task that is handed on.
    """
    found = _instance(system, target)
    if found is None:
        return
    with suppress(SandboxError):
        if verb == "delete":
            system.deleted.add(found["id"])
            system.sandbox.delete_approval(found["id"])
            return
        user = _decider(found) if verb in {"agree", "refuse", "redirect"} else ""
        user = user or found["originator"]
        system.sandbox.act(found["id"], verb, user, to=other, remark=f"意见 {step}")


def act(system: System, step: int, verb: str, target: int, stranger: bool) -> None:
    """Let a job of ours do something to an approval, if there is such an approval by now.

    Args:
        system: where it is.
        step: part of what is said.
        verb: ``agree``, ``refuse``, ``comment``, ``terminate`` or ``look``.
        target: the step that asked for the approval.
        stranger: whether it is asked for in the name of a person who has nothing to decide.
    """
    found = _instance(system, target)
    if found is None:
        return
    remark = f"意见 {step}"
    user = STAYING[-1] if stranger else _decider(found) or found["originator"]
    approval = system.client.approval(found["id"])
    request = _ask(system, step, Acted(verb, found["id"], user, remark))
    arguments: dict[str, tuple[str, ...]] = {
        "agree": (user, remark),
        "refuse": (user, remark),
        "comment": (remark, user),
        "terminate": (remark,),
        "look": (),
    }
    # The table is read first for some of them, and the database may be away.
    with suppress(DingrelayError):
        ask: Callable[..., Any] = getattr(approval, verb)
        _accept(system, request, lambda: str(ask(*arguments[verb]).id))


@dataclass(frozen=True, slots=True)
class Acted:
    """An operation of `act`; no other has its remark."""

    verb: str
    instance: str
    user: str
    remark: str


def _instance(system: System, target: int) -> Row | None:
    """An approval that a step asked for; of equal ones any."""
    asked = (each.what.tag for each in system.requests.of(Approve) if each.step == target)
    tag = next(asked, "")
    found = [each for each in system.sandbox.approvals() if tag and holds(each, tag)]
    return random.choice(found) if found else None


def _decider(instance: Row) -> str:
    """A person who is asked to decide; empty if there is none."""
    return next((task["user"] for task in instance["tasks"] if task["status"] == "RUNNING"), "")


@dataclass(frozen=True, slots=True)
class Broadcast:
    """A campaign, created and started."""

    tag: str
    users: tuple[str, ...]
    fields: bool
    rate: int | None


def broadcast(system: System, step: int, what: Broadcast) -> None:
    """Store and start a campaign."""
    request = Request[Broadcast](step, system.now(), what)
    system.requests.campaigns.append(request)
    text = f"{what.tag} {{name}}" if what.fields else what.tag
    plan = system.client.campaign(
        name=what.tag,
        message={"msgtype": "text", "text": {"content": text}},
        recipients=[{"userid": user, "name": user} for user in what.users],
        rate=what.rate,
    )
    # Ten people a chunk would need a setting; what is small here is the audience.
    with suppress(DingrelayError):
        campaign = plan.create()
        request.job = campaign.id
        campaign.start()
        request.accepted = "yes"


def command_campaign(system: System, step: int, verb: str, target: int) -> None:
    """Ask something of the campaign of a step, if there is that campaign."""
    if campaign := system.requests.id_of(target):
        of = system.client.campaign_ref(campaign)
        _command(system, step, verb, campaign, getattr(of, verb))


def command_job(system: System, step: int, verb: str, target: int) -> None:
    """Ask something of the job of a step, if there is that job."""
    if job := system.requests.id_of(target):
        ask = partial(_resolve, system) if verb == "resolve" else getattr(system.client, verb)
        _command(system, step, verb, job, lambda: ask(job))


def _resolve(system: System, job: str) -> str:
    """Settle an unknown job as a person does who looks into DingTalk; the answer as text."""
    client, requests = system.client, system.requests
    if client.status(job).state != State.UNKNOWN:
        return "not unknown"
    what = next((each.what for each in requests.jobs if each.job == job), None)
    if isinstance(what, Send):
        inboxes = [system.sandbox.inbox(user) for user in what.named]
        sent = any(text_of(each) == what.tag for box in inboxes for each in box["delivered"])
        return f"sent {sent}: {client.resolve(job, sent=sent)}"
    if not isinstance(what, Approve):
        return "nothing to resolve"
    # Where several equal jobs are unknown, each gets an instance that no other names.
    named = {
        (client.status(each.job).result or {}).get("instance_id")
        for each in requests.of(Approve)
        if each.job and each.accepted == "yes" and each.what.tag == what.tag
    }
    for each in system.sandbox.approvals():
        if each["id"] not in named and holds(each, what.tag):
            return f"{each['id']}: {client.resolve(job, instance=each['id'])}"
    return f"not created: {client.resolve(job, not_created=True)}"


@dataclass(frozen=True, slots=True)
class Sync:
    """A user-sync."""

    scope: Literal["everything", "department", "user"]
    target: str = ""


def sync(system: System, step: int, what: Sync) -> None:
    """Enqueue a user-sync."""
    request = _ask(system, step, what)
    job: dict[str, Any] = {"scope": what.scope, "confirm_removals": True}
    if what.scope != "everything":
        job[what.scope] = int(what.target) if what.scope == "department" else what.target
    _enqueue(system, request, UserSync.parse(job))


def organise(system: System, step: int, user: str, departments: tuple[int, ...]) -> None:
    """Move a person at DingTalk to some departments; to none: they leave.

    DingTalk refuses a department that is not there just now.
    """
    with system.organising:
        if not departments:
            there = {person["userid"] for person in system.sandbox.organisation()["users"]}
            if user in there:
                system.requests.absences.append(Absence(user, system.now()))
                system.sandbox.delete_user(user)
            return
        changes = {"dept_id_list": list(departments), "name": f"{user} #{step}"}
        with suppress(SandboxError):
            system.sandbox.put_user(user, **changes, **system.addresses[user])
            for each in system.requests.absences:
                if each.user == user:
                    each.until = min(each.until, system.now())


def reorganise(system: System, step: int, department: int, parent: int | None) -> None:
    """Add a department, or give it another name and parent; without a parent it is dissolved.

    What DingTalk refuses stays as it is.
    """
    with system.organising, suppress(SandboxError):
        if parent is None:
            system.sandbox.delete_department(department)
        else:
            name = f"部门 {department} #{step}"
            system.sandbox.put_department(department, name=name, parent_id=parent)


def subscribe(system: System, step: int, name: str, types: tuple[str, ...]) -> None:
    """Add an endpoint of webhooks; database or Redis may be away."""
    with suppress(DingrelayError, sqlite3.OperationalError):
        system.subscribers.add(name, types)


def command_endpoint(system: System, step: int, verb: str, name: str, seconds: float) -> None:
    """Ask something of an endpoint, as `Subscribers.ask`; database or Redis may be away."""
    with suppress(DingrelayError, sqlite3.OperationalError):
        system.subscribers.ask(verb, name, seconds)


def alert(system: System, step: int, robot: str, text: str, times: int) -> None:
    """Post the same alert a few times to a robot through the drop-in door, each until it is answered."""
    request = AlertRequest(step, system.now(), robot, text)
    system.requests.alerts.append(request)
    for _ in range(times):
        request.asked += 1
        code = system.gateway.alert(robot, text)
        request.until = system.now()
        request.answered += code == 0
        if code not in {None, LOST, UNKNOWN_ROBOT if robot == MADE_UP else 0}:
            raise AssertionError(f"an alert to {robot} was refused: {code}")


@dataclass(frozen=True, slots=True)
class Post:
    """Messages to a pool of robots, one by one or merged."""

    texts: tuple[str, ...]
    digest: str = ""
    lane: str = "normal"


def post(system: System, step: int, what: Post) -> None:
    """Enqueue messages to the pool."""
    for text in what.texts:
        request = _ask(system, step, replace(what, texts=(text,)))
        content = {"msgtype": "text", "text": {"content": text}}
        job = {"to": {"group": POOL}, "message": content, "lane": what.lane}
        _enqueue(system, request, RobotMessage.parse({**job, "digest": what.digest or None}))


def upload_files(system: System, step: int, tag: str, count: int) -> None:
    """Upload files of different content at the same time; together they may be more than may wait.

    Raises:
        AssertionError: one was refused, an answered one is not at DingTalk, or memory is not bounded.
    """

    def upload(number: int) -> tuple[int | None, str]:
        seed = hashlib.sha256(f"{tag} {number}".encode()).digest()
        return system.gateway.upload(seed * (FILE_BYTES // len(seed)))

    with ThreadPoolExecutor(count) as programs:
        answers = list(programs.map(upload, range(count)))
        waiting = _waiting(system)
    known = {medium["id"] for medium in system.sandbox.media()}
    for code, media_id in answers:
        if code not in {None, 0}:
            raise AssertionError(f"a file of {tag} was refused: {code}")
        if code == 0 and media_id not in known:
            raise AssertionError(f"a file of {tag} was answered and is not at DingTalk")
    if waiting > UPLOADS:
        raise AssertionError(f"files of {waiting} bytes wait in Redis")
    if (taken := _highest(system.gateway.pid)) > MOST_MEMORY:
        raise AssertionError(f"the gateway has taken {taken} bytes")


_SUM = """
local sum = 0
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do sum = sum + redis.call('STRLEN', key) end
return sum
"""
"""At one moment: one file may go and another come between two commands."""


def _waiting(system: System) -> int:
    """Bytes of files in Redis; 0 while it is away."""
    with suppress(RedisError, OSError), system.valkey.connect() as redis:
        return int(redis.eval(_SUM, 0, "dingrelay:upload:*"))
    return 0


def _highest(pid: int) -> int:
    """Bytes that a process has taken at most so far; 0 if it is gone, or where /proc is not."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1_024
    return 0
