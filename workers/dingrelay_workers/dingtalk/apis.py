"""Every API of DingTalk that dingrelay calls: where it is and how it counts."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from dingrelay_tasks.api_call import ROBOT_SESSION as ROBOT_REPLY
from dingrelay_tasks.api_call import is_rest

Dialect = Literal["oapi", "rest"]
"""oapi: token in the query, HTTP 200 with errcode. rest: token in a header, 4xx with code (API §0)."""


@dataclass(frozen=True, slots=True)
class Api:
    """One API.

    Attributes:
        name: its name in rules, metrics and logs, such as ``message.send``.
        dialect: which of DingTalk's two dialects it speaks.
        method: the HTTP method.
        path: the path on the dialect's host; DingTalk counts calls by it.
        counted: whether its calls count against the organisation's month (API §6).
        changes: whether a call has an effect that must not happen twice.
        access: what its calls carry: the app's token, or what they name themselves.
        part: what of it DingTalk counts by itself, such as one robot; empty for the whole.
        verbatim: whether the caller gets a refusal in DingTalk's own words, whole.
        owner: the app whose limits it falls under, where that is not the job's.
        form: pattern of a path outside the table, whose breaker is its own; else empty.
    """

    name: str
    dialect: Dialect
    method: str
    path: str
    counted: bool = True
    changes: bool = False
    access: Literal["token", "own"] = "token"
    part: str = ""
    verbatim: bool = False
    owner: str = ""
    form: str = ""

    @property
    def breaker(self) -> str:
        """The name of its breaker."""
        return self.form or self.rule

    @property
    def rule(self) -> str:
        """The name of its limits."""
        return f"{self.name}@{self.part}" if self.part else self.name


TOKEN = Api("token", "oapi", "GET", "/gettoken", counted=False)
TOKEN_V1 = Api("token", "rest", "POST", "/v1.0/oauth2/accessToken", counted=False)

_CONVERSATION = "/topapi/message/corpconversation"
MESSAGE_SEND = Api("message.send", "oapi", "POST", f"{_CONVERSATION}/asyncsend_v2", changes=True)
MESSAGE_PROGRESS = Api("message.progress", "oapi", "POST", f"{_CONVERSATION}/getsendprogress")
MESSAGE_RESULT = Api("message.result", "oapi", "POST", f"{_CONVERSATION}/getsendresult")
MESSAGE_RECALL = Api("message.recall", "oapi", "POST", f"{_CONVERSATION}/recall", changes=True)

DEPARTMENT_CHILDREN = Api(
    "contacts.departments", "oapi", "POST", "/topapi/v2/department/listsub", counted=False
)
DEPARTMENT = Api("contacts.department", "oapi", "POST", "/topapi/v2/department/get", counted=False)
MEMBERS = Api("contacts.members", "oapi", "POST", "/topapi/v2/user/list", counted=False)
USER = Api("contacts.user", "oapi", "POST", "/topapi/v2/user/get", counted=False)
USER_BY_MOBILE = Api(
    "contacts.mobile", "oapi", "POST", "/topapi/v2/user/getbymobile", counted=False
)
AUTH_SCOPES = Api("contacts.scopes", "oapi", "GET", "/auth/scopes", counted=False)
DEPARTMENT_CHILDREN_V1 = Api(
    "contacts.departments", "oapi", "GET", "/department/list", counted=False
)
MEMBERS_V1 = Api("contacts.members", "oapi", "GET", "/user/listbypage", counted=False)

ROBOT_USERS = Api("robot.users", "rest", "POST", "/v1.0/robot/oToMessages/batchSend", changes=True)
ROBOT_GROUP = Api("robot.group", "rest", "POST", "/v1.0/robot/groupMessages/send", changes=True)
ROBOT_READ = Api("robot.read", "rest", "GET", "/v1.0/robot/oToMessages/readStatus")
ROBOT_GROUP_READ = Api("robot.read", "rest", "POST", "/v1.0/robot/groupMessages/query")
ROBOT_USERS_RECALL = Api(
    "robot.recall", "rest", "POST", "/v1.0/robot/otoMessages/batchRecall", changes=True
)
ROBOT_GROUP_RECALL = Api(
    "robot.recall", "rest", "POST", "/v1.0/robot/groupMessages/recall", changes=True
)
ROBOT_SESSION = Api(
    "robot.session",
    "oapi",
    "POST",
    ROBOT_REPLY,
    counted=False,
    changes=True,
    access="own",
)

MEDIA_UPLOAD = Api("media.upload", "oapi", "POST", "/media/upload", verbatim=True)

APP_SCOPES = Api("app.scopes", "rest", "GET", "/v1.0/microApp/apps/{agent_id}/scopes")
"""Scopes of an app: its path is completed by `app_scope`."""

_INSTANCES = "/v1.0/workflow/processInstances"
APPROVAL_CREATE = Api("approval.create", "rest", "POST", _INSTANCES, changes=True)
APPROVAL_READ = Api("approval.read", "rest", "GET", _INSTANCES)
APPROVAL_LIST = Api("approval.list", "rest", "POST", "/v1.0/workflow/processes/instanceIds/query")
APPROVAL_SCHEMA = Api("approval.schema", "rest", "GET", "/v1.0/workflow/forms/schemas/processCodes")
APPROVAL_CREATE_TOPAPI = Api(
    "approval.create", "oapi", "POST", "/topapi/processinstance/create", changes=True
)
APPROVAL_READ_TOPAPI = Api("approval.read", "oapi", "POST", "/topapi/processinstance/get")
APPROVAL_LIST_TOPAPI = Api("approval.list", "oapi", "POST", "/topapi/processinstance/listids")

MISSED_EVENTS = Api(
    "events.missed", "oapi", "GET", "/call_back/get_call_back_failed_result", changes=True
)
"""DingTalk forgets what it has returned: a call whose answer is lost has an effect."""

_OTHERS: dict[Dialect, str] = {"oapi": "call.oapi", "rest": "call.rest"}
_UNCOUNTED = re.compile(
    r"/(?:topapi/(?:v2/)?)?(?:user|department|role|auth)/.*|/v1\.0/(?:contact|oauth2)/.*"
)
"""Contacts, roles and logins, which are no part of the month (API §6)."""

_ID = re.compile(r"/(?!v\d)[A-Za-z_]*[^A-Za-z_/][^/]*")
"""A segment of a path that may be an id: it has more than letters, and is no version."""

APIS = tuple(api for api in list(globals().values()) if isinstance(api, Api))
API_NAMES = frozenset([*(api.name for api in APIS), *_OTHERS.values()])
"""Every name that a rule can be for, beside paths."""
_BY_PATH = {(api.method, api.path): api for api in APIS}


def without_ids(api: Api) -> str:
    """The path of an API, if it is one of ours; empty for any other, which may hold ids of people."""
    return api.path if (api.method, api.path) in _BY_PATH else ""


def of_path(method: str, path: str, *, ruled: Callable[[str], str], changes: bool) -> Api:
    """The API of a path, for calls that name a path.

    DingTalk counts the calls of each API by itself, and a path may hold ids, so the API of a path
    outside the table is unknown. Such paths share one limit a host: slower than need be,
    and never too fast.

    Args:
        method: of HTTP.
        path: as `dingrelay_tasks.api_call` has checked it.
        ruled: path → name of the rule set for it; empty if there is none.
        changes: whether the call has an effect.
    """
    api = _BY_PATH.get((method, path))
    if api is not None:
        return replace(api, changes=changes, verbatim=True)
    dialect: Dialect = "rest" if is_rest(path) else "oapi"
    name = ruled(path) or _OTHERS[dialect]
    counted = _UNCOUNTED.fullmatch(path) is None
    return Api(
        name,
        dialect,
        method,
        path,
        counted=counted,
        changes=changes,
        verbatim=True,
        form=_ID.sub("/*", path),
    )
