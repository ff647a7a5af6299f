"""The admin API under ``/_sandbox/``: set the state, script faults, let events happen, read reports."""

import asyncio
import inspect
import json
import time
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import BaseModel, Field, ValidationError, validate_call

from dingrelay_sandbox import index, reports
from dingrelay_sandbox.apps import App
from dingrelay_sandbox.door import LONGEST_SECONDS
from dingrelay_sandbox.events.callbacks import SUCCESS, Callback
from dingrelay_sandbox.events.event import Event
from dingrelay_sandbox.events.event_faults import EventFaultSpec
from dingrelay_sandbox.events.stream_gateway import StreamAct
from dingrelay_sandbox.faults import FaultSpec
from dingrelay_sandbox.limits import Latency
from dingrelay_sandbox.robots import Robot
from dingrelay_sandbox.scripted import Scripted, Spec
from dingrelay_sandbox.state import SandboxState
from dingrelay_sandbox.templates import Template

ROOT = "/_sandbox"
YEAR_SECONDS = 366 * 86_400
MOST_AT_ONCE = 100_000

Act = Callable[..., Any]
Fields = dict[str, Any]
Filled = Annotated[str, Field(min_length=1)]


_checked = validate_call(config={"arbitrary_types_allowed": True, "populate_by_name": True})


OfAll = dict[str, Callable[[SandboxState], object]]
OfOne = dict[str, Callable[[SandboxState, Any], object]]


def _of_faults(name: str, faults: Callable[[SandboxState], Scripted[Any]]) -> OfAll:
    return {
        f"GET {name}": lambda sandbox: faults(sandbox).report(),
        f"DELETE {name}": lambda sandbox: {"ended": faults(sandbox).delete()},
    }


def _of_fault(
    name: str, faults: Callable[[SandboxState], Scripted[Any]], spec: type[Spec]
) -> OfOne:
    return {
        f"POST {name}": lambda sandbox, body: {
            "id": faults(sandbox).add(spec.model_validate(body))
        },
        f"GET {name}/{{key}}": lambda sandbox, key: faults(sandbox).find(int(key)),
        f"DELETE {name}/{{key}}": lambda sandbox, key: {"ended": faults(sandbox).delete(int(key))},
    }


OF_ALL: OfAll = {
    **_of_faults("faults", lambda sandbox: sandbox.faults),
    **_of_faults("event-faults", lambda sandbox: sandbox.event_faults),
    "GET approvals": reports.approvals,
    "GET audit": reports.audit,
    "GET callbacks": lambda sandbox: [each.model_dump() for each in sandbox.callbacks.all()],
    "GET clock": lambda sandbox: {"now": sandbox.clock(), "offset": sandbox.clock.offset},
    "GET delivery": lambda sandbox: sandbox.delivery_times.model_dump(),
    "POST door/open": lambda sandbox: sandbox.door.open(),
    "GET dropped": _checked(reports.dropped),
    "GET events/summary": lambda sandbox: sandbox.events.summary(),
    "GET health": reports.health,
    "GET inboxes": _checked(reports.inboxes),
    "GET limits": lambda sandbox: sandbox.limits.model_dump(mode="json"),
    "GET media": lambda sandbox: sandbox.media,
    "GET organisation": reports.organisation,
    "GET robots": lambda sandbox: sandbox.robots.posts,
    "GET streams": lambda sandbox: sandbox.deliveries.stream.report(),
    "GET tokens": lambda sandbox: sandbox.tokens.values,
}
OF_ONE: OfOne = {
    **_of_fault("faults", lambda sandbox: sandbox.faults, FaultSpec),
    **_of_fault("event-faults", lambda sandbox: sandbox.event_faults, EventFaultSpec),
    "DELETE approvals/{key}": lambda sandbox, key: sandbox.approvals.delete(
        key, at=sandbox.clock()
    ),
    "DELETE callbacks/{key}": lambda sandbox, key: sandbox.callbacks.delete(key),
    "DELETE departments/{key}": lambda sandbox, key: sandbox.organisation.delete_department(
        int(key)
    ),
    "GET events/{key}": lambda sandbox, key: sandbox.events.report(key),
    "POST events/{key}/resend": lambda sandbox, key: sandbox.events.add(sandbox.events.find(key)),
    "PUT groups/{key}": lambda sandbox, key: sandbox.robots.groups.add(key),
    "GET inbox/{userid}": reports.inbox,
    "POST streams/act": lambda sandbox, body: {
        "met": sandbox.deliveries.stream.act(StreamAct.model_validate(body))
    },
    "DELETE users/{key}": lambda sandbox, key: sandbox.organisation.delete_user(key),
}
DECLARED: dict[str, Act] = {**OF_ALL, **OF_ONE}
"""Method and path → what is done. What path, query and body have is given by its name, all of the body as `body`."""


