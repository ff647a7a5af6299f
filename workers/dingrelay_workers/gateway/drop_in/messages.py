"""Work notifications at the door: sent as jobs, queried and recalled by the door's task ids.

A task id here stands for a job, which may be several calls of DingTalk's or none, and whose call may
carry other jobs' recipients as well (API §2.1 to §2.4).
"""

import copy
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from dingrelay_producers.actor import ACTOR, EVERYTHING, current_actor
from dingrelay_producers.client.jobs import Jobs
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.errors import JobConflict
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus, json_object
from dingrelay_tasks.api_call import ApiCall
from dingrelay_tasks.context import SAME_CONTENT_CODE
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.message_result import NOBODY_REACHABLE
from dingrelay_tasks.message_send import MessageSend
from dingrelay_workers.gateway.drop_in import answers
from dingrelay_workers.gateway.drop_in.answers import DoorAnswer, Refusal, RefusalTexts
from dingrelay_workers.gateway.drop_in.incoming import Incoming, structured
from dingrelay_workers.gateway.drop_in.job_call import (
    Caller,
    refusal_of,
    run_change,
    run_read,
    verbatim,
)
from dingrelay_workers.http.problems import member

MOST_REPAIRS = 50
MESSAGE = "message"
_UNKNOWN = "extra_forbidden"
_NO_TEXT = "string_type"
_ABSENT = {"missing", "string_too_short"}


def message_send(to: Mapping[str, Any], message: Any) -> MessageSend:
    """The job that sends a message.

    Raises:
        Refusal: DingTalk would refuse it.
    """
    job = {"to": to, MESSAGE: copy.deepcopy(message)}
    for _ in range(MOST_REPAIRS):
        try:
            return MessageSend.parse(job)
        except ContractError as error:
            if not _repaired(job, error):
                raise Refusal(_refusal(error)) from None
    raise Refusal(answers.invalid("msg"))


def _repaired(job: dict[str, Any], error: ContractError) -> bool:
    """Whether the place that is wrong could be made as the contract wants it."""
    steps = error.field.split(".")
    if steps[0] != MESSAGE or len(steps) == 1:
        return False
    node: Any = job
    for step in steps[:-1]:
        node = member(node, step)
    if not isinstance(node, dict) or steps[-1] not in node:
        return False
    fields = cast("dict[str, Any]", node)
    if error.code == _UNKNOWN:
        del fields[steps[-1]]
        return True
    value = fields[steps[-1]]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if error.code == _NO_TEXT and is_number:
        fields[steps[-1]] = str(value)
        return True
    return False


def _refusal(error: ContractError) -> RefusalTexts:
    place = error.field
    if place == f"{MESSAGE}.msgtype":
        return answers.MESSAGE_TYPE
    if place.split(".")[0] == MESSAGE:
        place = "msg" + place.removeprefix(MESSAGE)
        if error.code == "string_too_long" or error.problem.startswith("more than"):
            return answers.RefusalTexts(34_016, f"消息内容过长 {place}", 400, "invalidParameter")
        if error.code in _ABSENT or error.problem.startswith("is required"):
            return answers.missing(place)
        return answers.RefusalTexts(40_035, f"不合法的参数 {place}", 400, "invalidParameter")
    return answers.invalid(place.replace("to.users", "userid_list"), error.problem)


CONVERSATION = "/topapi/message/corpconversation"
SEND = f"{CONVERSATION}/asyncsend_v2"
PROGRESS = f"{CONVERSATION}/getsendprogress"
RESULT = f"{CONVERSATION}/getsendresult"
RECALL = f"{CONVERSATION}/recall"
STATUS_BAR = f"{CONVERSATION}/status_bar/update"

