"""Departments and people in the current generation, and finding one in both (API §3.1, §11.3, §11.11)."""

from collections.abc import Mapping
from typing import Any

from dingrelay_sandbox.answers import OapiRefusal, RestRefusal
from dingrelay_sandbox.apis.api import Fields, api
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.organisation import ROOT, Department, Organisation, Person
from dingrelay_sandbox.state import SandboxState

LARGEST_PAGE = 100

LISTED_FIELDS = frozenset(
    (
        *("userid", "unionid", "name", "avatar", "state_code", "mobile"),
        *("hide_mobile", "telephone", "job_number", "title", "email", "org_email"),
        *("work_place", "remark", "dept_id_list", "extension", "hired_date", "active"),
        *("admin", "boss", "exclusive_account"),
    )
)
"""What a list has of a person; `user/get` has more."""


@api("POST", "/topapi/v2/department/listsub")
def department_children(state: SandboxState, call: Call) -> Fields:
    """``v2/department/listsub``: direct children, no pages."""
    parent = visible_department(state, call, call.parameters.whole_or("dept_id", ROOT))
    found = [
        {
            "dept_id": child.id,
            "name": child.name,
            "parent_id": child.parent_id,
            "create_dept_group": child.changes.get("create_dept_group", False),
            "auto_add_user": child.changes.get("auto_add_user", False),
        }
        for child in state.organisation.children(parent.id)
    ]
    return {"result": found}


@api("POST", "/topapi/v2/department/listsubid")
def department_child_ids(state: SandboxState, call: Call) -> Fields:
    """``v2/department/listsubid``: not bound to the app's scope."""
    parent = _department(state, call.parameters.whole("dept_id"))
    ids = [child.id for child in state.organisation.children(parent.id)]
    return {"result": {"dept_id_list": ids}}


@api("POST", "/topapi/v2/department/get")
def department(state: SandboxState, call: Call) -> Fields:
    """``v2/department/get``."""
    found = visible_department(state, call, call.parameters.whole("dept_id"))
    return {"result": department_fields(state.organisation, found)}


@api("POST", "/topapi/v2/user/list")
def members(state: SandboxState, call: Call) -> Fields:
    """``v2/user/list``: direct members of a department, a page at a time."""
    parent, page, more = _page(state, call)
    people = state.organisation.people
    listed = [
        member_fields(state.organisation, people[userid], parent.id, call.caller.hidden_fields)
        for userid in page
    ]
    return {"result": {**more, "list": listed}}


@api("POST", "/topapi/user/listsimple")
def members_simple(state: SandboxState, call: Call) -> Fields:
    """``user/listsimple``: ids and names."""
    _, page, more = _page(state, call)
    organisation = state.organisation
    listed = [
        {"userid": userid, "name": organisation.fields(organisation.people[userid])["name"]}
        for userid in page
    ]
    return {"result": {**more, "list": listed}}


@api("POST", "/topapi/user/listid")
def member_ids(state: SandboxState, call: Call) -> Fields:
    """``user/listid``: all direct members, no pages."""
    parent = visible_department(state, call, call.parameters.whole("dept_id"))
    ids = list(state.organisation.members(parent.id))
    return {"result": {"userid_list": ids}}


@api("POST", "/topapi/v2/user/get")
def user(state: SandboxState, call: Call) -> Fields:
    """``v2/user/get``."""
    fields = person_fields(state.organisation, visible_person(state, call))
    for hidden in call.caller.hidden_fields:
        fields.pop(hidden, None)
    return {"result": fields}


@api("GET", "/auth/scopes")
def scopes(state: SandboxState, call: Call) -> Fields:
    """``GET /auth/scopes``: what the app may see."""
    app = call.caller
    known = {*LISTED_FIELDS, "userid"} - {*app.hidden_fields}
    return {
        "auth_org_scopes": {
            "authed_user": list(app.users),
            "authed_dept": list(app.departments),
        },
        "auth_user_field": sorted(known),
        "condition_field": [],
    }


def visible_person(state: SandboxState, call: Call) -> Person:
    """The person that a call names, who exists and is within the app's scope."""
    userid = call.parameters.text("userid")
    person = state.organisation.people.get(userid)
    if person is None:
        raise OapiRefusal(60_121, "找不到该用户")
    if not state.scopes.of(call.caller).user(userid):
        raise OapiRefusal(50_002, "企业员工不在授权范围内")
    return person


def visible_department(state: SandboxState, call: Call, number: int) -> Department:
    """A department that exists and is within the app's scope."""
    found = _department(state, number)
    if not state.scopes.of(call.caller).department(number):
        raise OapiRefusal(50_004, "企业部门不在授权范围")
    return found


def department_fields(organisation: Organisation, found: Department) -> dict[str, Any]:
    """All fields of a department; the root has no parent_id."""
    fields: dict[str, Any] = {
        "dept_id": found.id,
        "name": found.name,
        "create_dept_group": False,
        "auto_add_user": False,
        "from_union_org": False,
        "order": found.id,
        "group_contain_sub_dept": False,
        "outer_dept": False,
        "outer_permit_depts": [],
        "outer_permit_users": [],
        "user_permits": [],
        "hide_dept": False,
        "dept_permits": [],
        "dept_manager_userid_list": list(organisation.members(found.id)[:1]),
        "member_count": sum(len(organisation.members(d)) for d in organisation.below(found.id)),
    }
    if found.parent_id is not None:
        fields["parent_id"] = found.parent_id
    fields |= found.changes
    return {name: value for name, value in fields.items() if value is not None}


