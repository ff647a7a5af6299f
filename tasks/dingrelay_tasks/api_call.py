"""api-call: one call of any API of DingTalk's, under the limits of its path (design §21)."""

import json
import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal, cast
from urllib.parse import unquote_to_bytes

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_validator

from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import Deliverable, Json, Part
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.outcomes import Unknown
from dingrelay_tasks.person_fields import DINGTALK_FIELDS, DINGTALK_PATH

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Effect = Literal["none", "repeatable", "once"]
"""The effect of a call: none; one that may be repeated; one that must not."""

STEP = "call"
LONGEST_PATH = 512
TOKENS = frozenset({"access_token", "x-acs-dingtalk-access-token"})
"""Parameters in which a caller may carry a token of its own, in small letters."""

# Characters of a path segment that need no escape in a URL, less `@` and `;`: no name of a host
# and no user can be read into a path, and no parameter, which servers in Java cut off: to them
# `/..;/` is `/../`, and `/gettoken;x` is `/gettoken`. What an escape may stand for is checked by itself.
_PATH = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,=:-]|%[0-9A-Fa-f]{2})+)+")
_NOT_ESCAPED = re.compile(r"[\x00-\x1f\x7f/\\%?#;]")
_MESSAGES = "/topapi/message/corpconversation/asyncsend"
# `/gettoken`, `/sns/gettoken`, `/service/get_corp_token`, `/v1.0/oauth2/{corpId}/token` …
_TOKEN = re.compile(
    r".*/(?:gettoken|get_\w+_token|get_persistent_code)|/v1\.0/oauth2/(?:.*/)?\w*token",
    re.IGNORECASE,
)
ROBOT = "/robot/send"
"""Path of robots of groups: the token names the robot, and belongs to no app."""
ROBOT_SESSION = "/robot/sendBySession"
"""Path of replies: the session names the conversation, and belongs to no app."""


_READING_VERB = "(?:get|list|query|search|count|find|fetch)"

_OLD_READS = re.compile(
    rf"(?!/v\d+\.\d+/).*/(?:{_READING_VERB}(?!\w*(?:create|add|update|delete|remove|save))\w*"
    r"|simplelist|statistic\w*|info|detail|total|exist)"
)
"""The old host's names are in small letters: ``/topapi/v2/user/getbymobile``, ``/attendance/listRecord``."""

_OLD_GETS = re.compile(r".*/(?:\w*scopes?|record|report|can_access_\w+|download\w*)")
"""Reads of the old host that are named by what they give. Not each ``GET`` there reads: ``/user/delete`` deletes."""

_NEW_READS = re.compile(
    # Only makes a number for a later call, but each call another one.
    r"/v\d+\.\d+/(?!.*/taskId/query)(?:.*/)?(?:"
    rf"(?:batch(?:Get|Query)|paginationQuery|(?:available|pending)Lists?|{_READING_VERB})(?!OrCreate)(?:[A-Z]\w*)?"
    "|check|detail|info|metadata|page|preview|forecast|calculate|judge|validate)"
)
"""The new host's are in camel case, so a verb ends where a capital follows: ``instanceIds/query``, ``queryAll``."""

_NAMED_READS = re.compile(
    r"/v\d\.0/(?:"
    r"aiot/products/[^/]+/devices/[^/]+/firmware/checkUpdate|attendance/holidays"
    r"|bizfinance/(?:categories|customers|financeAccounts|projects)/batch"
    r"|contract/dingEsign/(?:files/keywordPositions|signFlow/files/downloadUrls)|crm/customerInstances"
    r"|dvi/(?:data/staff|device/audio/download|device/status|sales/insights"
    r"|service-record/location|user/location)"
    r"|edu/cards/tasks/batch|exclusive/groups/openConversationIds|hrbrain/labels/data"
    r"|im/interconnections/group/group(?:Info|Member)By\w+"
    r"|minutes/smartdevice/(?:aiscene(?:/promptTemplate)?|aisummary)|notable/bases/[^/]+/workflows"
    r"|occupationauth/auths/userTasks|project/projects/(?:gray|source)|robot/messageFiles/download"
    r"|salary/calculation|serviceGroup/userDetials|todoEE/apps/users/tasks/executionStatuses"
    r"|village/corps/subCorps|workflow/instances/datas|yida/forms/employeeFields"
    r"|yida/forms/instances/ids/[^/]+/[^/]+|yida/processes/instance(?:Id)?s)"
)
"""The new host's reads that are named by what they give."""


def reads(method: str, path: str) -> bool:
    """Whether a call surely changes nothing at DingTalk.

    Args:
        method: of HTTP.
        path: on one of DingTalk's two hosts.
    """
    if method == "GET" and (is_rest(path) or _OLD_GETS.fullmatch(path)):
        return True
    return method in {"GET", "POST"} and any(
        kind.fullmatch(path) for kind in (_OLD_READS, _NEW_READS, _NAMED_READS)
    )


