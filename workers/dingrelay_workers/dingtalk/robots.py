"""Posting to groups by webhooks, and by the robots of apps (API §2.8, §12)."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dingrelay_tasks.api_call import ROBOT
from dingrelay_tasks.contract import Json
from dingrelay_tasks.robot_content import enterprise
from dingrelay_tasks.robot_names import DISTINCT, ROBOTS, WEBHOOK, robot_digest
from dingrelay_workers.dingtalk import apis
from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.errors import Permanent, Transient
from dingrelay_workers.dingtalk.request import Calls, Request

STALE_SIGN = "310000"
PAGE = 200
"""Readers that DingTalk names at once."""


def webhook_api(robot: str, *, verbatim: bool = False) -> Api:
    """The API of one webhook, whose limit is its own and no app's. `robot`: digest of its token."""
    return Api(
        WEBHOOK,
        "oapi",
        "POST",
        ROBOT,
        counted=False,
        changes=True,
        access="own",
        part=robot[:DISTINCT],
        owner=ROBOTS,
        verbatim=verbatim,
    )


def signature(secret: str, at: int) -> dict[str, str]:
    """Timestamp and sign of a call that leaves at `at` (ms), as DingTalk checks them (API §2.8)."""
    digest = hmac.new(secret.encode(), f"{at}\n{secret}".encode(), hashlib.sha256).digest()
    return {"timestamp": str(at), "sign": base64.b64encode(digest).decode()}


async def post(
    calls: Calls,
    token: str,
    *,
    query: Mapping[str, str],
    body: Mapping[str, Any],
    verbatim: bool = False,
) -> Json:
    """DingTalk's answer to a message; raises what `Calls.send` raises.

    Args:
        calls: makes the call.
        token: of the robot.
        query: timestamp and signature.
        body: the message.
        verbatim: whether the caller gets a refusal in DingTalk's own words.
    """
    api = webhook_api(robot_digest(token), verbatim=verbatim)
    try:
        return await calls.send(Request(api, query={**query, "access_token": token}, body=body))
    except Transient as error:
        if not verbatim or error.code != STALE_SIGN:
            raise
        # The caller has signed it, so it can't be signed again.
        stale = Permanent(error.code, error.message)
        stale.verbatim = error.verbatim
        raise stale from None


async def reply(
    calls: Calls, session: str, message: Mapping[str, Any], *, verbatim: bool = False
) -> Json:
    """DingTalk's answer to a reply; raises what `Calls.send` raises, `NotFound` if its 90 minutes are over.

    With `verbatim` the caller gets a refusal in DingTalk's own words, and the call falls under no app's limits.
    """
    api = (
        replace(apis.ROBOT_SESSION, owner=ROBOTS, verbatim=True) if verbatim else apis.ROBOT_SESSION
    )
    return await calls.send(Request(api, query={"session": session}, body=message))


async def send(
    calls: Calls, code: str, message: Json, *, users: Sequence[str], conversation: str
) -> Json:
    """Send a message by an enterprise robot; its answer as ``query_key, invalid, flow_controlled``.

    Args:
        calls: makes the call, for the robot's app.
        code: of the robot.
        message: as a webhook spells it.
        users: one to one.
        conversation: the group, if there are no users.
    """
    key, parameters = enterprise(message)
    body: Json = {
        "robotCode": code,
        "msgKey": key,
        "msgParam": json.dumps(parameters, ensure_ascii=False),
        **({"userIds": list(users)} if users else {"openConversationId": conversation}),
    }
    answer = await calls.send(Request(apis.ROBOT_USERS if users else apis.ROBOT_GROUP, body=body))
    return {
        "query_key": str(answer.get("processQueryKey", "")),
        "invalid": _listed(answer.get("invalidStaffIdList")),
        "flow_controlled": _listed(answer.get("flowControlledStaffIdList")),
    }


async def read_state(calls: Calls, code: str, query_key: str, conversation: str) -> Json:
    """Read state of a message, as ``finished, delivered, read`` (API §12.8)."""
    query = {"robotCode": code, "processQueryKey": query_key}
    if conversation:
        return await _readers(calls, {**query, "openConversationId": conversation})
    try:
        answer = await calls.send(Request(apis.ROBOT_READ, query=query))
    except Permanent as error:
        if "expireTime" not in f"{error.code} {error.message}":
            raise
        return {"finished": False, "delivered": [], "read": []}  # there is none yet
    people = [
        person for person in answer.get("messageReadInfoList") or () if isinstance(person, dict)
    ]
    return {
        "finished": answer.get("sendStatus") != "PROCESSING",
        "delivered": [str(person.get("userId")) for person in people],
        "read": [
            str(person.get("userId")) for person in people if person.get("readStatus") == "READ"
        ],
    }


async def _readers(calls: Calls, query: Json) -> Json:
    """The same of a message in a group, of which DingTalk knows the readers only."""
    read: list[str] = []
    answer: Json = {"hasMore": True}
    while answer.get("hasMore"):
        page = {"maxResults": PAGE, "nextToken": str(answer.get("nextToken") or "")}
        answer = await calls.send(Request(apis.ROBOT_GROUP_READ, body={**query, **page}))
        read += _listed(answer.get("readUserIds"))
    finished = answer.get("sendStatus") != "PROCESSING"
    return {"finished": finished, "delivered": [], "read": read}


async def recall(
    calls: Calls, code: str, query_keys: Sequence[str], conversation: str
) -> list[str]:
    """Take messages of a robot back; the keys of those that DingTalk took back (API §12.8)."""
    body: Json = {"robotCode": code, "processQueryKeys": list(query_keys)}
    if conversation:
        body["openConversationId"] = conversation
    api = apis.ROBOT_GROUP_RECALL if conversation else apis.ROBOT_USERS_RECALL
    return _listed((await calls.send(Request(api, body=body))).get("successResult"))


def _listed(value: object) -> list[str]:
    return [str(entry) for entry in value] if isinstance(value, list) else []
