"""``POST /callbacks/dingtalk/{app}``: a push becomes a job, and then DingTalk gets its `success`."""

import asyncio
import hmac
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from redis.asyncio import Redis

from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.events.receiver import OLDEST_SECONDS, Push, PushRefused, Receiver
from dingrelay_producers.store import clock, record
from dingrelay_tasks import event_payload
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.event import Event
from dingrelay_tasks.missed_events import MissedEvents
from dingrelay_workers.dingtalk.robots import signature
from dingrelay_workers.http import problems
from dingrelay_workers.http.body_reader import parse_json, read_bytes
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.records import GatewayRecords
from dingrelay_workers.http.routes import CALLER, Body, HttpCall, RouteAnswer, Routes

SLOT_SECONDS = 30
"""Gateways that come back at about the same time have the list read once."""
AGAIN_SECONDS = 60
"""After a slot, the list is read again. An event is on it 40 s after its first push, and DingTalk keeps
it there for 3 minutes at least: what failed last is on it by then, what failed first is still."""
PAUSE_SECONDS = 1.0
"""Between two tries while Redis is away."""


class MissedReader:
    """Enqueues a `MissedEvents` for each app that may have missed events, once Redis is there.

    Args:
        records: where jobs go.
        redis: the clock.
        apps: may have missed some before this process came up.
    """

    def __init__(self, records: GatewayRecords, redis: Redis, apps: Iterable[str]) -> None:
        self._records = records
        self._redis = redis
        self._missing = set(apps)
        self._any = asyncio.Event()
        if self._missing:
            self._any.set()

    def note(self, app: str) -> None:
        """An event of the app could not be taken."""
        self._missing.add(app)
        self._any.set()

    async def run(self) -> None:
        """Have them read, for ever."""
        while True:
            await self._any.wait()
            self._any.clear()
            missing, self._missing = self._missing, set()
            try:
                await self._enqueue(sorted(missing))
            except ServiceUnavailable:
                self._missing |= missing
                self._any.set()
                await asyncio.sleep(PAUSE_SECONDS)

    async def _enqueue(self, apps: Iterable[str]) -> None:
        async with asking():
            now, _ = await self._redis.time()
        slot = now // SLOT_SECONDS
        again = datetime.fromtimestamp((slot + 1) * SLOT_SECONDS + AGAIN_SECONDS, UTC)
        jobs = [
            MissedEvents(app=app, send_at=at, idempotency_key=f"{slot} {number}")
            for app in apps
            for number, at in enumerate((None, again))
        ]
        await self._records.enqueue([record.draft(job) for job in jobs])


PATH = "/callbacks/dingtalk/{app}"
BODY_LIMIT = 400_000
"""Bytes. An event holds ids and a few names, of some hundred people at most."""
WITHIN_SECONDS = 2.0
"""Time for an event to be in Redis: DingTalk waits 2.5 s for the answer (API §7.1)."""
BODY_SECONDS = 2.0
LONGEST_TIMESTAMP = 15
"""Digits of a time in milliseconds."""


ROUTES = Routes(tag="operation")


@ROUTES(
    "POST /callbacks/dingtalk/{app}",
    {
        200: RouteAnswer(
            description="The event is a job, or there was none to take.",
            model={
                "type": "object",
                "properties": {
                    name: {"type": "string"}
                    for name in ("msg_signature", "timeStamp", "nonce", "encrypt")
                },
                "required": ["msg_signature", "timeStamp", "nonce", "encrypt"],
            },
        )
    },
    description=(
        "For DingTalk only: signed and encrypted with the callback's token and AES key. An event "
        "is answered once it is a job. Every refused request gets the same 403, without a reason."
    ),
    body=Body(
        model={
            "type": "object",
            "properties": {"encrypt": {"type": "string"}},
            "required": ["encrypt"],
        },
        limit=None,
    ),
    problems=frozenset({403, 503}),
)
async def receive_event(call: HttpCall) -> web.StreamResponse:
    """Take an event that DingTalk pushes."""
    app = call.path("app")
    context, metrics = call.context, call.context.metrics
    try:
        push = await _push(call, app)
    except PushRefused as refused:
        app_label = app if app in context.service(Receiver).apps else "unknown"
        metrics.callbacks_refused.labels(app_label, refused.reason).inc()
        raise _refusal() from None
    call.request[CALLER] = f"callback {app}"
    if push.event is not None:
        await _accept(call, push.event)
    return problems.json_response(push.success())


