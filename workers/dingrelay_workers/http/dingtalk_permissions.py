"""Permissions of API keys at DingTalk: one table from (method, path) to scopes and visibility.

The drop-in door asks it, and so does every route that takes `api-call` jobs. A call is looked up under all spellings
that DingTalk may read alike: escapes decoded, in any letters. What the table does not list is `DEFAULT`.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast
from urllib.parse import unquote

from dingrelay_tasks.api_call import ApiCall, reads
from dingrelay_tasks.contract import Contract
from dingrelay_tasks.kinds import KINDS
from dingrelay_tasks.robot_names import ROBOTS
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_workers.http.api_keys import Grant

_ANY = "*"
"""Every scope, and every sender."""

Visibility = Literal["approval", "all senders", "robots"]
"""Part of an app that a call is about, where that is not open to each of the app's keys. ``approval``: approvals
that it names; a key with a sender of its own sees its sender's only. ``all senders``: what every sender has
done; for keys whose sender is ``*``. ``robots``: any robot and group; for keys that may post to all."""


class Requirement(NamedTuple):
    """Requirements of a call: all of the scopes, and a key that sees all that the call is about."""

    scopes: tuple[str, ...]
    visibility: tuple[Visibility, ...] = ()


class ApiRow(NamedTuple):
    """Some of DingTalk's APIs.

    Attributes:
        calls: method and path of each, in any letters.
        reading: what calls need that surely change nothing (`api_call.reads`).
        changing: what the others need.
    """

    calls: str
    reading: Requirement
    changing: Requirement


def _alike(calls: str, scope: str, *visibility: Visibility) -> ApiRow:
    """Calls that need the same whether they read or change."""
    permission = Requirement((scope,), visibility)
    return ApiRow(calls, permission, permission)


TABLE: tuple[ApiRow, ...] = (
    # Work notifications. The door gives task ids of its own, which lead to the caller's jobs only.
    _alike(r"POST /topapi/message/corpconversation/asyncsend_v2", "messages:write"),
    _alike(r"\w+ (/topapi)?/message/.*", "messages:write", "all senders"),
    # Approvals: creating one; templates; ids of all; what is about one that is named; all else.
    _alike(r"POST /topapi/processinstance/create", "approvals:write"),
    _alike(r"POST /v\d+\.\d+/workflow/processInstances", "approvals:write"),
    _alike(r"GET /v\d+\.\d+/workflow/forms/schemas/processCodes", "approvals:read"),
    _alike(r"POST /v\d+\.\d+/workflow/processes/forecast", "approvals:read"),
    _alike(
        r"GET /v\d+\.\d+/workflow/processes/userVisibilities/templates|POST /topapi/process/listbyuserid",
        "approvals:read",
    ),
    _alike(
        r"POST /topapi/processinstance/listids|POST /v\d+\.\d+/workflow/processes/instanceIds/query",
        "approvals:read",
        "all senders",
    ),
    # Only these read an approval's id: beside a task's id, or the name of a template, one would be any.
    _alike(
        r"GET /v\d+\.\d+/workflow/processInstances|POST /topapi/processinstance/get"
        r"|POST /v\d+\.\d+/workflow/processInstances/spaces/.*|POST /topapi/processinstance/(file|cspace)/.*",
        "approvals:read",
        "approval",
    ),
    _alike(
        r"POST /v\d+\.\d+/workflow/processInstances/(execute|comments|terminate)"
        r"|POST /topapi/process/instance/(execute|comment/add|terminate)",
        "approvals:write",
        "approval",
    ),
    ApiRow(
        r"\w+ /topapi/process(instance)?/.*|\w+ /v\d+\.\d+/workflow/.*",
        Requirement(("approvals:read",), ("all senders",)),
        Requirement(("approvals:write",), ("all senders",)),
    ),
    # People and departments. No scope is for changes of the organisation alone, and a change may show people, too.
    ApiRow(
        r"\w+ (/topapi)?(/v\d+)?/(user|department|role|org|inactive|extcontact|sns|auth)/.*"
        r"|\w+ /topapi/smartwork/hrm/.*|\w+ /v\d+\.\d+/(contact|hrm)/.*",
        Requirement(("directory:read",)),
        Requirement(("directory:read", "calls:write")),
    ),
    # Robots of apps; those with a token of their own need no key.
    _alike(r"POST (/v\d+\.\d+)?/robot/(.*/)?(batch)?send", "robots:write", "robots"),
    _alike(r"\w+ (/v\d+\.\d+)?/robot/.*", "robots:write", "robots", "all senders"),
    # Where DingTalk sends events, and those that it could not send; what names its API elsewhere.
    _alike(r"\w+ (/topapi)?/call_back/.*|\w+ /router/.*", _ANY),
)
"""The first row that fits counts."""

DEFAULT = Requirement(("calls:write",))

_ROWS = [(re.compile(row.calls, re.IGNORECASE), row) for row in TABLE]
_INSTANCES = frozenset(
    {"processinstanceid", "processinstanceids", "instanceid", "instanceids", "procinstid"}
)
"""Names of fields and parameters with ids of approvals, in small letters and without ``_``."""


def permission_of(method: str, path: str) -> Requirement:
    """The requirements of a call of DingTalk's."""
    call = f"{method} {unquote(path)}"
    for pattern, row in _ROWS:
        if pattern.fullmatch(call):
            return row.reading if reads(method, path) else row.changing
    return DEFAULT