def route(at: str) -> Callable[[Act], Act]:
    """Declare a route by the function that checks what it is given. `request` is the request."""

    def declare(act: Act) -> Act:
        DECLARED[at] = _checked(act)
        return act

    return declare


def admin_routes(sandbox: SandboxState) -> list[web.RouteDef]:
    """All routes of the admin API."""
    acts = {**DECLARED, "* {rest:.*}": _no_such_route}
    return [
        web.route(method, f"{ROOT}/{path}", _answered(sandbox, act))
        for (method, path), act in ((at.split(" "), act) for at, act in acts.items())
    ]


def _answered(sandbox: SandboxState, act: Act) -> Any:
    """The act's result as JSON, {} for none; a bad request as HTTP 400 that says what is wrong."""
    names = inspect.signature(act).parameters

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            content: Any = json.loads(await request.read() or b"{}")
            given: Fields = {**request.query, **request.match_info}
            given |= {"body": content} if "body" in names else content
            if "request" in names:
                given["request"] = request
            content, status = act(sandbox, **given), 200
            if inspect.isawaitable(content):
                content = await content
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            field = ".".join(str(step) for step in first["loc"] if step != "body")
            content, status = {"error": f"{field}: {first['msg']}"}, 400
        except LookupError as error:
            content, status = {"error": str(error)}, 404
        except (TypeError, ValueError) as error:
            content, status = {"error": str(error)}, 400
        if isinstance(content, web.Response):
            return content
        text = "{}" if content is None else json.dumps(content)
        return web.Response(status=status, text=text, content_type="application/json")

    return handle


def _no_such_route(sandbox: SandboxState, request: web.Request, rest: str, body: object) -> None:
    raise LookupError(f"no such route: {request.method} {request.path}")


# What there is.


@route("GET ")
def _index(sandbox: SandboxState) -> web.Response:
    pages = (at.removeprefix("GET ") for at in DECLARED if at.startswith("GET ") and "{" not in at)
    return web.Response(text=index.page(sandbox, filter(None, pages)), content_type="text/html")


@route("POST reset")
async def _reset(sandbox: SandboxState) -> None:
    await sandbox.door.open()
    sandbox.deliveries.reset()
    sandbox.reset()


@route("POST seed")
def _seed(
    sandbox: SandboxState,
    users: Annotated[int, Field(ge=0, le=5_000_000)] = 2_000,
    departments: Annotated[int, Field(ge=1, le=100_000)] = 60,
    seed: int = 1,
) -> None:
    sandbox.organisation.seed(users=users, departments=departments, seed=seed)


@route("POST apps")
def _put_app(sandbox: SandboxState, body: App) -> None:
    sandbox.apps[body.app_key] = body


@route("PUT apps/{key}/secret")
def _change_secret(sandbox: SandboxState, key: str, secret: str) -> None:
    sandbox.apps[key] = sandbox.app(key).model_copy(update={"app_secret": secret})


@route("POST templates")
def _put_template(sandbox: SandboxState, body: Template) -> None:
    sandbox.approvals.templates[body.process_code] = body


@route("POST robots")
def _put_robot(sandbox: SandboxState, body: Robot) -> None:
    sandbox.robots.robots[body.token] = body


@route("GET groups/{key}")
def _group_page(sandbox: SandboxState, key: str) -> web.Response:
    return web.Response(text=sandbox.robots.page(key), content_type="text/html")


