"""The admin API under ``/_sandbox/``: set the state, script faults, let events happen, read reports."""

import asyncio
import inspect
import json
import time
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from aiohttp import web
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, model_validator

from dingrelay_sandbox import reports
from dingrelay_sandbox.apps import App
from dingrelay_sandbox.door import DOOR, LONGEST_SECONDS
from dingrelay_sandbox.events.callbacks import SUCCESS, Callback
from dingrelay_sandbox.events.delivery import DELIVERIES
from dingrelay_sandbox.events.event import Event
from dingrelay_sandbox.events.event_faults import EventFaultSpec
from dingrelay_sandbox.events.log import EventLog
from dingrelay_sandbox.events.organisation_churn import Churn
from dingrelay_sandbox.events.stream_gateway import StreamAct
from dingrelay_sandbox.faults import FaultSpec
from dingrelay_sandbox.limits import Latency
from dingrelay_sandbox.robots import Robot
from dingrelay_sandbox.state import SandboxState
from dingrelay_sandbox.templates import Template

ROOT = "/_sandbox"
YEAR_SECONDS = 366 * 86_400
MOST_ROWS = "100000"
MOST_CONTENTS = "10000"
MOST_EVENTS = "1000"
MOST_AT_ONCE = 100_000
PACE_SECONDS = 0.01
"""Between two handfuls of events that happen so many a second."""

Act = Callable[..., Any]
"""Of the state, the request and, where a body is taken, what it holds; may be a coroutine function."""
ROUTES: list[tuple[str, str, TypeAdapter[Any] | None, Act]] = []


def route(method: str, path: str, takes: Any = None) -> Callable[[Act], Act]:
    """Declare a route; `takes` is what its body must hold."""

    def declare(act: Act) -> Act:
        ROUTES.append((method, path, TypeAdapter(takes) if takes else None, act))
        return act

    return declare


def admin_routes(state: SandboxState) -> list[web.RouteDef]:
    """All routes of the admin API."""
    routes = [
        web.route(method, f"{ROOT}/{path}", _answered(state, takes, act))
        for method, path, takes, act in ROUTES
    ]
    return [*routes, web.route("*", f"{ROOT}/{{rest:.*}}", _answered(state, None, _no_such_route))]


def _answered(state: SandboxState, takes: TypeAdapter[Any] | None, act: Act) -> Any:
    """The act's result as JSON, {} for none; a bad request as HTTP 400 that says what is wrong."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            body = [takes.validate_json(await request.read() or b"{}")] if takes else []
            content, status = act(state, request, *body), 200
            if inspect.isawaitable(content):
                content = await content
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            field = ".".join(str(step) for step in first["loc"])
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


def _no_such_route(state: SandboxState, request: web.Request) -> None:
    raise LookupError(f"no such route: {request.method} {request.path}")


def _id(request: web.Request) -> str:
    return request.match_info["id"]


# What there is.


class Seed(BaseModel, extra="forbid"):
    """An organisation to make up: the same numbers make the same people."""

    users: Annotated[int, Field(ge=0, le=5_000_000)] = 2_000
    departments: Annotated[int, Field(ge=1, le=100_000)] = 60
    seed: int = 1


class Secret(BaseModel, extra="forbid"):
    """An app's new secret."""

    secret: str


class TokenChoice(BaseModel, extra="forbid"):
    """Whose tokens; all without a key."""

    app_key: str | None = None


class Offset(BaseModel, extra="forbid"):
    """By how many seconds the sandbox's clock is ahead of the machine's."""

    offset: Annotated[float, Field(ge=-YEAR_SECONDS, le=YEAR_SECONDS)]


class Shut(BaseModel, extra="forbid"):
    """For how long connections are refused."""

    seconds: Annotated[float, Field(gt=0, le=LONGEST_SECONDS)]


@route("POST", "reset")
async def _reset(state: SandboxState, request: web.Request) -> None:
    await request.app[DOOR].open()
    request.app[DELIVERIES].reset()
    state.reset()