@ROUTES(
    "POST /callbacks/dingtalk/{app}/robot",
    {
        200: RouteAnswer(
            description="The message is a job; nothing is said in answer.",
            model={
                "type": "object",
                "properties": {"msgtype": {"const": "empty"}},
                "required": ["msgtype"],
            },
        )
    },
    description=(
        "For DingTalk only: a message to the robot of an app, signed with the app's secret. "
        "Every refused request gets the same 403, without a reason."
    ),
    body=Body(model={"type": "object"}, limit=None),
    problems=frozenset({403, 503}),
)
async def receive_robot_message(call: HttpCall) -> web.StreamResponse:
    """Take a message to a robot that DingTalk pushes."""
    app = call.path("app")
    current = call.context.service(CurrentApps).all.get(app)
    robots = call.context.settings.robots.values()
    if current is None or not any(robot.app == app for robot in robots):
        raise _refusal()
    if not _signed(call.request.headers, current.app_secret.get_secret_value()):
        raise _refusal()
    call.request[CALLER] = f"callback {app}"
    content = await read_bytes(call.request, limit=BODY_LIMIT, within=BODY_SECONDS)
    try:
        data = event_payload.decode(content.decode("utf-8", "replace"))
        event = event_payload.of_robot(app, {}, data)
    except ContractError:
        raise _refusal() from None
    await _accept(call, event, event_payload.session_of(app, data))
    return problems.json_response({"msgtype": "empty"})


def _signed(headers: Mapping[str, str], secret: str) -> bool:
    """Whether a push to a robot is DingTalk's, and of this hour (API §12.14)."""
    timestamp, sign = headers.get("timestamp", ""), headers.get("sign", "")
    if not secret or not timestamp.isdecimal() or len(timestamp) > LONGEST_TIMESTAMP:
        return False
    if abs(int(timestamp) / 1000 - clock.now().timestamp()) > OLDEST_SECONDS:
        return False
    expected = signature(secret, int(timestamp))["sign"]
    return hmac.compare_digest(expected.encode(), sign.encode("utf-8", "replace"))


async def _push(call: HttpCall, app: str) -> Push:
    """The push in a request.

    Raises:
        PushRefused: there is none that can be read.
    """
    try:
        content = await read_bytes(call.request, limit=BODY_LIMIT, within=BODY_SECONDS)
        body = parse_json(content)
    except Problem:
        raise PushRefused("body") from None
    return call.context.service(Receiver).open(app, list(call.request.query.items()), body)


async def _accept(
    call: HttpCall, event: Event, session: tuple[str, Mapping[str, Any]] | None = None
) -> None:
    """Make the event a job; one that is known already is one. `session`: where it can be replied to.

    Raises:
        Problem: Redis is away, and DingTalk is to push it again.
    """
    context = call.context
    events, enqueuer = context.metrics.events, context.records.enqueuer
    try:
        await enqueuer.take_event(event, events, session=session, within=WITHIN_SECONDS)
    except ContractError:
        events.unreadable(event.app)
        raise _refusal() from None  # with its names spelt out it is larger than a job may be
    except ServiceUnavailable as error:
        context.service(MissedReader).note(event.app)
        raise problems.unavailable(str(error)) from None


def _refusal() -> Problem:
    return Problem(problems.CALLBACK, "it is not what DingTalk sends to this callback")