MOST_USERS = 100
MOST_DEPARTMENTS = 20
LARGEST_TASK = 2**63
FINISHED = {"progress_in_percent": 100, "status": 2}
WAITING = {"progress_in_percent": 0, "status": 0}
UNFINISHED = answers.RefusalTexts(41_052, "发送进度未完成，暂时不返回结果", 400, "invalidParameter")
PER_DAY = 500
"""Messages of an app to one person (API §2.1)."""

_TRUE = frozenset({"true", "1"})
_LISTS = (
    "invalid_user_id_list",
    "forbidden_user_id_list",
    "failed_user_id_list",
    "read_user_id_list",
    "unread_user_id_list",
)


@dataclass(frozen=True, slots=True)
class Task:
    """The message that a task id stands for.

    Attributes:
        parameter: of the call, which named it.
        users: the people that the message named; None if it named departments or everyone.
        calls: DingTalk's task ids.
        status: of the job.
    """

    caller: Caller
    call: Incoming
    parameter: str
    users: frozenset[str] | None
    calls: Sequence[int]
    status: JobStatus

    @property
    def left_out(self) -> list[dict[str, Any]]:
        """Users left out by a silent limit, as DingTalk reports them."""
        result = self.status.result or {}
        return [
            {"code": code, "count": count, "userid": user}
            for name, code, count in (
                ("duplicate", SAME_CONTENT_CODE, 1),
                ("daily_cap", "143105", PER_DAY),
            )
            for user in result.get(name, [])
        ]

    @property
    def invalid(self) -> list[str]:
        """Users left out since they don't exist or don't see the app."""
        result = self.status.result or {}
        return [user for name in ("unknown_user", "out_of_scope") for user in result.get(name, [])]


async def answer(caller: Caller, call: Incoming) -> DoorAnswer:
    """One of the five calls.

    Raises:
        Refusal: DingTalk refuses it, or would.
    """
    if call.path == SEND:
        return await _send(caller, call)
    parameter, of_task = _OF_TASKS[call.path]
    return await of_task(await _find(caller, call, parameter))


async def _send(caller: Caller, call: Incoming) -> DoorAnswer:
    job = _message(call.fields)
    status = await run_change(caller, job, call)
    if status.state not in {State.DONE, State.DUPLICATE} and not reaches_nobody(status):
        raise Refusal(refusal_of(status))
    calls: list[Mapping[str, Any]] = (status.result or {}).get("calls", [])
    request_id = next(
        (str(call_made["request_id"]) for call_made in calls if call_made.get("request_id")), ""
    )
    task_id = await _note(caller, status.id)
    return answers.ok(task_id=task_id, request_id=request_id)


def reaches_nobody(status: JobStatus) -> bool:
    """Whether no recipient would get it, which DingTalk reports with the delivery only (API §2.3)."""
    return status.error is not None and status.error.code == NOBODY_REACHABLE


def _message(fields: Mapping[str, Any]) -> MessageSend:
    if not _text(fields, "agent_id"):
        raise Refusal(answers.missing("agent_id"))
    message = structured(fields.get("msg"))
    if message in (None, ""):
        raise Refusal(answers.missing("msg"))
    everyone = str(fields.get("to_all_user") or "").lower() in _TRUE
    users = [] if everyone else _parts(fields, "userid_list")
    departments = [] if everyone else _parts(fields, "dept_id_list")
    if not (everyone or users or departments):
        raise Refusal(answers.missing("userid_list,dept_id_list,to_all_user"))
    if len(users) > MOST_USERS:
        raise Refusal(answers.invalid("userid_list", f"最多{MOST_USERS}个"))
    if len(departments) > MOST_DEPARTMENTS:
        raise Refusal(answers.invalid("dept_id_list", f"最多{MOST_DEPARTMENTS}个"))
    to = {
        "users": list(dict.fromkeys(users)),
        "departments": [_whole(department, "dept_id_list") for department in departments],
        "everyone": everyone,
    }
    return message_send(to, message)


