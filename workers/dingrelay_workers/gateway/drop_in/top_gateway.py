"""``/router/rest`` at the door: DingTalk's oldest way, every API behind one path (API §11.3).

dingtalk-sdk calls work notifications and approvals by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dingrelay_workers.gateway.drop_in import words
from dingrelay_workers.gateway.drop_in.incoming import TOP_GATEWAY, Incoming
from dingrelay_workers.gateway.drop_in.words import DoorAnswer, Refusal

_CURRENT = "dingtalk.oapi."
"""How methods begin whose APIs also have a path of their own."""
_FORMER: Mapping[str, str] = {
    "dingtalk.corp.message.corpconversation.getsendprogress": (
        "/topapi/message/corpconversation/getsendprogress"
    ),
    "dingtalk.corp.message.corpconversation.getsendresult": (
        "/topapi/message/corpconversation/getsendresult"
    ),
    "dingtalk.smartwork.bpms.processinstance.get": "/topapi/processinstance/get",
}
"""Methods from before, which wrap their result once more, and where they are today."""
_OWN = frozenset(
    {"method", "session", "timestamp", "format", "v", "simplify", "partner_id", "sign"}
)
"""Parameters of this way itself."""
_GATEWAY_CODES = frozenset({15, 22, 88})


@dataclass(frozen=True, slots=True)
class Passage:
    """A call that came this way.

    Attributes:
        method: the API, as it names it.
        call: the same as it would have been made today.
    """

    method: str
    call: Incoming

    def envelope(self, answer: DoorAnswer) -> DoorAnswer:
        """An answer as this way hands it out."""
        content = dict(answer.content)
        errcode = content.get("errcode")
        if errcode in _GATEWAY_CODES:
            named = ("sub_code", "sub_msg", "request_id")
            error = {"code": errcode, "msg": content.get("errmsg", "")}
            error |= {name: content[name] for name in named if name in content}
            return DoorAnswer({"error_response": error})
        if self.method in _FORMER:
            request_id = content.pop("request_id", "")
            ended: dict[str, Any] = {
                "ding_open_errcode": content.pop("errcode", 0),
                "error_msg": content.pop("errmsg", ""),
                "success": errcode == 0,
            }
            content = {"result": {**ended, **content}, "request_id": request_id}
        return DoorAnswer({f"{self.method.replace('.', '_')}_response": content})


def passage(call: Incoming) -> Passage:
    """What a call to ``/router/rest`` is about; its parameters are in the query or the form.

    Raises:
        Refusal: it names no API.
    """
    given = {**call.query, **call.fields}
    method, session = given.get("method"), given.get("session", "")
    if not isinstance(method, str) or not method.replace(".", "").replace("_", "").isalnum():
        raise Refusal(words.missing("method"))
    path = _FORMER.get(method)
    if path is None:
        path = f"/topapi/{method.removeprefix(_CURRENT).replace('.', '/')}"
    rest = {name: value for name, value in given.items() if name not in _OWN}
    token = session if isinstance(session, str) else ""
    return Passage(method, Incoming("POST", path, {}, rest, token, call.changes))


__all__ = ["TOP_GATEWAY", "Passage", "passage"]
