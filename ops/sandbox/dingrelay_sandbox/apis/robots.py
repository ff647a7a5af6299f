"""Messages by robots: to single people, and into a group through a webhook (API §2.7, §2.8)."""

import base64
import hashlib
import hmac
import json
from urllib.parse import unquote

from dingrelay_sandbox.answers import Answer, OapiRefusal, RestRefusal, json_answer
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.inbox import DELIVERED
from dingrelay_sandbox.robots import Robot
from dingrelay_sandbox.world import World

MOST_USERS = 20
LARGEST_BODY = 20_000
SIGNATURE_SECONDS = 3_600


def batch_send(world: World, call: Call) -> Answer:
    """``POST /v1.0/robot/oToMessages/batchSend``."""
    parameters = call.parameters
    if parameters.text("robotCode") != call.caller.robot:
        raise RestRefusal("robotCode.invalid", "无效的robotCode")
    users = parameters.texts("userIds")
    if not users:
        raise parameters.missing("userIds")
    if len(users) > MOST_USERS:
        raise RestRefusal("overMax", f"userIds最多{MOST_USERS}个")
    content = {"msgKey": parameters.text("msgKey"), "msgParam": parameters.raw("msgParam")}
    if not isinstance(content["msgParam"], str):
        raise parameters.invalid("msgParam")
    call.recipients = len(users)
    scope = world.scopes.of(call.caller)
    known = [u for u in users if u in world.organisation.people and scope.user(u)]
    sent = world.sends.deliver(
        "robot",
        call.caller.app_key,
        json.dumps(content, ensure_ascii=False, sort_keys=True),
        known,
        reachable=lambda _: DELIVERED,
        call_id=call.id,
        at=call.at,
    )
    return json_answer(
        {
            "processQueryKey": f"query{sent.task_id}",
            "invalidStaffIdList": [u for u in users if u not in known],
            "flowControlledStaffIdList": [],
        }
    )


def webhook(world: World, call: Call) -> Answer:
    """``POST /robot/send``: the token names the robot, not an app."""
    robot = world.robots.robots.get(call.query.get("access_token", ""))
    if robot is None:
        raise OapiRefusal(300_005, "token is not exist", verdict="token")
    if not _signed(robot, call):
        raise OapiRefusal(310_000, "sign not match")
    if not world.limiter.robot(robot.token, call.at):
        raise OapiRefusal(410_100, "发送速度太快而限流", verdict="throttled")
    if call.size > LARGEST_BODY:
        raise OapiRefusal(460_101, "message too long, exceed 20000 bytes")
    parameters = call.parameters
    kind = parameters.text("msgtype")
    parameters.part(kind)
    assert call.payload is not None, "the type was read from it"
    world.robots.post(robot, call.payload, at=call.at, call_id=call.id)
    return json_answer({"errcode": 0, "errmsg": "ok"})


def _signed(robot: Robot, call: Call) -> bool:
    """Whether the call carries the signature that the robot's secret asks for."""
    if not robot.secret:
        return True
    timestamp = call.query.get("timestamp", "")
    if not timestamp.isdecimal() or abs(int(timestamp[:18]) / 1000 - call.at) > SIGNATURE_SECONDS:
        return False
    digest = hmac.new(
        robot.secret.encode(), f"{timestamp}\n{robot.secret}".encode(), hashlib.sha256
    ).digest()
    given = unquote(call.query.get("sign", ""))
    return hmac.compare_digest(base64.b64encode(digest), given.encode())
