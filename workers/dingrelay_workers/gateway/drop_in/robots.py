"""``/robot/send`` at the door, the webhook of a group's robot, and ``/robot/sendBySession``, a reply (API §2.8, §12.5).

The token or session in its URL is the robot's own: its holder may post to that group, through DingTalk or
through here, so no API key is required. Jobs hold a digest of it. ``NAME@KEY`` in place of a token is a robot or a group of the
settings, for the holder of an API key.

A token that DingTalk has once refused as unknown is refused without a job, and an address may try only a
few tokens that DingTalk has not taken yet.
"""

import re
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import cast

from aiohttp import web

from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import canonical_json
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.api_call import ROBOT, ROBOT_SESSION
from dingrelay_tasks.contract import Json
from dingrelay_tasks.robot_content import Mentions
from dingrelay_tasks.robot_message import RobotMessage
from dingrelay_tasks.robot_names import ROBOTS, robot_digest
from dingrelay_tasks.robot_post import FORGOTTEN, LARGEST, RobotPost
from dingrelay_workers.gateway.drop_in import answers
from dingrelay_workers.gateway.drop_in.answers import DoorAnswer, Refusal, RefusalTexts
from dingrelay_workers.gateway.drop_in.incoming import Incoming, whole
from dingrelay_workers.gateway.drop_in.job_call import (
    Caller,
    accept,
    caller_for,
    refusal_of,
    run_change,
    verbatim,
)
from dingrelay_workers.gateway.drop_in.tokens import count
from dingrelay_workers.http import routes
from dingrelay_workers.http.authentication import act_as
from dingrelay_workers.http.client_address import client_address
from dingrelay_workers.http.problems import TOO_LARGE, Problem
from dingrelay_workers.http.routes import GatewayContext
from dingrelay_workers.keys.service import KeyService

PATHS = frozenset({ROBOT, ROBOT_SESSION})
LONGEST_TOKEN = 256
MOST_A_MINUTE = 60
"""Messages to one robot that are taken: three times what DingTalk takes, so that a burst may wait."""
MOST_STRANGERS = 20
"""Tokens that DingTalk has not taken, from one address in a minute: each costs a call."""
SIGNATURE = ("timestamp", "sign")
_NAMED = re.compile(r"([A-Za-z0-9_-]{1,64})@(drk_[a-z0-9]{12}\.[A-Za-z0-9_-]+)")
"""A name instead of a token: that of a robot or group, and an API key."""


async def post(
    context: GatewayContext, call: Incoming, request: web.Request, limit: int
) -> DoorAnswer:
    """Post a message.

    Args:
        context: the one that has `ROBOTS`.
        call: without its body.
        request: with its body unread.
        limit: bytes that it may have.

    Raises:
        Refusal: DingTalk does not know the robot, it is no message, or too many wait for the robot.
        Problem: the body is late or badly framed.
    """
    session = call.path == ROBOT_SESSION
    token = call.query.get("session", "") if session else call.token
    if not token:
        raise Refusal(answers.missing("session" if session else "access_token"))
    if not session and (named_token := _NAMED.fullmatch(token)):
        return await _post_by_name(context, call, request, limit, named_token)
    unknown = answers.SESSION_UNKNOWN if session else answers.ROBOT_UNKNOWN
    if not context.settings.gateway_robots or len(token) > LONGEST_TOKEN:
        raise Refusal(unknown)
    if not token.isascii() or not token.isprintable():
        raise Refusal(unknown)
    robot = robot_digest(token)
    stranger = await _admit(context, robot, token, request, unknown)
    call = await _message(call, request, limit, routes.BODY_SECONDS)
    query = {name: call.query[name] for name in SIGNATURE if name in call.query}
    job = RobotPost.parse({"robot": robot, "session": session, "query": query, "body": call.body})
    await _remember(context, robot, token)
    caller = Caller(context, f"robot:{robot}", ROBOTS, "normal", robot[:12])
    equal = ["POST", "robot", robot, call.body]
    # An alert that comes three times is three: no SDK repeats one that was answered.
    status = await run_change(caller, job, call, equal, grace=0)
    if is_unknown(status):
        await _note_unknown(context, robot, status.id)
        raise Refusal(unknown)
    if stranger and status.state == State.DONE:
        await _give_back(context, stranger)
    return verbatim(status, call.path)


