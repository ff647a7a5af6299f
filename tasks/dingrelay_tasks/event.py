"""event: an event of DingTalk (API §7.3), and what follows from it.

`CONSEQUENCES` is the table from an event's type to its action. Events hold ids only, and may arrive
twice, late and in any order. So the action is to ask DingTalk for the current state, whatever the event
says; the directory keeps the newest answer.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, TypeVar, cast

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from dingrelay_tasks.approval_event import APPROVAL_EVENTS, change_of
from dingrelay_tasks.context import Context, remember, since
from dingrelay_tasks.contract import (
    EVENTS_QUEUE,
    Contract,
    DepartmentId,
    DingTalkJson,
    Json,
    Part,
    UserId,
)
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.organisation import Department
from dingrelay_tasks.outcomes import OutOfScope, Refused, Wait
from dingrelay_tasks.sentence import en
from dingrelay_tasks.user_sync import (
    ASKED_AT_ONCE,
    look_up_each,
    look_up_unmet,
    spawn_walks,
    wait_for_walks,
    write_user,
)

_Id = TypeVar("_Id", int, str)

LONGEST_EVENT_ID = 256
"""Characters; DingTalk's ids are UUIDs and the like."""

EXEMPT = ("user_", "org_", "label_")
"""Begins the types of contact events, which are no part of the month's Webhook & Stream messages (API §6)."""


def _text(field: Any) -> Any:
    return str(field) if type(field) is int else field


def _number(field: Any) -> Any:
    return int(field) if isinstance(field, str) else field


_USER_ID: TypeAdapter[str] = TypeAdapter(UserId)
_USER_IDS = TypeAdapter(list[Annotated[UserId, BeforeValidator(_text)]])
_DEPARTMENT_IDS = TypeAdapter(list[Annotated[DepartmentId, BeforeValidator(_number)]])
"""Ids in events, where a number may come as text, and a text as a number."""


class Event(Contract):
    """An event of DingTalk's.

    Attributes:
        event_type: such as ``user_add_org``.
        event_id: DingTalk's id, the same at each delivery; empty if there is none.
        corp_id: the organisation; empty if DingTalk did not say.
        born_at: when it happened by DingTalk's clock, in ms since the epoch, if DingTalk said so.
        data: all other fields, as DingTalk sent them.
    """

    event_type: Annotated[str, Field(min_length=1, max_length=128)]
    event_id: Annotated[str, Field(max_length=LONGEST_EVENT_ID)] = ""
    corp_id: Annotated[str, Field(max_length=128)] = ""
    born_at: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    data: DingTalkJson = Field(default_factory=dict[str, Any])

    @property
    def identity(self) -> str:
        """DingTalk's id, or a digest of the content: a repeated event is the same job."""
        if self.event_id:
            return self.event_id
        content = [self.event_type, self.corp_id, self.born_at, self.data]
        return "content:" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


class EventResult(Part):
    """Consequences of an event.

    Attributes:
        follows: ``directory``, ``approval``, ``message``, or ``nothing``: only webhooks get it.
        departments: departments that were queried.
        users: people that were queried, one by one.
        gone: departments and people among them that it does not know.
        added: people that were not in the directory before, or had left.
        changed: people with a field that has another value than before.
        left: people marked as left.
    """

    follows: str = "nothing"
    departments: int = 0
    users: int = 0
    gone: int = 0
    added: int = 0
    changed: int = 0
    left: int = 0


@kind(
    "event",
    Event,
    summary="{0.event_type}",
    queue=EVENTS_QUEUE,
    api="contacts.user",
    steps=("user:", "again:", "leader:", "departments.leaders", "again.leaders"),
)
async def run(job: Event, ctx: Context) -> Json:
    """Do what follows from the event; an `EventResult` as JSON."""
    follow = CONSEQUENCES.get(job.event_type)
    result = await follow(job, ctx) if follow else EventResult()
    if not job.event_type.startswith(EXEMPT):
        ctx.count_push()
    return result.model_dump()


async def _refresh_users(job: Event, ctx: Context, *, present: bool) -> EventResult:
    """Ask for the event's people. `present`: the event says that they are in the organisation."""
    users = _ids(job, "userId", _USER_IDS)
    reports = await _read_users(users, ctx, step="user")
    contradicted = [user for user in users if reports[user]["there"] is not present]
    if contradicted := [user for user in contradicted if reports[user]["there"] is not None]:
        await _let_dingtalk_settle(ctx)
        reports |= await _read_users(contradicted, ctx, step="again")
    return EventResult(
        follows="directory",
        users=len(users),
        gone=sum(report["there"] is False for report in reports.values()),
        # Each holds the counts of the job's whole run.
        added=max(report["added"] for report in reports.values()),
        changed=max(report["changed"] for report in reports.values()),
        left=max(report["left"] for report in reports.values()),
    )