@route("POST", "seed", Seed)
def _seed(state: SandboxState, request: web.Request, seed: Seed) -> None:
    state.organisation.seed(**seed.model_dump())


@route("POST", "apps", App)
def _put_app(state: SandboxState, request: web.Request, app: App) -> None:
    state.apps[app.app_key] = app


@route("PUT", "apps/{id}/secret", Secret)
def _change_secret(state: SandboxState, request: web.Request, wanted: Secret) -> None:
    app = state.app(_id(request))
    state.apps[app.app_key] = app.model_copy(update={"app_secret": wanted.secret})


@route("POST", "templates", Template)
def _put_template(state: SandboxState, request: web.Request, template: Template) -> None:
    state.approvals.templates[template.process_code] = template


@route("POST", "robots", Robot)
def _put_robot(state: SandboxState, request: web.Request, robot: Robot) -> None:
    state.robots.robots[robot.token] = robot


@route("PUT", "groups/{id}")
def _put_group(state: SandboxState, request: web.Request) -> None:
    state.robots.groups.add(_id(request))


@route("GET", "groups/{id}")
def _group_page(state: SandboxState, request: web.Request) -> web.Response:
    return web.Response(text=state.robots.page(_id(request)), content_type="text/html")


class RobotMention(BaseModel, extra="forbid"):
    """A message that a person writes to the robot of an app, in a group or alone."""

    app: str
    text: str
    user: str = "u1"
    group: str = ""
    session_seconds: float = 5_400


@route("POST", "robot-messages", RobotMention)
def _write_to_robot(state: SandboxState, request: web.Request, said: RobotMention) -> object:
    app, at = state.app(said.app), state.clock()
    number = len(state.robots.sessions) + 1
    session, place = f"session{number}", said.group or f"alone with {said.user}"
    state.robots.sessions[session] = place, at + said.session_seconds
    fields: dict[str, Any] = {
        "chatbotCorpId": app.organisation,
        "conversationId": place,
        "conversationType": "2" if said.group else "1",
        "createAt": int(at * 1000),
        "msgId": f"msg{number}",
        "msgtype": "text",
        "robotCode": app.robot,
        "senderNick": said.user,
        "senderStaffId": said.user,
        "sessionWebhook": f"http://{request.host}/robot/sendBySession?session={session}",
        "sessionWebhookExpiredTime": int((at + said.session_seconds) * 1000),
        "text": {"content": f" {said.text}" if said.group else said.text},
    }
    event = Event("/v1.0/im/bot/messages/get", at, fields, app=app.app_key)
    state.events.add(event)
    return {"id": event.id}


class RobotRead(BaseModel, extra="forbid"):
    """A person reads a message of an app's robot."""

    app: str
    key: str
    user: str


@route("POST", "robots/read", RobotRead)
def _read_of_robot(state: SandboxState, request: web.Request, read: RobotRead) -> None:
    app, at, post = state.app(read.app), state.clock(), state.robots.group_posts.get(read.key)
    state.robots.read.setdefault(read.key, set()).add(read.user)
    fields = {
        "unionId": f"union-{read.user}",
        "operatTime": int(at * 1000),
        "robotCode": app.robot,
        "openConversationId": post.group if post else "",
        "userId": read.user,
        "processQueryKey": read.key,
    }
    state.events.add(Event("robot_msg_read", at, fields, app=app.app_key))


@route("PUT", "robots/flow-controlled", list[str])
def _flow_controlled(state: SandboxState, request: web.Request, users: list[str]) -> None:
    state.robots.flow_controlled = set(users)


@route("PUT", "users/{id}", dict[str, Any])
def _put_user(state: SandboxState, request: web.Request, changes: dict[str, Any]) -> None:
    state.organisation.put_user(_id(request), changes)


@route("DELETE", "users/{id}")
def _delete_user(state: SandboxState, request: web.Request) -> None:
    state.organisation.delete_user(_id(request))


@route("PUT", "departments/{id}", dict[str, Any])
def _put_department(state: SandboxState, request: web.Request, changes: dict[str, Any]) -> None:
    state.organisation.put_department(int(_id(request)), changes)