async def _post_by_name(
    context: GatewayContext,
    call: Incoming,
    request: web.Request,
    limit: int,
    named_token: re.Match[str],
) -> DoorAnswer:
    """Post to a robot or a group of the settings, for the holder of an API key.

    Raises:
        Refusal: the key is none or not for this, or the message can't be.
        Problem: as `post`.
    """
    name, presented = named_token.groups()
    key = await context.service(KeyService).verify(presented)
    if key is None:
        raise Refusal(answers.CREDENTIALS)
    act_as(key, request)
    await count(context, key)
    call = await _message(call, request, limit, routes.BODY_SECONDS)
    served = await context.records.read_served([])
    grouped = name in context.settings.groups or served.has(f"group:{name}")
    to = "group" if grouped else "robot"
    message = cast("Json", call.body)  # as `_message` has checked
    field_names = {"msgtype", "at", str(message.get("msgtype"))}
    body = {field: value for field, value in message.items() if field in field_names}
    if isinstance(at := body.get("at"), dict):
        body["at"] = {field: at[field] for field in Mentions.model_fields if field in at}
    job = RobotMessage.parse(
        {"to": {to: name}, "message": body, "digest": call.query.get("digest")}
    )
    if not key.permits("robots:write") or not key.permits_target(job.to.name):
        raise Refusal(answers.FORBIDDEN)
    caller = caller_for(context, key, ROBOTS)
    job = job.model_copy(update=caller.names)
    if job.merged_by:  # it waits for others, and its program need not
        await accept(context, job)
        return DoorAnswer({"errcode": 0, "errmsg": "ok"})
    equal = ["POST", "robot", name, call.body]
    status = await run_change(caller, job, call, equal, grace=0)
    if status.state != State.DONE:
        return answers.refused(refusal_of(status), call.path)
    return DoorAnswer({"errcode": 0, "errmsg": "ok"})


def is_unknown(status: JobStatus) -> bool:
    """Whether DingTalk has said that there is no such robot (API §12.1)."""
    error = status.error
    if status.state != State.DEAD or error is None:
        return False
    # 300001 means other things as well.
    is_missing = error.code == "300001" and (
        "not exist" in error.message or "不存在" in error.message
    )
    return is_missing or error.code in {"300005", "400101", FORGOTTEN}


async def _message(call: Incoming, request: web.Request, limit: int, within: float) -> Incoming:
    try:
        call = await whole(request, call, within=within, limit=limit)
    except Problem as problem:
        if problem.kind is not TOO_LARGE:
            raise
        raise Refusal(answers.TOO_LONG) from None
    if not isinstance(call.body, dict):
        raise Refusal(answers.NO_JSON)
    if len(canonical_json(call.body).encode()) > LARGEST:
        raise Refusal(answers.TOO_LONG)
    return call


async def _admit(
    context: GatewayContext, robot: str, token: str, request: web.Request, unknown: RefusalTexts
) -> str:
    """Let a robot's message in, whose token DingTalk may know.

    Returns:
        The count of its address, which holds it until DingTalk has taken the message; empty for a known robot.

    Raises:
        Refusal: it does not (`unknown`), or its address has tried many.
    """
    if any(
        token == robot_settings.token
        for robot_settings in context.service(CurrentApps).robots.values()
    ):
        return ""
    async with asking():
        mark = await context.redis.get(keys.robot(robot))
    if mark:
        return ""
    if mark is not None:
        raise Refusal(unknown)
    address = client_address(request, context.settings.trusted_proxies)
    entry = keys.robot_strangers(_neighbourhood(address))
    async with asking():
        if await _counted(context, entry) > MOST_STRANGERS:
            raise Refusal(answers.ROBOT_THROTTLED)
    return entry


def _neighbourhood(address: IPv4Address | IPv6Address | None) -> str:
    """The network of one person: an IPv4 address, or the prefix of an IPv6 one."""
    if address is None:
        return "none"
    network = ip_network((address, 64 if address.version == 6 else 32), strict=False)
    return str(network.network_address)


async def _remember(context: GatewayContext, robot: str, token: str) -> None:
    """Keep the token for the worker, and count the message.

    Raises:
        Refusal: too many were posted within a minute.
    """
    async with asking():
        await context.redis.set(keys.robot(robot), token, px=keys.ROBOT_TTL_MS)
        if await _counted(context, keys.robot_posts(robot)) > MOST_A_MINUTE:
            raise Refusal(answers.ROBOT_THROTTLED)


async def _counted(context: GatewayContext, entry: str) -> int:
    """How many of these came in this minute, with this one."""
    pipe = context.redis.pipeline(transaction=True)
    pipe.incr(entry)
    pipe.pexpire(entry, keys.ROBOT_POSTS_TTL_MS, nx=True)
    count, _ = await pipe.execute()
    return int(count)


async def _give_back(context: GatewayContext, entry: str) -> None:
    """Count one message less in this minute."""
    async with asking():
        pipe = context.redis.pipeline(transaction=True)
        pipe.decr(entry)
        pipe.pexpire(entry, keys.ROBOT_POSTS_TTL_MS, nx=True)  # it may have ended since
        await pipe.execute()


async def _note_unknown(context: GatewayContext, robot: str, job_id: str) -> None:
    """Note that DingTalk does not know a robot; that is no dead letter, since nothing can mend it."""
    async with asking():
        await context.redis.set(keys.robot(robot), "", px=keys.ROBOT_UNKNOWN_TTL_MS)
    await context.records.forget(job_id)
