"""The body of a call: JSON, a form, a form with a file, or a call through the oldest door (API §11.3, §11.5)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.message import Message
from email.parser import BytesParser
from typing import Any
from urllib.parse import parse_qsl

from dingrelay_sandbox.answers import Answer, json_answer

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came with a call. Its content is not kept."""

    field: str
    name: str
    size: int


Body = tuple[dict[str, Any] | None, Upload | None]
"""Content of a body: None where it is unreadable, and the file that came with it."""


def read_body(content: bytes, content_type: str, whole_type: str) -> Body:
    """The body of a call.

    Args:
        content: as it came.
        content_type: its media type, such as ``application/json``.
        whole_type: the same with its parameters, of which a multipart body has a boundary.
    """
    if content_type == MULTIPART:
        return _parts(content, whole_type)
    if content_type == FORM:
        text = content.decode(errors="replace")
        return dict(parse_qsl(text, keep_blank_values=True)), None
    return (_object(content) if content else None), None


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _parts(content: bytes, whole_type: str) -> Body:
    head = f"Content-Type: {whole_type}\r\n\r\n".encode(errors="replace")
    whole = BytesParser().parsebytes(head + content)
    fields: dict[str, Any] = {}
    upload: Upload | None = None
    parts = whole.get_payload()
    for part in parts if isinstance(parts, list) else ():
        if not isinstance(part, Message):
            continue
        _spell_as_utf8(part)
        name = str(part.get_param("name", "", "content-disposition"))
        value = part.get_payload(decode=True)
        data = value if isinstance(value, bytes) else b""
        filename = part.get_filename()
        if filename is None:
            fields[name] = data.decode(errors="replace")
        else:
            upload = Upload(name, filename, len(data))
    return fields, upload


def _spell_as_utf8(part: Message) -> None:
    """Read the head of a part as browsers and DingTalk's SDKs write it: names of files in UTF-8."""
    for header, value in part.raw_items():
        if header.lower() == "content-disposition":
            text = str(value).encode("ascii", "surrogateescape").decode(errors="replace")
            part.replace_header(header, text)
            return


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
    """The API that a call at the door names; its parameters are in the query or the form."""
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
