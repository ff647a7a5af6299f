"""Every API of the sandbox: where it is, what it does, and how it counts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dingrelay_sandbox.answers import Answer, Dialect
from dingrelay_sandbox.apis import (
    approval_tasks,
    approval_tasks_topapi,
    approval_templates,
    approvals,
    approvals_topapi,
    call_back,
    contacts,
    contacts_v1,
    lookups,
    media,
    messages,
    microapp,
    robot_groups,
    robots,
    stream,
    tokens,
)
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.state import SandboxState


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One API.

    Attributes:
        access: what it takes to call it: an app's token, or what the API checks itself.
        counted: whether its calls count against the organisation's month (API §6).
        takes_file: whether its body is a form with a file.
    """

    run: Callable[[SandboxState, Call], Answer]
    access: Literal["token", "own"] = "token"
    counted: bool = False
    takes_file: bool = False


_CONVERSATION = "/topapi/message/corpconversation"
_WORKFLOW = "/v1.0/workflow"
_INSTANCE = "/topapi/process/instance"
_GROUPS = "/v1.0/robot/groupMessages"

ENDPOINTS = {
    ("GET", "/gettoken"): Endpoint(tokens.gettoken, "own"),
    ("POST", "/v1.0/oauth2/accessToken"): Endpoint(tokens.access_token, "own"),
    ("POST", f"{_CONVERSATION}/asyncsend_v2"): Endpoint(messages.send, counted=True),
    ("POST", f"{_CONVERSATION}/getsendprogress"): Endpoint(messages.progress, counted=True),
    ("POST", f"{_CONVERSATION}/getsendresult"): Endpoint(messages.result, counted=True),
    ("POST", f"{_CONVERSATION}/recall"): Endpoint(messages.recall, counted=True),
    ("POST", f"{_CONVERSATION}/status_bar/update"): Endpoint(messages.status_bar, counted=True),
    ("POST", "/topapi/v2/department/listsub"): Endpoint(contacts.department_children),
    ("POST", "/topapi/v2/department/listsubid"): Endpoint(contacts.department_child_ids),
    ("POST", "/topapi/v2/department/get"): Endpoint(contacts.department),
    ("POST", "/topapi/v2/user/list"): Endpoint(contacts.members),
    ("POST", "/topapi/v2/user/get"): Endpoint(contacts.user),
    ("POST", "/topapi/user/listsimple"): Endpoint(contacts.members_simple),
    ("POST", "/topapi/user/listid"): Endpoint(contacts.member_ids),
    ("POST", "/topapi/v2/user/getbymobile"): Endpoint(lookups.by_mobile),
    ("POST", "/topapi/user/getbyunionid"): Endpoint(lookups.by_unionid),
    ("POST", "/topapi/user/count"): Endpoint(lookups.count),
    ("GET", "/auth/scopes"): Endpoint(contacts.scopes),
    ("GET", "/department/list"): Endpoint(contacts_v1.departments),
    ("GET", "/user/listbypage"): Endpoint(contacts_v1.members),
    ("GET", "/department/get"): Endpoint(contacts_v1.department),
    ("GET", "/department/list_ids"): Endpoint(contacts_v1.department_ids),
    ("GET", "/user/get"): Endpoint(contacts_v1.user),
    ("GET", "/user/list"): Endpoint(contacts_v1.members),
    ("GET", "/user/simplelist"): Endpoint(contacts_v1.members_simple),
    ("GET", "/user/get_by_mobile"): Endpoint(lookups.by_mobile_v1),
    ("GET", "/user/getUseridByUnionid"): Endpoint(lookups.by_unionid_v1),
    ("GET", "/user/get_org_user_count"): Endpoint(lookups.count_v1),
    ("GET", "/user/getDeptMember"): Endpoint(contacts_v1.member_ids),
    ("POST", f"{_WORKFLOW}/processInstances"): Endpoint(approvals.create, counted=True),
    ("GET", f"{_WORKFLOW}/processInstances"): Endpoint(approvals.get, counted=True),
    ("POST", f"{_WORKFLOW}/processes/instanceIds/query"): Endpoint(approvals.query, counted=True),
    ("POST", f"{_WORKFLOW}/processInstances/terminate"): Endpoint(
        approval_tasks.terminate, counted=True
    ),
    ("POST", f"{_WORKFLOW}/processInstances/execute"): Endpoint(
        approval_tasks.execute, counted=True
    ),
    ("POST", f"{_WORKFLOW}/processInstances/comments"): Endpoint(
        approval_tasks.comment, counted=True
    ),
    ("POST", f"{_WORKFLOW}/tasks/redirect"): Endpoint(approval_tasks.redirect, counted=True),
    ("POST", f"{_WORKFLOW}/processes/forecast"): Endpoint(
        approval_templates.forecast, counted=True
    ),
    ("GET", f"{_WORKFLOW}/forms/schemas/processCodes"): Endpoint(
        approval_templates.schema, counted=True
    ),
    ("GET", f"{_WORKFLOW}/processes/userVisibilities/templates"): Endpoint(
        approval_templates.visible, counted=True
    ),
    ("POST", "/topapi/processinstance/create"): Endpoint(approvals_topapi.create, counted=True),
    ("POST", "/topapi/processinstance/get"): Endpoint(approvals_topapi.get, counted=True),
    ("POST", "/topapi/processinstance/listids"): Endpoint(approvals_topapi.list_ids, counted=True),
    ("POST", f"{_INSTANCE}/terminate"): Endpoint(approval_tasks_topapi.terminate, counted=True),
    ("POST", f"{_INSTANCE}/execute"): Endpoint(approval_tasks_topapi.execute, counted=True),
    ("POST", f"{_INSTANCE}/comment/add"): Endpoint(approval_tasks_topapi.comment, counted=True),
    ("POST", "/v1.0/robot/oToMessages/batchSend"): Endpoint(robots.batch_send, counted=True),
    ("GET", "/v1.0/robot/oToMessages/readStatus"): Endpoint(robots.read_status, counted=True),
    ("POST", "/v1.0/robot/otoMessages/batchRecall"): Endpoint(robots.recall, counted=True),
    ("POST", f"{_GROUPS}/send"): Endpoint(robot_groups.send, counted=True),
    ("POST", f"{_GROUPS}/query"): Endpoint(robot_groups.query, counted=True),
    ("POST", f"{_GROUPS}/recall"): Endpoint(robot_groups.recall, counted=True),
    ("POST", "/call_back/register_call_back"): Endpoint(call_back.register, counted=True),
    ("POST", "/call_back/update_call_back"): Endpoint(call_back.update, counted=True),
    ("GET", "/call_back/get_call_back"): Endpoint(call_back.get, counted=True),
    ("GET", "/call_back/delete_call_back"): Endpoint(call_back.delete, counted=True),
    ("GET", "/call_back/get_call_back_failed_result"): Endpoint(
        call_back.failed_result, counted=True
    ),
    ("POST", "/media/upload"): Endpoint(media.upload, takes_file=True, counted=True),
    ("POST", "/v1.0/gateway/connections/open"): Endpoint(stream.open_connection, "own"),
    ("POST", "/robot/send"): Endpoint(robots.webhook, "own"),
}
TEMPLATES = {
    ("POST", "/v1.0/oauth2", "token"): Endpoint(tokens.corporation_token, "own"),
    ("GET", "/v1.0/microApp/apps", "scopes"): Endpoint(microapp.visible_scope, counted=True),
}
"""APIs whose path has an id before its last part."""


def dialect_of(path: str) -> Dialect:
    """Which dialect a path belongs to."""
    return "rest" if path.startswith("/v1.0/") else "oapi"


def find(method: str, path: str) -> Endpoint | None:
    """The API at a path."""
    endpoint = ENDPOINTS.get((method, path))
    if endpoint is None and path.startswith("/v1.0/"):
        rest, _, last = path.rpartition("/")
        start, _, identity = rest.rpartition("/")
        return TEMPLATES.get((method, start, last)) if identity else None
    return endpoint