@route("DELETE", "departments/{id}")
def _delete_department(state: SandboxState, request: web.Request) -> None:
    state.organisation.delete_department(int(_id(request)))


@route("GET", "limits")
def _limits(state: SandboxState, request: web.Request) -> object:
    return state.limits.model_dump(mode="json")


@route("POST", "limits", dict[str, Any])
def _change_limits(state: SandboxState, request: web.Request, patch: dict[str, Any]) -> object:
    state.limiter.change(state.limits.changed(patch))
    return state.limits.model_dump(mode="json")


@route("POST", "latency", Latency)
def _change_latency(state: SandboxState, request: web.Request, latency: Latency) -> None:
    state.latency = latency


@route("GET", "clock")
def _clock(state: SandboxState, request: web.Request) -> object:
    return {"now": state.clock(), "offset": state.clock.offset}


@route("PUT", "clock", Offset)
def _set_clock(state: SandboxState, request: web.Request, wanted: Offset) -> object:
    state.set_clock(wanted.offset)
    return _clock(state, request)


@route("POST", "door/shut", Shut)
async def _shut_door(state: SandboxState, request: web.Request, wanted: Shut) -> None:
    await request.app[DOOR].shut_for(wanted.seconds)


@route("POST", "door/open")
async def _open_door(state: SandboxState, request: web.Request) -> None:
    await request.app[DOOR].open()


@route("GET", "tokens")
def _tokens(state: SandboxState, request: web.Request) -> object:
    return state.tokens.values


@route("POST", "tokens/revoke", TokenChoice)
def _revoke_tokens(state: SandboxState, request: web.Request, choice: TokenChoice) -> object:
    return {"ended": state.tokens.revoke(choice.app_key)}


@route("POST", "tokens/expire", TokenChoice)
def _expire_tokens(state: SandboxState, request: web.Request, choice: TokenChoice) -> object:
    return {"ended": state.tokens.expire(state.clock(), choice.app_key)}


# Faults of calls, and those of events.


@route("POST", "faults", FaultSpec)
def _add_fault(state: SandboxState, request: web.Request, spec: FaultSpec) -> object:
    return {"id": state.faults.add(spec)}


@route("POST", "event-faults", EventFaultSpec)
def _add_event_fault(state: SandboxState, request: web.Request, spec: EventFaultSpec) -> object:
    return {"id": state.event_faults.add(spec)}


@route("GET", "faults")
def _faults(state: SandboxState, request: web.Request) -> object:
    return state.faults.report()


@route("GET", "event-faults")
def _event_faults(state: SandboxState, request: web.Request) -> object:
    return state.event_faults.report()


@route("GET", "faults/{id}")
def _fault(state: SandboxState, request: web.Request) -> object:
    return state.faults.find(int(_id(request)))


@route("DELETE", "faults")
@route("DELETE", "faults/{id}")
def _end_faults(state: SandboxState, request: web.Request) -> object:
    number = request.match_info.get("id")
    return {"ended": state.faults.delete(int(number) if number else None)}


@route("DELETE", "event-faults")
@route("DELETE", "event-faults/{id}")
def _end_event_faults(state: SandboxState, request: web.Request) -> object:
    number = request.match_info.get("id")
    return {"ended": state.event_faults.delete(int(number) if number else None)}


# What people do to approvals.


class Decision(BaseModel, extra="forbid"):
    """What those decide who are asked in the step that an approval is in, or in all to come."""

    result: Literal["agree", "refuse"] = "agree"
    remark: str = ""
    to_end: bool = False


class Deed(BaseModel, extra="forbid"):
    """What a person does to an approval in the client, without the limits of the API.

    Attributes:
        user: who; must have an open task to agree, refuse or redirect.
        to: who a task is handed to.
        remark: what is said; a comment needs it.
    """

    action: Literal["agree", "refuse", "redirect", "comment", "terminate"]
    user: Annotated[str, Field(min_length=1)]
    to: str = ""
    remark: str = ""

    @model_validator(mode="after")
    def _has_what_its_action_needs(self) -> Self:
        if self.action == "redirect" and not self.to:
            raise ValueError("to: a person must be named")
        if self.action == "comment" and not self.remark:
            raise ValueError("remark: something must be said")
        return self


