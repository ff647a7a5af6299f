"""`dingtalk` for the queues that run on asyncio: one POST, with a token in a global."""

import os
from typing import Any

from aiohttp import ClientSession

from peers.dingtalk import PATH, body_of, check

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
    token, body = {"access_token": _state["token"]}, body_of(user, text)
    async with session.post(PATH, params=token, json=body) as response:
        check(await response.json())


def _session() -> ClientSession:
    if "session" not in _state:
        _state["session"] = ClientSession(os.environ["DINGTALK_OAPI_URL"])
    return _state["session"]
