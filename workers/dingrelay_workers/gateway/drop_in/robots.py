"""``/robot/send`` at the door: the webhook of a group's robot (API §2.8).

The token in its URL is the robot's own: its holder may post to that group, through DingTalk or
through here, so no API key is required. Jobs hold a digest of it.

A token that DingTalk has once refused as unknown is refused without a job, and an address may try only a
few tokens that were never seen before.
"""

import hashlib
from ipaddress import ip_network

from aiohttp import web

from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import canonical_json
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.robot_post import FORGOTTEN, LARGEST, ROBOTS, RobotPost
from dingrelay_workers.gateway.drop_in import words
from dingrelay_workers.gateway.drop_in.incoming import Incoming, whole
from dingrelay_workers.gateway.drop_in.job_call import Caller, run_change, verbatim
from dingrelay_workers.gateway.drop_in.words import DoorAnswer, Refusal
from dingrelay_workers.http import routes
from dingrelay_workers.http.context import GatewayContext
from dingrelay_workers.http.problems import TOO_LARGE, Problem

LONGEST_TOKEN = 256
MOST_A_MINUTE = 60
"""Messages to one robot that are taken: three times what DingTalk takes, so that a burst may wait."""
MOST_STRANGERS = 20
"""Tokens never seen before that are taken from one address in a minute: each may cost a call."""
SIGNATURE = ("timestamp", "sign")


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
    token = call.token
    if not token:
        raise Refusal(words.missing("access_token"))
    if not context.settings.gateway_robots or len(token) > LONGEST_TOKEN:
        raise Refusal(words.ROBOT_UNKNOWN)
    if not token.isascii() or not token.isprintable():
        raise Refusal(words.ROBOT_UNKNOWN)
    robot = hashlib.sha256(token.encode()).hexdigest()[:32]
    await _admit(context, robot, request.remote or "")
    call = await _message(call, request, limit, routes.BODY_SECONDS)
    query = {name: call.query[name] for name in SIGNATURE if name in call.query}
    try:
        job = RobotPost.parse({"robot": robot, "query": query, "body": call.body})
    except ContractError as error:
        raise Refusal(words.invalid(error.field, error.problem)) from None
    await _remember(context, robot, token)
    caller = Caller(context, f"robot:{robot}", ROBOTS, "normal", robot[:12])
    equal = ["POST", "robot", robot, call.body]
    # An alert that comes three times is three: no SDK repeats one that was answered.
    status = await run_change(caller, job, call, equal, grace=0)
    if is_unknown(status):
        await _refuse_from_now_on(context, robot, status.id)
    return verbatim(status, call.path)


def is_unknown(status: JobStatus) -> bool:
    """Whether DingTalk has said that there is no such robot (API §12.1)."""
    error = status.error
    if status.state != State.DEAD or error is None:
        return False
    # 300001 means other things as well.
    said = error.code == "300001" and ("not exist" in error.message or "不存在" in error.message)
    return said or error.code in {"300005", "400101", FORGOTTEN}


async def _message(call: Incoming, request: web.Request, limit: int, within: float) -> Incoming:
    try:
        call = await whole(request, call, within=within, limit=limit)
    except Problem as problem:
        if problem.kind is not TOO_LARGE:
            raise
        raise Refusal(words.TOO_LONG) from None
    if not isinstance(call.body, dict):
        raise Refusal(words.NO_JSON)
    if len(canonical_json(call.body).encode()) > LARGEST:
        raise Refusal(words.TOO_LONG)
    return call


async def _admit(context: GatewayContext, robot: str, address: str) -> None:
    """Let a robot's message in, whose token DingTalk may know.

    Raises:
        Refusal: it does not, or its address has tried many.
    """
    async with asking():
        known = await context.redis.get(keys.robot(robot))
    if known:
        return
    if known is not None:
        raise Refusal(words.ROBOT_UNKNOWN)
    entry = keys.robot_strangers(_neighbourhood(address))
    async with asking():
        if await _counted(context, entry) > MOST_STRANGERS:
            raise Refusal(words.ROBOT_THROTTLED)


def _neighbourhood(address: str) -> str:
    """What one person has: an IPv4 address, or the network of an IPv6 one."""
    try:
        network = ip_network(f"{address}/{64 if ':' in address else 32}", strict=False)
    except ValueError:
        return "none"
    return str(network.network_address)


async def _remember(context: GatewayContext, robot: str, token: str) -> None:
    """Keep the token for the worker, and count the message.

    Raises:
        Refusal: too many were posted within a minute.
    """
    async with asking():
        await context.redis.set(keys.robot(robot), token, px=keys.ROBOT_TTL_MS)
        if await _counted(context, keys.robot_posts(robot)) > MOST_A_MINUTE:
            raise Refusal(words.ROBOT_THROTTLED)


async def _counted(context: GatewayContext, entry: str) -> int:
    """How many of these came in this minute, with this one."""
    pipe = context.redis.pipeline(transaction=True)
    pipe.incr(entry)
    pipe.pexpire(entry, keys.ROBOT_POSTS_TTL_MS, nx=True)
    count, _ = await pipe.execute()
    return int(count)


async def _refuse_from_now_on(context: GatewayContext, robot: str, job_id: str) -> None:
    """Note that DingTalk does not know a robot; that is no dead letter, since nothing can mend it.

    Raises:
        Refusal: always.
    """
    async with asking():
        await context.redis.set(keys.robot(robot), "", px=keys.ROBOT_UNKNOWN_TTL_MS)
    await context.records.forget(job_id)
    raise Refusal(words.ROBOT_UNKNOWN)