@route("POST", "approvals/{id}/advance", Decision)
def _advance(state: SandboxState, request: web.Request, wanted: Decision) -> object:
    flow = state.approvals.find(_id(request)).flow
    if flow.status != "RUNNING":
        raise ValueError(f"the approval is {flow.status}")
    agree, at = wanted.result == "agree", state.clock()
    flow.advance(agree=agree, at=at, remark=wanted.remark)
    while wanted.to_end and flow.status == "RUNNING":
        flow.advance(agree=agree, at=at, remark=wanted.remark)
    return {"status": flow.status, "result": flow.result}


@route("POST", "approvals/{id}/act", Deed)
def _act(state: SandboxState, request: web.Request, wanted: Deed) -> object:
    flow, at = state.approvals.find(_id(request)).flow, state.clock()
    for person in filter(None, (wanted.user, wanted.to)):
        if person not in state.organisation.people:
            raise LookupError(f"user {person} does not exist")
    if flow.status != "RUNNING" and wanted.action != "comment":
        raise ValueError(f"the approval is {flow.status}")
    match wanted.action:
        case "agree" | "refuse":
            agree = wanted.action == "agree"
            flow.decide(flow.task_of(wanted.user), agree=agree, at=at, remark=wanted.remark)
        case "redirect":
            flow.redirect(flow.task_of(wanted.user), wanted.to, at=at, remark=wanted.remark)
        case "comment":
            flow.comment(wanted.user, wanted.remark, at=at)
        case "terminate":
            flow.terminate(wanted.user, at=at, remark=wanted.remark)
    return {"status": flow.status, "result": flow.result}


@route("DELETE", "approvals/{id}")
def _delete_approval(state: SandboxState, request: web.Request) -> None:
    state.approvals.delete(_id(request), at=state.clock())


# Events.


class Registration(Callback, frozen=True):
    """A callback, and whether it is asked first."""

    check: bool = True


class Fired(BaseModel, extra="forbid"):
    """An event that happens by hand.

    Attributes:
        type: any.
        fields: its own fields; one named as a common one, such as ``EventTime``, replaces it.
        event_id: one that was there before, or another; made up where none is given.
        app: the only app that gets it.
        age: seconds since it happened.
    """

    type: Annotated[str, Field(min_length=1)]
    fields: dict[str, Any] = Field(default_factory=dict[str, Any])
    event_id: Annotated[str, Field(min_length=1)] = Field(default_factory=lambda: uuid.uuid4().hex)
    app: str | None = None
    age: float = 0


class Paced(BaseModel, extra="forbid"):
    """What happens many times: all at once, or so often a second in the background."""

    per_second: Annotated[float, Field(gt=0, le=100_000)] | None = None

    def run(
        self, state: SandboxState, request: web.Request, act: Callable[[], object], count: int
    ) -> None:
        """Act so often."""
        if self.per_second is None:
            for _ in range(count):
                act()
            return
        state.events.planned += count
        request.app[DELIVERIES].start(_paced(state.events, act, count, self.per_second))


class Firing(Paced):
    """Events that happen."""

    events: Annotated[list[Fired], Field(min_length=1, max_length=MOST_AT_ONCE)]


class Changes(Paced):
    """So many changes of the organisation at random."""

    count: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)]
    seed: int = 1


@route("GET", "callbacks")
def _callbacks(state: SandboxState, request: web.Request) -> object:
    return [each.model_dump(mode="json") for each in state.callbacks.all()]


