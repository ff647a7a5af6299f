"""Parses errors in DingTalk's answers, in all of their shapes (API §5.2)."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from pydantic_core import to_json

from dingrelay_tasks.beijing import BEIJING
from dingrelay_workers.dingtalk import lenient
from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.redact import redact

IP_BANNED = "ip_banned"
"""Our code for DingTalk's refusal of a whole address, which has no code of its own (API §6)."""

UNREADABLE = "unreadable"
"""Our code for an answer without a readable one."""

_WRAPPERS = {"88", "15"}
"""Codes of DingTalk's gateway that wrap the code of what is behind it."""

_SUBCODE = re.compile(r"subcode=([^,\]]+)")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_PAUSE_ENDS = re.compile(r"(?:限制|处罚)将在\s*(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\s*结束")
# Words of the guard before DingTalk (API §6): a proxy's "Access denied" is none of them.
_BAN_PAGE = re.compile(
    rb"punish|x5sec|_____tmd_____|status\W{1,5}1111\b|" + "频繁|封禁".encode(), re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The error in an unsuccessful answer.

    Attributes:
        code: what to call it by.
        keys: what to look up in the table, the most specific first.
        message: DingTalk's words, redacted.
        request_id: DingTalk's id of the call, if given.
        until: when a limit ends, if the message says so.
    """

    code: str
    keys: tuple[str, ...] = ()
    message: str = ""
    request_id: str = ""
    until: datetime | None = None


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


# `json.loads` would make a decoder at each call.
_JSON = json.JSONDecoder(parse_float=_finite, parse_constant=lambda _: None)


def parse(body: bytes) -> dict[str, Any] | None:
    """The JSON object in the body, if there is one.

    Half of a character becomes a question mark, and a number that JSON can't spell becomes None:
    neither could be passed on.
    """
    try:
        answer = _JSON.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
        if _HALF.search(body):
            # Texts that were cut have them; they can't be written as UTF-8.
            answer = json.loads(json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", answer) if isinstance(answer, dict) else None


def tellable(answer: Mapping[str, Any]) -> bool:
    """Whether a job can tell it as its result: it is not nested more deeply than JSON is written."""
    try:
        to_json(answer)
    except ValueError:
        return False
    return True


def succeeded(answer: Mapping[str, Any], api: Api) -> bool:
    """Whether an answer says that all went well.

    In the old dialect it must. In the new one an answer without `success` does, too, and one with
    false is none, except for callers that get DingTalk's own words; an unreadable value is none.
    """
    if api.dialect == "oapi":
        return integer(answer.get("errcode")) == 0
    success = answer.get("success")
    try:
        return success is None or lenient.boolean(success) or api.verbatim
    except lenient.Unreadable:
        return False


def request_id_of(answer: Mapping[str, Any]) -> str:
    """DingTalk's id of the call; empty if not given."""
    found = next(_texts(answer, "request_id", "requestid", "requestId", "RequestId"), "")
    return redact(found, 100)


def of_answer(answer: Mapping[str, Any], status: int) -> ErrorBody | None:
    """The error in a JSON object; None if it has none."""
    errcode = _text(answer.get("errcode"))
    if errcode and integer(errcode) == 0:
        return None
    request_id = request_id_of(answer)
    if not errcode and ("punish" in answer or _text(answer.get("status")) == "1111"):
        return ErrorBody(IP_BANNED, (IP_BANNED,), "calls from this address are refused", request_id)
    words = list(_texts(answer, "errmsg", "sub_msg", "message", "Message"))
    message = words[0] if words else ""
    if errcode:
        code, keys = _old_code(errcode, answer, message)
    else:
        code = next(_texts(answer, "code", "Code"), "")
        keys = (code,)
        # A success may have a field of that name; an error has a message beside it.
        if not code or (not message and 200 <= status < 300):
            return None
    until = _until(" ".join(words))
    return ErrorBody(redact(code, 100), keys, redact(message), request_id, until)


def of_unreadable(status: int, body: bytes) -> ErrorBody:
    """The text for an answer without anything that can be understood.

    A page instead of JSON may be DingTalk's refusal of our address (API §6): then it says so.
    """
    if body.lstrip()[:1] == b"<" and status < 500 and _BAN_PAGE.search(body):
        message = f"HTTP {status} with a page instead of JSON"
        return ErrorBody(IP_BANNED, (IP_BANNED,), message)
    return ErrorBody(UNREADABLE, message=f"HTTP {status} without a readable answer")


def is_a_file(body: bytes) -> bool:
    """Whether a body is bytes that are no text, or a JSON list: no proxy answers so."""
    text = body.strip()
    if text[:1] in {b"<", b"{"}:
        return False
    return bool(_NO_TEXT.search(text)) or (text[:1], text[-1:]) == (b"[", b"]")


def integer(value: object) -> int | None:
    """The whole number that the value is or spells."""
    try:
        return lenient.integer(value)
    except lenient.Unreadable:
        return None


def _old_code(errcode: str, answer: Mapping[str, Any], message: str) -> tuple[str, tuple[str, ...]]:
    """The code of an answer of the old dialect and what to look up for it (API §5.2)."""
    sub_code = _text(answer.get("sub_code"))
    if errcode not in _WRAPPERS:
        return errcode, (errcode, sub_code)
    if not sub_code and (match := _SUBCODE.search(message)):
        sub_code = match[1].strip()
    if not sub_code:
        return errcode, (errcode,)
    return sub_code, (f"{errcode}/{sub_code}", sub_code, errcode)


def _texts(answer: Mapping[str, Any], *names: str) -> Iterator[str]:
    """The non-empty texts among these fields, in this order."""
    return (text for name in names if (text := _text(answer.get(name))))


def _text(value: object) -> str:
    """A string or whole number as text; empty for anything else."""
    if value is None:
        return ""
    try:
        is_number = isinstance(value, int | float)
        return str(lenient.integer(value)) if is_number else lenient.text(value).strip()
    except lenient.Unreadable:
        return ""


def _until(words: str) -> datetime | None:
    """When a limit ends, parsed from the message, in Beijing's time (API §6)."""
    match = _PAUSE_ENDS.search(words)
    if match is None:
        return None
    try:
        return datetime.fromisoformat(match[1]).replace(tzinfo=BEIJING)
    except ValueError:
        return None