@route("POST robot-messages")
def _write_to_robot(
    sandbox: SandboxState,
    request: web.Request,
    app: str,
    text: str,
    user: str = "u1",
    group: str = "",
    session_seconds: float = 5_400,
) -> object:
    """A person writes to the robot of an app, in a group or alone."""
    addressed, at = sandbox.app(app), sandbox.clock()
    number = len(sandbox.robots.sessions) + 1
    session, place = f"session{number}", group or f"alone with {user}"
    sandbox.robots.sessions[session] = place, at + session_seconds
    fields: Fields = {
        "chatbotCorpId": addressed.organisation,
        "conversationId": place,
        "conversationType": "2" if group else "1",
        "createAt": int(at * 1000),
        "msgId": f"msg{number}",
        "msgtype": "text",
        "robotCode": addressed.robot,
        "senderNick": user,
        "senderStaffId": user,
        "sessionWebhook": f"http://{request.host}/robot/sendBySession?session={session}",
        "sessionWebhookExpiredTime": int((at + session_seconds) * 1000),
        "text": {"content": f" {text}" if group else text},
    }
    event = Event("/v1.0/im/bot/messages/get", at, fields, app=app)
    sandbox.events.add(event)
    return {"id": event.id}


@route("POST robots/read")
def _read_of_robot(sandbox: SandboxState, app: str, key: str, user: str) -> None:
    """A person reads a message of an app's robot."""
    at, post = sandbox.clock(), sandbox.robots.group_posts.get(key)
    sandbox.robots.read.setdefault(key, set()).add(user)
    fields = {
        "unionId": f"union-{user}",
        "operatTime": int(at * 1000),
        "robotCode": sandbox.app(app).robot,
        "openConversationId": post.group if post else "",
        "userId": user,
        "processQueryKey": key,
    }
    sandbox.events.add(Event("robot_msg_read", at, fields, app=app))


@route("PUT robots/flow-controlled")
def _flow_controlled(sandbox: SandboxState, body: set[str]) -> None:
    sandbox.robots.flow_controlled = body


@route("PUT users/{key}")
def _put_user(sandbox: SandboxState, key: str, body: Fields) -> None:
    sandbox.organisation.put_user(key, body)


@route("PUT departments/{key}")
def _put_department(sandbox: SandboxState, key: int, body: Fields) -> None:
    sandbox.organisation.put_department(key, body)


@route("POST limits")
def _change_limits(sandbox: SandboxState, body: Fields) -> object:
    sandbox.limiter.limits = sandbox.limits.changed(body)
    return sandbox.limits.model_dump(mode="json")


@route("POST latency")
def _change_latency(sandbox: SandboxState, body: Latency) -> None:
    sandbox.latency = body


@route("PUT clock")
def _set_clock(
    sandbox: SandboxState, offset: Annotated[float, Field(ge=-YEAR_SECONDS, le=YEAR_SECONDS)]
) -> object:
    sandbox.clock.offset = offset
    return OF_ALL["GET clock"](sandbox)


@route("POST door/shut")
async def _shut_door(
    sandbox: SandboxState,
    seconds: Annotated[float, Field(gt=0, le=LONGEST_SECONDS)],
) -> None:
    await sandbox.door.shut_for(seconds)


@route("POST tokens/revoke")
def _revoke_tokens(sandbox: SandboxState, app_key: str | None = None) -> object:
    return {"ended": sandbox.tokens.revoke(app_key)}


@route("POST tokens/expire")
def _expire_tokens(sandbox: SandboxState, app_key: str | None = None) -> object:
    return {"ended": sandbox.tokens.expire(sandbox.clock(), app_key)}


# What people do to approvals.


@route("POST approvals/{key}/advance")
def _advance(
    sandbox: SandboxState,
    key: str,
    result: Literal["agree", "refuse"] = "agree",
    remark: str = "",
    to_end: bool = False,
) -> object:
    """Let the approvers of the present step, or of all steps, decide."""
    approval = sandbox.approvals.find(key)
    if approval.status != "RUNNING":
        raise ValueError(f"the approval is {approval.status}")
    agree, at = result == "agree", sandbox.clock()
    approval.advance(agree=agree, at=at, remark=remark)
    while to_end and approval.status == "RUNNING":
        approval.advance(agree=agree, at=at, remark=remark)
    return {"status": approval.status, "result": approval.result}