async def _read_users(users: Sequence[str], ctx: Context, *, step: str) -> dict[str, Json]:
    """Ask for each of them and write the answers; what is remembered of that.

    Raises:
        Wait: they are more than one run asks for, or were read too early.
    """
    reports: dict[str, Json] = {}
    queries = 0
    for user in users:
        name = f"{step}:{user}"
        if await ctx.step_result(name) is None:
            if queries == ASKED_AT_ONCE:
                raise Wait(
                    timedelta(0), en("{} people are left to read", len(users) - len(reports))
                )
            queries += 1
        reports[user] = await ctx.once(name, partial(_read_user, user, ctx))
    return reports


async def _read_user(user: str, ctx: Context) -> Json:
    """Ask for one person and write the answer. `there` is None if the app may not see them.

    Raises:
        Wait: the answer is older than what is known of a department that it names.
    """
    try:
        member = await ctx.contacts.user(user)
    except OutOfScope:
        return {"there": None, "added": 0, "changed": 0, "left": 0}
    written = await write_user(user, member, ctx)
    return {
        "there": member is not None,
        "added": written.added,
        "changed": written.changed,
        "left": written.left,
    }


async def _refresh_departments(job: Event, ctx: Context, *, present: bool) -> EventResult:
    """Ask for the event's departments, each by itself: what is below one is not touched by it.

    Only one that the directory did not know is walked, with all below it: it is new, and mostly
    empty, or the app may see it since now. Of one that is gone the members are queried, since
    DingTalk puts them elsewhere.
    """
    numbers = _ids(job, "deptId", _DEPARTMENT_IDS)
    departments = await ctx.once("departments", partial(_read_departments, job, numbers, ctx))
    if contradicted := departments["gone"] if present else departments["there"]:
        await _let_dingtalk_settle(ctx)
        second_look = await ctx.once("again", partial(_read_departments, job, contradicted, ctx))
        undisputed = set(numbers).difference(contradicted)
        departments = {
            name: [entry for entry in departments[name] if name == "leaders" or entry in undisputed]
            + second_look[name]
            for name in departments
        }
    for number in departments["gone"]:
        await ctx.once(f"gone:{number}", partial(_vanish, number, ctx))
    leaders = sorted(set(departments["leaders"]))
    await _read_users(leaders, ctx, step="leader")
    await wait_for_walks(job, ctx)
    await look_up_unmet(ctx, confirm_removals=True)
    closed = await ctx.directory.close_run(ctx.job_id, confirm_removals=True)
    return EventResult(
        follows="directory",
        departments=len(numbers),
        users=len(leaders),
        gone=len(departments["gone"]),
        added=closed.added,
        changed=closed.changed,
        left=closed.left,
    )


async def _read_departments(job: Event, numbers: Sequence[int], ctx: Context) -> Json:
    """Ask for the departments and write the answers, in the job's run.

    Returns:
        Which are there and which are gone, and the people who head one since now, or no longer do.
    """
    existing: list[Department] = []
    hidden: list[int] = []
    missing: list[int] = []
    await look_up_each(numbers, ctx.contacts.department, met=existing, hidden=hidden, gone=missing)
    unknown = await ctx.directory.unknown_departments(
        ctx.job_id, [department.id for department in existing]
    )
    roots = [department for department in existing if department.id in unknown]
    await ctx.directory.open_run(ctx.job_id, scope="event", roots=roots, calls=0)
    # Departments that are gone stay until DingTalk has confirmed that.
    await ctx.directory.note_departments(ctx.job_id, met=existing, hidden=hidden, gone=[])
    await spawn_walks(job, ctx.job_id, unknown, ctx)
    followed = [department for department in existing if department.id not in unknown]
    return {
        "there": [department.id for department in existing],
        "gone": missing,
        "leaders": [
            user for department in followed for user in await _changed_leaders(department, ctx)
        ],
    }


async def _changed_leaders(department: Department, ctx: Context) -> list[str]:
    """The new heads of the department, and the former ones."""
    managers = department.fields.get("dept_manager_userid_list")
    if not isinstance(managers, list):
        return []
    leaders = {user for user in cast("Sequence[Any]", managers) if _is_user_id(user)}
    return sorted(leaders.symmetric_difference(await ctx.directory.leaders(department.id)))


async def _vanish(number: int, ctx: Context) -> Json:
    """Take a department that is gone out of the directory, once: its members are as old as that."""
    await ctx.directory.vanish(ctx.job_id, number, calls=0)
    return {"gone": True}


