"""DingTalk's oldest door: every API behind one path, named by a parameter (API §11.3)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dingrelay_sandbox.answers import Answer, json_answer

PATH = "/router/rest"
CURRENT = "dingtalk.oapi."
"""Methods of the APIs that also have a path of their own."""
FORMER: Mapping[str, str] = {
    "dingtalk.corp.message.corpconversation.getsendprogress": (
        "/topapi/message/corpconversation/getsendprogress"
    ),
    "dingtalk.corp.message.corpconversation.getsendresult": (
        "/topapi/message/corpconversation/getsendresult"
    ),
    "dingtalk.smartwork.bpms.processinstance.get": "/topapi/processinstance/get",
}
"""Methods from before, which wrap their result once more, and where they are today."""
OWN = frozenset({"method", "session", "timestamp", "format", "v", "simplify", "partner_id", "sign"})
"""Parameters of the door itself."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A call through the door, as it would have been made without it."""

    method: str
    path: str
    token: str
    payload: dict[str, Any]

    def envelope(self, answer: Answer) -> Answer:
        """The API's answer as the door hands it out; what is no JSON passes as it is."""
        try:
            content = json.loads(answer.body)
        except ValueError:
            return answer
        if not isinstance(content, dict):
            return answer
        errcode = content.get("errcode")
        if errcode in {22, 88}:
            return _wrapped(answer, {"error_response": _error(content)})
        if self.method in FORMER:
            request_id = content.pop("request_id", "")
            ended = {
                "ding_open_errcode": content.pop("errcode", 0),
                "error_msg": content.pop("errmsg", ""),
                "success": errcode == 0,
            }
            content = {"result": {**ended, **content}, "request_id": request_id}
        return _wrapped(answer, {f"{self.method.replace('.', '_')}_response": content})


def passage(query: Mapping[str, str], payload: Mapping[str, Any] | None) -> Passage:
    """What a call at the door is about; its parameters are in the query or the form."""
    given = {**query, **(payload or {})}
    method = str(given.get("method", ""))
    path = FORMER.get(method)
    if path is None:
        path = f"/topapi/{method.removeprefix(CURRENT).replace('.', '/')}"
    rest = {name: value for name, value in given.items() if name not in OWN}
    return Passage(method, path, str(given.get("session", "")), rest)


def _error(content: dict[str, Any]) -> dict[str, Any]:
    """The gateway's refusal under the door's names."""
    error = {"code": content["errcode"], "msg": content.get("errmsg", "")}
    names = ("sub_code", "sub_msg", "request_id")
    return {**error, **{name: content[name] for name in names if name in content}}


def _wrapped(answer: Answer, content: dict[str, Any]) -> Answer:
    return replace(answer, body=json_answer(content).body)