def person_fields(organisation: Organisation, person: Person) -> dict[str, Any]:
    """All fields of a person."""
    fields = organisation.fields(person)
    fields["dept_order_list"] = [
        {"dept_id": place, "order": person.number} for place in person.departments
    ]
    fields["leader_in_dept"] = [
        {"dept_id": place, "leader": leads(organisation, person, place)}
        for place in person.departments
    ]
    return fields


def member_fields(
    organisation: Organisation, person: Person, place: int, hidden: tuple[str, ...]
) -> dict[str, Any]:
    """What a list of a department has of one member."""
    known = organisation.fields(person)
    fields = {
        name: value for name, value in known.items() if name in LISTED_FIELDS and name not in hidden
    }
    fields["dept_order"] = person.number
    fields["leader"] = leads(organisation, person, place)
    return fields


def check_page(cursor: int, size: int) -> None:
    """A page must be one."""
    if cursor < 0:
        raise OapiRefusal(40_068, "不合法的偏移量")
    if not 1 <= size <= LARGEST_PAGE:
        raise OapiRefusal(40_069, "不合法的分页大小")


def leads(organisation: Organisation, person: Person, place: int) -> bool:
    """Whether a person heads a department: its first member does."""
    return organisation.members(place)[0] == person.userid


def _department(state: SandboxState, number: int) -> Department:
    found = state.organisation.departments.get(number)
    if found is None:
        raise OapiRefusal(60_003, "部门不存在")
    return found


def _page(state: SandboxState, call: Call) -> tuple[Department, list[str], Mapping[str, Any]]:
    """The department, one page of its members, and whether and where more follow."""
    parameters = call.parameters
    parent = visible_department(state, call, parameters.whole("dept_id"))
    cursor, size = parameters.whole("cursor"), parameters.whole("size")
    check_page(cursor, size)
    everybody = state.organisation.members(parent.id)
    page = everybody[cursor : cursor + size]
    if cursor + size < len(everybody):
        return parent, page, {"has_more": True, "next_cursor": cursor + size}
    return parent, page, {"has_more": False}


@api("POST", "/topapi/v2/user/getbymobile")
def by_mobile(state: SandboxState, call: Call) -> Fields:
    """``v2/user/getbymobile``."""
    userid = _found(state, call, "mobile")
    return {"result": {"userid": userid, "exclusive_account_userid_list": []}}


@api("GET", "/user/get_by_mobile")
def by_mobile_v1(state: SandboxState, call: Call) -> Fields:
    """``GET /user/get_by_mobile``."""
    return {"userid": _found(state, call, "mobile")}


@api("POST", "/topapi/user/getbyunionid")
def by_unionid(state: SandboxState, call: Call) -> Fields:
    """``user/getbyunionid``."""
    return {"result": {"contact_type": 0, "userid": _found(state, call, "unionid")}}


@api("GET", "/user/getUseridByUnionid")
def by_unionid_v1(state: SandboxState, call: Call) -> Fields:
    """``GET /user/getUseridByUnionid``."""
    return {"contactType": 0, "userid": _found(state, call, "unionid")}


@api("POST", "/topapi/user/count")
def count(state: SandboxState, call: Call) -> Fields:
    """``user/count``."""
    only_active = call.parameters.flag_or("only_active", default=False)
    return {"result": {"count": _counted(state, only_active=only_active)}}


@api("GET", "/user/get_org_user_count")
def count_v1(state: SandboxState, call: Call) -> Fields:
    """``GET /user/get_org_user_count``."""
    only_active = call.parameters.flag_or("onlyActive", default=False)
    return {"count": _counted(state, only_active=only_active)}


def _found(state: SandboxState, call: Call, field: str) -> str:
    """The user with the value that the call has for a field."""
    userid = state.organisation.find(field, call.parameters.text(field))
    if userid is None or field in call.caller.hidden_fields:
        raise OapiRefusal(60_121, "找不到该用户")
    if not state.scopes.of(call.caller).user(userid):
        raise OapiRefusal(50_002, "企业员工不在授权范围内")
    return userid


def _counted(state: SandboxState, *, only_active: bool) -> int:
    organisation = state.organisation
    if not only_active:
        return len(organisation.people)
    return sum(bool(organisation.fields(each)["active"]) for each in organisation.people.values())


@api("GET", "/v1.0/microApp/apps/{id}/scopes", counted=True)
def visible_scope(state: SandboxState, call: Call) -> Fields:
    """``GET /v1.0/microApp/apps/{agentId}/scopes``; for everybody it is empty."""
    app = call.caller
    if call.path.split("/")[4] != app.agent_id:
        raise RestRefusal("invalidParameter.agentId.notFound", "应用不存在")
    departments, users = app.visible
    everybody = ROOT in departments
    scope = {
        "deptIds": [] if everybody else list(departments),
        "userIds": [] if everybody else list(users),
        "roleIds": [],
        "onlyAdminVisible": not departments and not users,
    }
    return {"result": scope}