async def _let_dingtalk_settle(ctx: Context) -> None:
    """Wait once: what DingTalk says contradicts its event, and may be what was before it."""
    await _wait_once(ctx, en("DingTalk's answer contradicts the event"))


async def _wait_once(ctx: Context, reason: str) -> None:
    """Look again after a while.

    Raises:
        Wait: the first time.
    """
    if await ctx.step_result("settle") is None:
        await remember(ctx, "settle", {"waited": True})
        raise Wait(ctx.settle_delay, reason)


def _ids(job: Event, name: str, adapter: TypeAdapter[list[_Id]]) -> list[_Id]:
    """The ids in a field of the event, without repeats.

    Raises:
        Refused: the field holds none, or something else.
    """
    field = value(job.data, name)
    try:
        ids = adapter.validate_python(field if isinstance(field, list) else [field])
    except ValidationError:
        ids = []
    if not ids:
        raise Refused(
            "event_unreadable",
            en("data.{}: the event {} holds no ids there", name, job.event_type),
            "run `dingrelay sync`, which finds the change",
        )
    return list(dict.fromkeys(ids))


def lacks_ids(job: Event) -> bool:
    """Whether it is an event of people, departments or an approval that does not say which."""
    try:
        if job.event_type in _OF_USERS:
            _ids(job, "userId", _USER_IDS)
        if job.event_type in _OF_DEPARTMENTS:
            _ids(job, "deptId", _DEPARTMENT_IDS)
    except Refused:
        return True
    return job.event_type in APPROVAL_EVENTS and change_of(job.event_type, job.data) is None


def value(data: Mapping[str, Any], name: str) -> Any:
    """A field of an event whose name may be written in other letters (API §7.3); None if absent."""
    if name in data:
        return data[name]
    lower_name = name.lower()
    return next((field for spelling, field in data.items() if spelling.lower() == lower_name), None)


def _is_user_id(userid: Any) -> bool:
    try:
        _USER_ID.validate_python(userid)
    except ValidationError:
        return False
    return True


async def _record_approval(job: Event, ctx: Context) -> EventResult:
    """Apply the event's change to its approval, if that is followed.

    Raises:
        Refused: the event names no approval.
    """
    change = change_of(job.event_type, job.data)
    if change is None:
        raise Refused(
            "event_unreadable",
            en("data: the event {} names no approval", job.event_type),
            "nothing: approvals that are followed are looked up again",
        )
    followed = await ctx.approval_states.record(change, at=ctx.now(), early=True)
    if followed is None and ctx.approval_states.follows:
        # DingTalk may send an event of an approval before it answers the job that creates it.
        await _wait_once(ctx, en("the approval may be one that is just being created"))
        followed = await ctx.approval_states.record(change, at=ctx.now())
    return EventResult(follows="approval" if followed else "nothing")


RECEIPTS = {"robot_msg_read": "read", "robot_msg_recall": "recalled"}
"""Events of a message of an enterprise robot (API §12.8) → its outcome."""
LONGEST_WRITE = timedelta(minutes=15)
"""Longest time until the history has the job of a message; it is queried for ten minutes."""


async def _note_receipt(job: Event, ctx: Context) -> EventResult:
    """Note who has read a message, or that it was recalled: in a group for all."""
    key, group = value(job.data, "processQueryKey"), value(job.data, "openConversationId")
    recalled = job.event_type == "robot_msg_recall"
    users = [] if recalled and group else _ids(job, "userId", _USER_IDS)
    noted = await ctx.robots.note(str(key), users, RECEIPTS[job.event_type])
    if noted is False and ctx.now() - await since(ctx, "waiting") < LONGEST_WRITE:
        raise Wait(timedelta(minutes=1), "the history has not got the message yet")
    return EventResult(follows="message" if noted else "nothing")


Follow = Callable[[Event, Context], Awaitable[EventResult]]

_OF_USERS: Mapping[str, Follow] = {
    "user_add_org": partial(_refresh_users, present=True),
    "user_modify_org": partial(_refresh_users, present=True),
    "user_active_org": partial(_refresh_users, present=True),
    "user_leave_org": partial(_refresh_users, present=False),
}
_OF_DEPARTMENTS: Mapping[str, Follow] = {
    "org_dept_create": partial(_refresh_departments, present=True),
    "org_dept_modify": partial(_refresh_departments, present=True),
    "org_dept_remove": partial(_refresh_departments, present=False),
}
CONSEQUENCES: Mapping[str, Follow] = {
    **_OF_USERS,
    **_OF_DEPARTMENTS,
    **dict.fromkeys(APPROVAL_EVENTS, _record_approval),
    **dict.fromkeys(RECEIPTS, _note_receipt),
}
"""The action of each type of event. Others have none; webhooks get all."""
