"""``/robot/send`` at the door: the webhook of a group's robot (API §2.8).

The token in its URL is the robot's own: whoever has it may post to that group, through DingTalk or
through here, so no API key is asked for. Jobs hold a digest of it.
"""

import hashlib

from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.gateway.backend.context import GatewayContext
from dingrelay_producers.gateway.drop_in import words
from dingrelay_producers.gateway.drop_in.incoming import Incoming
from dingrelay_producers.gateway.drop_in.job_answer import verbatim
from dingrelay_producers.gateway.drop_in.job_call import Caller, run_job
from dingrelay_producers.gateway.drop_in.words import Answer, Refusal
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import canonical_json
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.robot_post import LARGEST, ROBOTS, RobotPost

LONGEST_TOKEN = 256
MOST_A_MINUTE = 60
"""Messages to one robot that are taken: three times what DingTalk takes, so that a burst may wait."""
SIGNATURE = ("timestamp", "sign")


async def post(context: GatewayContext, call: Incoming) -> Answer:
    """Post a message.

    Raises:
        Refusal: it is no message, or too many wait for the robot.
    """
    if not context.settings.gateway_robots:
        raise Refusal(words.ROBOT_UNKNOWN)
    token = call.token
    if not token or len(token) > LONGEST_TOKEN or not token.isascii() or not token.isprintable():
        raise Refusal(words.ROBOT_UNKNOWN)
    if not isinstance(call.body, dict):
        raise Refusal(words.NO_JSON)
    if len(canonical_json(call.body).encode()) > LARGEST:
        raise Refusal(words.TOO_LONG)
    robot = hashlib.sha256(token.encode()).hexdigest()[:32]
    query = {name: call.query[name] for name in SIGNATURE if name in call.query}
    content = ["POST", "robot", robot, call.body]
    try:
        job = RobotPost.parse({"robot": robot, "query": query, "body": call.body})
    except ContractError as error:
        raise Refusal(words.invalid(error.field, error.problem)) from None
    await _remember(context, robot, token)
    caller = Caller(f"robot:{robot}", ROBOTS, "normal", robot[:12])
    status = await run_job(context, caller, job, content)
    return verbatim(status, call.path)


async def _remember(context: GatewayContext, robot: str, token: str) -> None:
    """Keep the token for the worker, and count the message.

    Raises:
        Refusal: too many were posted within a minute.
    """
    posts = keys.robot_posts(robot)
    async with asking():
        pipe = context.redis.pipeline(transaction=True)
        pipe.set(keys.robot(robot), token, px=keys.ROBOT_TTL_MS)
        pipe.incr(posts)
        pipe.pexpire(posts, keys.ROBOT_POSTS_TTL_MS, nx=True)
        _, count, _ = await pipe.execute()
    if int(count) > MOST_A_MINUTE:
        raise Refusal(words.ROBOT_THROTTLED)