@route("POST approvals/{key}/act")
def _act(
    sandbox: SandboxState,
    key: str,
    action: Literal["agree", "refuse", "redirect", "comment", "terminate"],
    user: Filled,
    to: str = "",
    remark: str = "",
) -> object:
    """A person does something in the client, without the limits of the API; a comment needs a remark."""
    approval, at = sandbox.approvals.find(key), sandbox.clock()
    if action == "redirect" and not to:
        raise ValueError("to: a person must be named")
    if action == "comment" and not remark:
        raise ValueError("remark: something must be said")
    for person in filter(None, (user, to)):
        if person not in sandbox.organisation.people:
            raise LookupError(f"user {person} does not exist")
    if approval.status != "RUNNING" and action != "comment":
        raise ValueError(f"the approval is {approval.status}")
    match action:
        case "agree" | "refuse":
            approval.decide(approval.task_of(user), agree=action == "agree", at=at, remark=remark)
        case "redirect":
            approval.redirect(approval.task_of(user), to, at=at, remark=remark)
        case "comment":
            approval.comment(user, remark, at=at)
        case "terminate":
            approval.terminate(user, at=at, remark=remark)
    return {"status": approval.status, "result": approval.result}


# Events.


class Fired(BaseModel, extra="forbid"):
    """An event that happens by hand.

    Attributes:
        type: any.
        fields: its own fields; one named as a common one, such as ``EventTime``, replaces it.
        event_id: one that was there before, or another; made up where none is given.
        app: the only app that gets it.
        age: seconds since it happened.
    """

    type: Filled
    fields: Fields = Field(default_factory=dict[str, Any])
    event_id: Filled = Field(default_factory=lambda: uuid.uuid4().hex)
    app: str | None = None
    age: float = 0


@route("PUT callbacks")
async def _put_callback(sandbox: SandboxState, check: bool = True, **fields: Any) -> None:
    callback = Callback.model_validate(fields)
    sandbox.app(callback.app_key)
    if check:
        outcome = await sandbox.deliveries.check(callback)
        if outcome != SUCCESS:
            raise ValueError(f"url: check_url was answered with: {outcome}")
    sandbox.callbacks.put(callback)


@route("POST delivery")
def _change_times(sandbox: SandboxState, body: Fields) -> object:
    sandbox.delivery_times = sandbox.delivery_times.changed(body)
    return sandbox.delivery_times.model_dump()


@route("GET events")
def _events(
    sandbox: SandboxState,
    since: float = 0,
    kind: Annotated[str, Field(alias="type")] = "",
    state: str = "",
    limit: int = MOST_AT_ONCE,
) -> object:
    return sandbox.events.reports(since=since, kind=kind, state=state, limit=limit)


@route("POST events")
def _fire(
    sandbox: SandboxState,
    events: Annotated[list[Fired], Field(min_length=1, max_length=MOST_AT_ONCE)],
    per_second: Annotated[float, Field(gt=0, le=100_000)] | None = None,
) -> object:
    """Events happen: all at once, or so many a second in the background."""
    if per_second is None:
        for each in events:
            _happen(sandbox, each)
    else:
        sandbox.events.planned += len(events)
        sandbox.deliveries.start(_fire_at_pace(sandbox, events, per_second))
    return {"ids": [each.event_id for each in events]}


def _happen(sandbox: SandboxState, fired: Fired) -> None:
    born = sandbox.clock() - fired.age
    sandbox.events.add(Event(fired.type, born, fired.fields, fired.event_id, app=fired.app))


async def _fire_at_pace(sandbox: SandboxState, events: list[Fired], per_second: float) -> None:
    began = time.monotonic()
    for number, each in enumerate(events):
        await asyncio.sleep(max(0.0, began + number / per_second - time.monotonic()))
        _happen(sandbox, each)
        sandbox.events.planned -= 1


# What really happened.


@route("GET calls")
def _calls(sandbox: SandboxState, since: float = 0, api: str = "", limit: int = 100_000) -> object:
    sandbox.connections.look()
    return sandbox.audit.calls(since=since, api=api, limit=limit)