async def _progress(task: Task) -> DoorAnswer:
    if not task.status.state.ended:
        return answers.ok(progress=WAITING)
    worst: Mapping[str, Any] = FINISHED
    for answer in await _ask_for_each_call(task, PROGRESS):
        progress: Mapping[str, Any] = answer.get("progress") or WAITING
        worst = min(
            worst, progress, key=lambda progress_of_call: int(progress_of_call.get("status", 0))
        )
    return answers.ok(progress=dict(worst))


async def _result(task: Task) -> DoorAnswer:
    if not task.status.state.ended:
        raise Refusal(UNFINISHED)
    reports = await _ask_for_each_call(task, RESULT)
    results = [answer.get("send_result") or {} for answer in reports]
    result: dict[str, Any] = {
        name: [
            user
            for result_of_call in results
            for user in result_of_call.get(name) or []
            if _is_addressed(task, user)
        ]
        for name in _LISTS
    }
    result["invalid_dept_id_list"] = [
        dept
        for result_of_call in results
        for dept in result_of_call.get("invalid_dept_id_list") or []
    ]
    forbidden = [
        entry
        for result_of_call in results
        for entry in result_of_call.get("forbidden_list") or []
        if _is_addressed(task, entry.get("userid"))
    ]
    result["forbidden_list"] = [*forbidden, *task.left_out]
    result["invalid_user_id_list"] += task.invalid
    result["forbidden_user_id_list"] += [entry["userid"] for entry in task.left_out]
    return answers.ok(send_result=result)


async def _recall(task: Task) -> DoorAnswer:
    if not task.status.state.ended:
        # It has not left: cancel it, as there is nothing to recall.
        with suppress(JobConflict):
            if (await _cancel(task)).state == State.CANCELLED:
                return answers.ok()
        raise Refusal(answers.BUSY)
    await _check_own(task)
    keepers = await _keepers_of(task)
    await _ask_for_each_call(task, RECALL)
    if keepers:
        problem = (
            f"{', '.join(keepers)} keep the message: they have it by a call whose answer was lost"
        )
        raise Refusal(answers.invalid(task.parameter, problem))
    return answers.ok()


async def _cancel(task: Task) -> JobStatus:
    """Cancel the job of a task, which is its caller's own as `_find` has seen, whatever the scopes of its key."""
    ACTOR.set(current_actor()._replace(reach=EVERYTHING))
    context = task.caller.context
    return await context.steps.carry_out(Jobs(context.settings).cancel(task.status.id))


async def _keepers_of(task: Task) -> list[str]:
    """People reached by a call whose answer was lost: only its repeat can be recalled."""
    calls: list[Mapping[str, Any]] = (task.status.result or {}).get("calls", [])
    repeats = [bool(call.get("repeated")) for call in calls]
    if not any(repeats):
        return []
    reports = await _ask_for_each_call(task, RESULT)
    return [
        entry["userid"]
        for repeated, answer in zip(repeats, reports, strict=True)
        if repeated
        for entry in (answer.get("send_result") or {}).get("forbidden_list") or []
        if str(entry.get("code")) == SAME_CONTENT_CODE and _is_addressed(task, entry.get("userid"))
    ]


async def _status_bar(task: Task) -> DoorAnswer:
    if not task.status.state.ended:
        raise Refusal(UNFINISHED)
    await _check_own(task)
    fields = {name: value for name, value in task.call.fields.items() if name.startswith("status_")}
    await _ask_for_each_call(task, STATUS_BAR, fields)
    return answers.ok()


async def _check_own(task: Task) -> None:
    """Refuse to change what others have sent in the same call: DingTalk changes all of it."""
    if task.users is None:
        return
    for answer in await _ask_for_each_call(task, RESULT):
        result = answer.get("send_result") or {}
        reached = {user for name in _LISTS for user in result.get(name) or []}
        if not all(_is_addressed(task, user) for user in reached):
            problem = "the message shared its call with others, and can't be changed alone"
            raise Refusal(answers.invalid(task.parameter, problem))


