"""What `dingtalk` does, for the queues that run on asyncio: one POST, with a token in a global."""

import os
from typing import Any

from aiohttp import ClientSession

from peers.dingtalk import PATH, THROTTLED, Throttled

_state: dict[str, Any] = {}


async def send(user: str, text: str) -> None:
    """Send one text to one user.

    Raises:
        Throttled: the limit was met.
    """
    session = _session()
    if "token" not in _state:
        key, secret = os.environ["DINGTALK_APP_KEY"], os.environ["DINGTALK_APP_SECRET"]
        query = {"appkey": key, "appsecret": secret}
        async with session.get("/gettoken", params=query) as response:
            _state["token"] = (await response.json())["access_token"]
    message = {"msgtype": "text", "text": {"content": text}}
    body = {"agent_id": os.environ["DINGTALK_AGENT_ID"], "userid_list": user, "msg": message}
    async with session.post(PATH, params={"access_token": _state["token"]}, json=body) as response:
        answer = await response.json()
    code = str(answer.get("sub_code") or answer["errcode"])
    if code in THROTTLED:
        raise Throttled(code)
    if code != "0":
        raise RuntimeError(answer["errmsg"])


def _session() -> ClientSession:
    if "session" not in _state:
        _state["session"] = ClientSession(os.environ["DINGTALK_OAPI_URL"])
    return _state["session"]
