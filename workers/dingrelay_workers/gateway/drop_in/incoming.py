"""A request at the door, read as DingTalk reads it: JSON, or a form on the old host (API §11.3)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl

from aiohttp import web

from dingrelay_workers.gateway.drop_in import answers
from dingrelay_workers.gateway.drop_in.answers import Dialect, Refusal
from dingrelay_workers.http.body_reader import parse_json, read_bytes
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.routes import BODY_LIMIT

if TYPE_CHECKING:
    from dingrelay_workers.gateway.drop_in.job_call import ChangingCall
from dingrelay_workers.gateway.drop_in.answers import DoorAnswer

TOKEN_HEADER = "x-acs-dingtalk-access-token"  # noqa: S105 - the header's name
TOKEN_PARAMETER = "access_token"  # noqa: S105 - the parameter's name
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MOST_FIELDS = 300
TOP_GATEWAY = "/router/rest"
UPLOAD = "/media/upload"
"""Path whose body is a file, which the handler of uploads reads."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """One call.

    Attributes:
        path: its form selects the host that it is meant for.
        query: parameters of the URL, without the token.
        body: a JSON object or list, or the fields of a form; None without a body.
        token: what the caller shows; empty for none.
        changes: what its answer answers, as soon as that has left.
    """

    method: str
    path: str
    query: Mapping[str, str]
    body: dict[str, Any] | list[Any] | None
    token: str
    changes: "list[ChangingCall]" = field(default_factory=list["ChangingCall"], compare=False)

    @property
    def dialect(self) -> Dialect:
        """The dialect of the call."""
        return answers.dialect_of(self.path)

    @property
    def fields(self) -> Mapping[str, Any]:
        """The fields of the body; none if it has none."""
        return self.body if isinstance(self.body, dict) else {}


def head_of(request: web.Request) -> Incoming:
    """The call in a request, without its body.

    Raises:
        Refusal: its query can be read in two ways.
    """
    query = _single(request)
    path = request.rel_url.raw_path
    token = request.headers.get(TOKEN_HEADER, "")
    if answers.dialect_of(path) == "oapi":
        token = query.get(TOKEN_PARAMETER, "")
    query.pop(TOKEN_PARAMETER, None)
    return Incoming(request.method, path, query, None, token)


async def whole(
    request: web.Request, head: Incoming, *, within: float, limit: int = BODY_LIMIT
) -> Incoming:
    """The same call with its body.

    Args:
        request: with its body unread.
        head: what is known of it.
        within: seconds in which the body must have arrived.
        limit: bytes that it may have.

    Raises:
        Refusal: it is none that DingTalk reads.
        Problem: it is late, too large or badly framed.
    """
    content = await read_bytes(request, limit=limit, within=within)
    return replace(head, body=_body(request, head.path, content))


def _single(request: web.Request) -> dict[str, str]:
    query: dict[str, str] = {}
    for name, value in request.query.items():
        if name in query:
            # Two programs on the way may each take another one of them.
            raise Refusal(answers.invalid(name[:60], "is given twice"))
        query[name] = value
    return query


def _body(request: web.Request, path: str, content: bytes) -> dict[str, Any] | list[Any] | None:
    kind = request.content_type.lower()
    if not content:
        # A form without a field has no bytes, and is one all the same.
        return {} if kind == FORM else None
    if kind == FORM and (path.startswith("/topapi/") or path == TOP_GATEWAY):
        return _form(content)
    if kind != JSON:
        raise Refusal(answers.CONTENT_TYPE)
    try:
        document = parse_json(content)
    except Problem:
        raise Refusal(answers.NO_JSON) from None
    if not isinstance(document, dict | list):
        raise Refusal(answers.NO_JSON)
    return cast("dict[str, Any] | list[Any]", document)


def _form(content: bytes) -> dict[str, Any]:
    """The fields of a form; what is an object or a list in JSON is one here, too."""
    try:
        pairs = parse_qsl(
            content.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict"
        )
    except ValueError:  # UnicodeDecodeError is one, too
        raise Refusal(answers.NO_JSON) from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Refusal(answers.invalid("body", "names a field twice"))
    return {name: structured(value) for name, value in fields.items()}


def structured(value: Any) -> Any:
    """A value that is an object or a list, also where it comes as the text of one."""
    if not isinstance(value, str) or value.lstrip()[:1] not in {"{", "["}:
        return value
    try:
        return parse_json(value.encode())
    except (Problem, ValueError):
        return value


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
            names = ("sub_code", "sub_msg", "request_id")
            error = {"code": errcode, "msg": content.get("errmsg", "")}
            error |= {name: content[name] for name in names if name in content}
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


def passage_of(call: Incoming) -> Passage:
    """The API that a call to ``/router/rest`` names; its parameters are in the query or the form.

    Raises:
        Refusal: it names no API.
    """
    parameters = {**call.query, **call.fields}
    method, session = parameters.get("method"), parameters.get("session", "")
    if not isinstance(method, str) or not method.replace(".", "").replace("_", "").isalnum():
        raise Refusal(answers.missing("method"))
    path = _FORMER.get(method)
    if path is None:
        path = f"/topapi/{method.removeprefix(_CURRENT).replace('.', '/')}"
    fields = {name: value for name, value in parameters.items() if name not in _OWN}
    token = session if isinstance(session, str) else ""
    return Passage(method, Incoming("POST", path, {}, fields, token, call.changes))