@route("PUT", "callbacks", Registration)
async def _put_callback(state: SandboxState, request: web.Request, wanted: Registration) -> None:
    state.app(wanted.app_key)
    callback = Callback.model_validate(wanted.model_dump(exclude={"check"}))
    if wanted.check:
        outcome = await request.app[DELIVERIES].http.check(callback)
        if outcome != SUCCESS:
            raise ValueError(f"url: check_url was answered with: {outcome}")
    state.callbacks.put(callback)


@route("DELETE", "callbacks/{id}")
def _delete_callback(state: SandboxState, request: web.Request) -> None:
    state.callbacks.delete(_id(request))


@route("GET", "delivery")
def _times(state: SandboxState, request: web.Request) -> object:
    return state.delivery_times.model_dump(mode="json")


@route("POST", "delivery", dict[str, Any])
def _change_times(state: SandboxState, request: web.Request, patch: dict[str, Any]) -> object:
    state.delivery_times = state.delivery_times.changed(patch)
    return _times(state, request)


@route("GET", "events")
def _events(state: SandboxState, request: web.Request) -> object:
    query = request.query
    return state.events.reports(
        since=float(query.get("since", "0")),
        kind=query.get("type", ""),
        state=query.get("state", ""),
        limit=int(query.get("limit", MOST_EVENTS)),
    )


@route("POST", "events", Firing)
def _fire(state: SandboxState, request: web.Request, wanted: Firing) -> object:
    fired = iter(wanted.events)

    def happen() -> None:
        each = next(fired)
        born = state.clock() - each.age
        state.events.add(Event(each.type, born, each.fields, each.event_id, app=each.app))

    wanted.run(state, request, happen, len(wanted.events))
    return {"ids": [each.event_id for each in wanted.events]}


@route("GET", "events/summary")
def _summary(state: SandboxState, request: web.Request) -> object:
    return state.events.summary()


@route("GET", "events/{id}")
def _event(state: SandboxState, request: web.Request) -> object:
    return state.events.report(_id(request))


@route("POST", "events/{id}/resend")
def _resend(state: SandboxState, request: web.Request) -> None:
    state.events.add(state.events.find(_id(request)))


@route("POST", "changes", Changes)
def _change(state: SandboxState, request: web.Request, wanted: Changes) -> None:
    churn = Churn(state.organisation, wanted.seed)
    wanted.run(state, request, churn.step, wanted.count)


@route("GET", "streams")
def _streams(state: SandboxState, request: web.Request) -> object:
    return request.app[DELIVERIES].stream.report()


@route("POST", "streams/act", StreamAct)
def _act_on_streams(state: SandboxState, request: web.Request, wanted: StreamAct) -> object:
    return {"met": request.app[DELIVERIES].stream.act(wanted)}


async def _paced(
    events: EventLog, act: Callable[[], object], count: int, per_second: float
) -> None:
    began, done = time.monotonic(), 0
    while done < count:
        due = min(count, int((time.monotonic() - began) * per_second) + 1)
        for _ in range(due - done):
            act()
            events.planned -= 1
        done = due
        await asyncio.sleep(PACE_SECONDS)


# What really happened.


def _limit(request: web.Request, most: str) -> int:
    return int(request.query.get("limit", most))


_REPORTS: dict[str, Callable[[SandboxState, web.Request], object]] = {
    "approvals": lambda state, _: reports.approvals(state),
    "audit": lambda state, _: reports.audit(state),
    "calls": lambda state, request: state.audit.calls(
        since=float(request.query.get("since", "0")),
        api=request.query.get("api", ""),
        limit=_limit(request, MOST_ROWS),
    ),
    "dropped": lambda state, request: reports.dropped(state, limit=_limit(request, MOST_ROWS)),
    "health": lambda state, _: reports.health(state),
    "inbox/{id}": lambda state, request: reports.inbox(state, _id(request)),
    "inboxes": lambda state, request: reports.inboxes(state, limit=_limit(request, MOST_CONTENTS)),
    "media": lambda state, _: reports.media(state),
    "organisation": lambda state, _: reports.organisation(state),
    "robots": lambda state, _: state.robots.posts,
}
for _name, _report in _REPORTS.items():
    route("GET", _name)(_report)