def checked_path(path: str) -> str:
    """A path on one of DingTalk's hosts.

    Raises:
        ValueError: it could name another host, leave the host's root, or say something else to a
            proxy than to DingTalk; or its API is one that other jobs are there for.
    """
    if not _PATH.fullmatch(path):
        raise ValueError(
            "must be a path such as /topapi/v2/user/get: no host, no query, no empty segment"
        )
    for segment in path.split("/")[1:]:
        try:
            text = unquote_to_bytes(segment).decode()
        except UnicodeDecodeError:
            raise ValueError("must be UTF-8 where it is escaped") from None
        if text in {".", ".."} or _NOT_ESCAPED.search(text):
            raise ValueError("must not hold . or .. or an escaped /, \\, %, ?, # or ;")
    plain = unquote_to_bytes(path).decode()
    if _TOKEN.fullmatch(plain):
        raise ValueError("must not ask for a token: the workers have one")
    if plain.startswith(_MESSAGES):
        raise ValueError("must not send a work notification: that is a job of kind message-send")
    if plain in {ROBOT, ROBOT_SESSION}:
        raise ValueError("must not post to a robot: its token is none of an app")
    return path


def is_rest(path: str) -> bool:
    """Whether a path is on the new host, such as ``/v1.0/todo/…``; else it is on the old one."""
    return re.match(r"/v\d+\.\d+/", path) is not None


def _spelled(value: Any) -> Any:
    """A parameter as a URL spells it; what is no scalar is left for the field's check to refuse."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else value


def sendable(body: JsonValue) -> JsonValue:
    """A body that JSON can spell.

    Raises:
        ValueError: it holds what JSON has no word for.
    """
    try:
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except (RecursionError, UnicodeEncodeError, ValueError):
        raise ValueError(
            "must be JSON: no NaN, no half of a character, not nested too deeply"
        ) from (None)
    return body


ApiPath = Annotated[
    str,
    Field(max_length=LONGEST_PATH, json_schema_extra={"pattern": f"^{_PATH.pattern}$"}),
    AfterValidator(checked_path),
]
Name = Annotated[str, Field(min_length=1, max_length=128)]
Value = Annotated[
    str,
    Field(max_length=8_192),
    BeforeValidator(_spelled, json_schema_input_type=str | int | bool),
]


def default_effect(call: Mapping[str, Any]) -> Effect:
    """The effect of a call whose job names none; `call` has its method and its path."""
    return "none" if reads(call.get("method", ""), call.get("path", "")) else "once"


class ApiCall(Deliverable):
    """Call any API of DingTalk's.

    Attributes:
        method: the HTTP method.
        path: on one of DingTalk's two hosts, which its form selects; never a URL. Ids in it are
            escaped as in a URL.
        query: parameters of the URL. A token in it is dropped: the workers have their own.
        body: an object or a list, sent as JSON.
        effect: what to do where the answer is lost. ``none`` and ``repeatable`` are called again,
            ``once`` ends `unknown`. Default: ``none`` where the call surely reads, else ``once``.
    """

    method: Method
    path: Annotated[ApiPath, DINGTALK_PATH]
    query: Annotated[dict[Name, Value], Field(max_length=64), DINGTALK_FIELDS] = Field(
        default_factory=dict
    )
    body: Annotated[
        dict[str, JsonValue] | list[JsonValue] | None,
        AfterValidator(sendable),
        DINGTALK_FIELDS,
    ] = None
    effect: Effect = Field(default_factory=default_effect)

    @model_validator(mode="before")
    @classmethod
    def _drop_token(cls, job: Any) -> Any:
        return cls.without_secrets(job)

    @classmethod
    def without_secrets(cls, job: Any) -> Any:
        """The job without a token in its query: ours replaces it, so it need not be stored."""
        query: Any = cast("Mapping[str, Any]", job).get("query") if isinstance(job, Mapping) else 0
        if not isinstance(query, Mapping):
            return job
        without_tokens: Json = {name: value for name, value in query.items() if not is_token(name)}
        return {**cast("Mapping[str, Any]", job), "query": without_tokens}


class ApiCallResult(Part):
    """DingTalk's answer: its JSON object, whole."""

    answer: Annotated[dict[str, JsonValue], DINGTALK_FIELDS]


def is_token(name: object) -> bool:
    """Whether a parameter of this name carries a token."""
    return isinstance(name, str) and name.strip().lower() in TOKENS


@kind(
    "api-call",
    ApiCall,
    summary="{0.method} {0.path}",
    result=ApiCallResult,
    scope="calls:write",
    path="/v1/calls",
    operation="callApi",
    api="call.oapi",
    resolved_by="sent",
)
async def run(job: ApiCall, ctx: Context) -> Json:
    """Make the call; a rerun does not repeat one that was answered.

    Returns:
        An `ApiCallResult` as JSON values.

    Raises:
        Unknown: the call of an earlier attempt left without an answer, and it must not be repeated.
    """
    # A requeue accepts that the call may be made twice.
    lost = ctx.intent is not None and not ctx.intent.requeued
    if lost and job.effect == "once":
        raise Unknown("the call left and its answer did not come; it may have been carried out")
    return await ctx.once(STEP, partial(_call, job, ctx))


async def _call(job: ApiCall, ctx: Context) -> Json:
    answer = await ctx.call(
        method=job.method,
        path=job.path,
        query=job.query,
        body=job.body,
        changes=job.effect != "none",
    )
    # No model in between: it would check and copy megabytes that were just read from JSON.
    return {"answer": answer}
