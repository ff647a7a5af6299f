"""The work of every peer's job: one POST to DingTalk, with a token in a global, as guides show."""

import http.client
import json
import os
import threading
from typing import Any
from urllib.parse import urlencode, urlsplit

PATH = "/topapi/message/corpconversation/asyncsend_v2"
THROTTLED = {"43004", "90018"}

_local = threading.local()
_token: dict[str, str] = {}
_lock = threading.Lock()


class Throttled(Exception):
    """DingTalk refused the call for its rate."""


def send(user: str, text: str) -> None:
    """Send one text to one user.

    Raises:
        Throttled: the limit was met.
    """
    query = urlencode({"access_token": _access_token()})
    check(_exchange("POST", f"{PATH}?{query}", json.dumps(body_of(user, text))))


def body_of(user: str, text: str) -> dict[str, Any]:
    """The call's body."""
    message = {"msgtype": "text", "text": {"content": text}}
    return {"agent_id": os.environ["DINGTALK_AGENT_ID"], "userid_list": user, "msg": message}


def check(answer: dict[str, Any]) -> None:
    """Raise what an answer says that is no success."""
    code = str(answer.get("sub_code") or answer["errcode"])
    if code in THROTTLED:
        raise Throttled(code)
    if code != "0":
        raise RuntimeError(answer["errmsg"])


def _access_token() -> str:
    with _lock:
        if not _token:
            key, secret = os.environ["DINGTALK_APP_KEY"], os.environ["DINGTALK_APP_SECRET"]
            query = urlencode({"appkey": key, "appsecret": secret})
            _token["value"] = _exchange("GET", f"/gettoken?{query}", None)["access_token"]
        return _token["value"]


def _exchange(method: str, path: str, body: str | None) -> dict[str, Any]:
    connection = getattr(_local, "connection", None)
    if connection is None:
        parts = urlsplit(os.environ["DINGTALK_OAPI_URL"])
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=15)
        _local.connection = connection
    connection.request(method, path, body, {"Content-Type": "application/json"})
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    return answer
