"""Posting to groups through their robots' webhooks (API §2.8)."""

from collections.abc import Mapping
from typing import Any

from dingrelay_tasks.api_call import ROBOT
from dingrelay_tasks.contract import Json
from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.request import Calls, Request

DISTINCT = 12
"""Digits of a digest that tell one robot's limit from another's."""


async def post(
    calls: Calls, robot: str, token: str, *, query: Mapping[str, str], body: Mapping[str, Any]
) -> Json:
    """DingTalk's answer to a message; raises what `Calls.send` raises.

    Each robot has a limit of its own, and no part in an app's.

    Args:
        calls: makes the call.
        robot: digest of the token.
        token: of the robot.
        query: timestamp and signature.
        body: the message.
    """
    api = Api(
        "robot.webhook",
        "oapi",
        "POST",
        ROBOT,
        counted=False,
        changes=True,
        access="own",
        part=robot[:DISTINCT],
        verbatim=True,
    )
    return await calls.send(Request(api, query={**query, "access_token": token}, body=body))