async def _ask_for_each_call(
    task: Task, path: str, fields: Mapping[str, Any] | None = None
) -> list[Mapping[str, Any]]:
    """DingTalk's answers for each of the task's calls.

    Raises:
        Refusal: it refuses one of them.
    """
    name, _ = _OF_TASKS[path]
    answers: list[Mapping[str, Any]] = []
    for number in task.calls:
        body = {"agent_id": task.call.fields.get("agent_id"), name: number, **(fields or {})}
        job = ApiCall.parse({"method": "POST", "path": path, "body": body})
        if job.effect == "none":
            status = await run_read(task.caller, job)
        else:
            job = job.model_copy(update={"effect": "repeatable"})
            equal = ["POST", path, body]
            status = await run_change(task.caller, job, task.call, equal, repeatable=True)
        if status.state != State.DONE:
            raise Answered(verbatim(status, path))
        answers.append(verbatim(status, path).content)
    return answers


_OF_TASKS: Mapping[str, tuple[str, Callable[[Task], Awaitable[DoorAnswer]]]] = {
    PROGRESS: ("task_id", _progress),
    RESULT: ("task_id", _result),
    RECALL: ("msg_task_id", _recall),
    STATUS_BAR: ("task_id", _status_bar),
}
"""Path → the parameter that names the task, and what answers."""
PATHS = frozenset({SEND, *_OF_TASKS})


class Answered(Exception):
    """The call ends here, with this answer."""

    def __init__(self, answer: DoorAnswer) -> None:
        super().__init__("answered")
        self.answer = answer


def _is_addressed(task: Task, user: object) -> bool:
    return task.users is None or user in task.users


async def _note(caller: Caller, job_id: str) -> int:
    """The task id of a job, the same at each call."""
    task_id = int.from_bytes(hashlib.sha256(job_id.encode()).digest()[:6], "big") or 1
    async with asking():
        await caller.context.redis.set(
            keys.door_task(caller.id, str(task_id)), job_id, px=keys.DOOR_TASK_TTL_MS
        )
    return task_id


async def _find(caller: Caller, call: Incoming, name: str) -> Task:
    if not _text(call.fields, "agent_id"):
        raise Refusal(answers.missing("agent_id"))
    if call.fields.get(name) in (None, ""):
        raise Refusal(answers.missing(name))
    task_id = _whole(call.fields[name], name)
    async with asking():
        stored_id = await caller.context.redis.get(keys.door_task(caller.id, str(task_id)))
    if stored_id is None:
        raise Refusal(answers.invalid(name))
    job_id = stored_id if isinstance(stored_id, str) else stored_id.decode()
    fields = record.fields(await caller.context.records.run(record.read(job_id, payload=True)))
    if b"state" not in fields:
        raise Refusal(answers.invalid(name))
    status = JobStatus.from_record(job_id, fields)
    calls = [int(call_made["task_id"]) for call_made in (status.result or {}).get("calls", [])]
    to = json_object(fields[b"payload"])["to"]
    recipients = None if to.get("departments") or to.get("everyone") else frozenset(to["users"])
    return Task(caller, call, name, recipients, calls, status)


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return str(value).strip() if isinstance(value, (str, int)) else ""


def _parts(fields: Mapping[str, Any], name: str) -> list[str]:
    """A list that travels as comma-separated text, or as a list."""
    value = structured(fields.get(name))
    if value is None or value == "":
        return []
    listed: list[Any] = value if isinstance(value, list) else str(value).split(",")
    return [part for part_text in listed if (part := str(part_text).strip())]


def _whole(value: object, name: str) -> int:
    try:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise ValueError  # noqa: TRY004, TRY301 - as a text that is no number
        number = int(value)
    except ValueError:
        raise Refusal(answers.invalid(name)) from None
    if abs(number) >= LARGEST_TASK:
        raise Refusal(answers.invalid(name))
    return number
