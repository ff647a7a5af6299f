"""Every API of DingTalk that dingrelay calls: where it is and how it counts."""

from dataclasses import dataclass
from typing import Literal

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
    """

    name: str
    dialect: Dialect
    method: Literal["GET", "POST"]
    path: str
    counted: bool = True
    changes: bool = False


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
AUTH_SCOPES = Api("contacts.scopes", "oapi", "GET", "/auth/scopes", counted=False)
DEPARTMENT_CHILDREN_V1 = Api(
    "contacts.departments", "oapi", "GET", "/department/list", counted=False
)
MEMBERS_V1 = Api("contacts.members", "oapi", "GET", "/user/listbypage", counted=False)

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

API_NAMES = frozenset(api.name for api in list(globals().values()) if isinstance(api, Api))
"""Every name that a rule can be for."""