def missing_scope(key: "Grant", job: Contract) -> str | None:
    """The scope for which a key may not ask for a job; None if it has all."""
    if isinstance(job, ApiCall):
        return missing_of(key, permission_of(job.method, job.path))
    scope = KINDS[job.kind].scope
    return None if key.permits(scope) else scope


def missing_of(key: "Grant", permission: Requirement) -> str | None:
    """The scope of a permission that a key lacks; None if it has all."""
    return next((scope for scope in permission.scopes if not key.permits(scope)), None)


def hidden_from(key: "Grant", job: Contract) -> tuple[str, str] | None:
    """Why a key may not see or change at DingTalk all that a call is about, which is no field; None if it may."""
    if not isinstance(job, ApiCall):
        return None
    for visibility in permission_of(job.method, job.path).visibility:
        if visibility == "all senders" and key.sender != _ANY:
            return "", en("this covers all senders, and the key has a sender of its own")
        if visibility == "robots" and not key.permits_target(ROBOTS):
            return "", en("the key is not for all robots and groups; ask for a robot-message")
    return None


def approvals_of(key: "Grant", job: Contract) -> Collection[str]:
    """Approvals that a call names, wherever DingTalk may read them, and that must be of the key's sender.

    Where it names none but must, an empty name: no approval has it.
    """
    if not isinstance(job, ApiCall):
        return ()
    if "approval" not in permission_of(job.method, job.path).visibility:
        return ()
    return {*_instances(job.query), *_instances(job.body)} or {""}


def _instances(value: Any, is_instance: bool = False) -> Iterator[str]:
    """The ids of approvals in a query or a body, also where a value is JSON in a text."""
    if isinstance(value, str) and value.lstrip()[:1] in {"{", "["}:
        # Commands that make keys start without HTTP.
        from dingrelay_workers.http.body_reader import parse_json  # noqa: PLC0415
        from dingrelay_workers.http.problems import Problem  # noqa: PLC0415

        try:
            value = parse_json(value.encode())
        except (Problem, ValueError):
            if (
                "{" in value
            ):  # DingTalk may read names in it: it is no id of an approval that is known
                yield value
    if isinstance(value, Mapping):
        for name, part in cast("Mapping[str, Any]", value).items():
            alike = name.replace("_", "").lower()
            yield from _instances(part, is_instance or alike in _INSTANCES)
    elif isinstance(value, list):
        parts: list[Any] = value
        for part in parts:
            yield from _instances(part, is_instance)
    elif is_instance and value is not None:
        yield from str(value).split(",")
