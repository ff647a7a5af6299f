"""Departments and people in both generations, and finding one (API §3.1, §3.2, §11.3, §11.11)."""

from collections.abc import Mapping
from typing import Any

from dingrelay_sandbox.answers import Refusal
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
"""Fields of a person in a list; `user/get` has more."""
OLD_NAMES: Mapping[str, str] = {
    "userid": "userid",
    "unionid": "unionid",
    "name": "name",
    "mobile": "mobile",
    "telephone": "tel",
    "work_place": "workPlace",
    "remark": "remark",
    "admin": "isAdmin",
    "boss": "isBoss",
    "hide_mobile": "isHide",
    "active": "active",
    "dept_id_list": "department",
    "title": "position",
    "email": "email",
    "org_email": "orgEmail",
    "avatar": "avatar",
    "job_number": "jobnumber",
    "hired_date": "hiredDate",
}
"""Today's names of a person's fields → their first ones."""


def _is_old(call: Call) -> bool:
    return not call.path.startswith("/topapi/")


def _by(call: Call, old: str, new: str) -> str:
    """A name, by the generation of the call."""
    return old if _is_old(call) else new


def _answer(call: Call, fields: dict[str, Any]) -> Fields:
    """The answer's own fields: the current generation has them in its result."""
    return fields if _is_old(call) else {"result": fields}


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


@api("GET", "/department/list_ids")
@api("POST", "/topapi/v2/department/listsubid")
def department_child_ids(state: SandboxState, call: Call) -> Fields:
    """Direct children's ids; today's call is not bound to the app's scope."""
    if _is_old(call):
        parent = visible_department(state, call, call.parameters.whole_or("id", ROOT))
    else:
        parent = _department(state, call.parameters.whole("dept_id"))
    ids = [child.id for child in state.organisation.children(parent.id)]
    return _answer(call, {_by(call, "sub_dept_id_list", "dept_id_list"): ids})


@api("POST", "/topapi/v2/department/get")
def department(state: SandboxState, call: Call) -> Fields:
    """``v2/department/get``."""
    found = visible_department(state, call, call.parameters.whole("dept_id"))
    return {"result": department_fields(state.organisation, found)}


@api("GET", "/department/list")
def departments_v1(state: SandboxState, call: Call) -> Fields:
    """``GET /department/list``: children, or everything below with ``fetch_child``.

    The root is in its own list (API §11.3).
    """
    parameters = call.parameters
    parent = visible_department(state, call, parameters.whole_or("id", ROOT))
    organisation = state.organisation
    found = [parent] if parent.id == ROOT else []
    if parameters.flag_or("fetch_child", default=False):
        numbers = sorted(organisation.below(parent.id) - {parent.id})
        found += [organisation.departments[number] for number in numbers]
    else:
        found += organisation.children(parent.id)
    return {"department": [_old_department_fields(each) for each in found]}


@api("GET", "/department/get")
def department_v1(state: SandboxState, call: Call) -> Fields:
    """``GET /department/get``."""
    found = visible_department(state, call, call.parameters.whole("id"))
    organisation = state.organisation
    leaders = organisation.members(found.id)[:1]
    return {
        **_old_department_fields(found),
        "order": found.id,
        "deptHiding": False,
        "deptPermits": "",
        "userPermits": "",
        "outerDept": False,
        "outerPermitDepts": "",
        "outerPermitUsers": "",
        "orgDeptOwner": "",
        "deptManagerUseridList": "|".join(leaders),
        "groupContainSubDept": False,
    }


@api("GET", "/user/listbypage")
@api("GET", "/user/list")
@api("POST", "/topapi/v2/user/list")
def members(state: SandboxState, call: Call) -> Fields:
    """Direct members of a department, a page at a time."""
    parent, page, more = _page(state, call)
    people = state.organisation.people
    hidden, old = call.caller.hidden_fields, _is_old(call)
    listed = [
        member_fields(state.organisation, people[each], parent.id, hidden, old=old) for each in page
    ]
    return _answer(call, {**more, _by(call, "userlist", "list"): listed})


@api("GET", "/user/simplelist")
@api("POST", "/topapi/user/listsimple")
def members_simple(state: SandboxState, call: Call) -> Fields:
    """The same: ids and names."""
    _, page, more = _page(state, call)
    organisation = state.organisation
    listed = [
        {"userid": userid, "name": organisation.fields(organisation.people[userid])["name"]}
        for userid in page
    ]
    return _answer(call, {**more, _by(call, "userlist", "list"): listed})


@api("GET", "/user/getDeptMember")
@api("POST", "/topapi/user/listid")
def member_ids(state: SandboxState, call: Call) -> Fields:
    """The ids of all direct members, no pages."""
    number = call.parameters.whole(_by(call, "deptId", "dept_id"))
    ids = list(state.organisation.members(visible_department(state, call, number).id))
    return _answer(call, {_by(call, "userIds", "userid_list"): ids})


@api("POST", "/topapi/v2/user/get")
def user(state: SandboxState, call: Call) -> Fields:
    """``v2/user/get``."""
    fields = person_fields(state.organisation, visible_person(state, call))
    for hidden in call.caller.hidden_fields:
        fields.pop(hidden, None)
    return {"result": fields}


@api("GET", "/user/get")
def user_v1(state: SandboxState, call: Call) -> Fields:
    """``GET /user/get``."""
    person = visible_person(state, call)
    organisation = state.organisation
    fields = _old_fields(organisation, person, call.caller.hidden_fields)
    leads_in = {place: leads(organisation, person, place) for place in person.departments}
    fields["isLeaderInDepts"] = _pairs({k: str(v).lower() for k, v in leads_in.items()})
    fields["orderInDepts"] = _pairs(dict.fromkeys(person.departments, str(person.number)))
    fields["isSenior"] = False
    return {**fields}


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


def visible_person(state: SandboxState, call: Call, userid: str = "") -> Person:
    """A person, by default the one that a call names, who exists and is within the app's scope."""
    userid = userid or call.parameters.text("userid")
    person = state.organisation.people.get(userid)
    if person is None:
        raise Refusal(60_121, "找不到该用户")
    if not state.scopes.of(call.caller).user(userid):
        raise Refusal(50_002, "企业员工不在授权范围内")
    return person


def visible_department(state: SandboxState, call: Call, number: int) -> Department:
    """A department that exists and is within the app's scope."""
    found = _department(state, number)
    if not state.scopes.of(call.caller).department(number):
        raise Refusal(50_004, "企业部门不在授权范围")
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
    organisation: Organisation, person: Person, place: int, hidden: tuple[str, ...], *, old: bool
) -> dict[str, Any]:
    """Fields of one member in a department's list."""
    if old:
        fields = _old_fields(organisation, person, hidden)
    else:
        fields = {
            name: value
            for name, value in organisation.fields(person).items()
            if name in LISTED_FIELDS and name not in hidden
        }
    fields["order" if old else "dept_order"] = person.number
    fields["isLeader" if old else "leader"] = leads(organisation, person, place)
    return fields


def _old_department_fields(found: Department) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": found.id,
        "name": found.name,
        "createDeptGroup": found.changes.get("create_dept_group", False),
        "autoAddUser": found.changes.get("auto_add_user", False),
    }
    if found.parent_id is not None:
        fields["parentid"] = found.parent_id
    return fields


def _old_fields(
    organisation: Organisation, person: Person, hidden: tuple[str, ...]
) -> dict[str, Any]:
    return {
        OLD_NAMES[name]: value
        for name, value in organisation.fields(person).items()
        if name in OLD_NAMES and name not in hidden
    }


def _pairs(values: Mapping[int, str]) -> str:
    """An object as this generation writes it: without quotes."""
    return "{" + ",".join(f"{key}:{value}" for key, value in values.items()) + "}"


def _check_page(cursor: int, size: int) -> None:
    """A page must be one."""
    if cursor < 0:
        raise Refusal(40_068, "不合法的偏移量")
    if not 1 <= size <= LARGEST_PAGE:
        raise Refusal(40_069, "不合法的分页大小")


def leads(organisation: Organisation, person: Person, place: int) -> bool:
    """Whether a person heads a department: its first member does."""
    return organisation.members(place)[0] == person.userid


def _department(state: SandboxState, number: int) -> Department:
    found = state.organisation.departments.get(number)
    if found is None:
        raise Refusal(60_003, "部门不存在")
    return found


def _page(state: SandboxState, call: Call) -> tuple[Department, list[str], Mapping[str, Any]]:
    """The department, one page of its members, and whether and where more follow.

    Without a page size `user/list` and `user/simplelist` of the first generation name all members.
    """
    parameters, old = call.parameters, _is_old(call)
    number = parameters.whole(_by(call, "department_id", "dept_id"))
    parent = visible_department(state, call, number)
    everybody = list(state.organisation.members(parent.id))
    if old and call.path != "/user/listbypage" and not parameters.has("size"):
        return parent, everybody, {"hasMore": False}
    start = parameters.whole(_by(call, "offset", "cursor"))
    size = parameters.whole("size")
    _check_page(start, size)
    following = {"next_cursor": start + size} if start + size < len(everybody) else {}
    more: dict[str, Any] = {_by(call, "hasMore", "has_more"): bool(following)}
    return parent, everybody[start : start + size], more if old else more | following


@api("GET", "/user/get_by_mobile")
@api("POST", "/topapi/v2/user/getbymobile")
def by_mobile(state: SandboxState, call: Call) -> Fields:
    """The person with a mobile number."""
    fields: dict[str, Any] = {"userid": _found(state, call, "mobile")}
    if not _is_old(call):
        fields["exclusive_account_userid_list"] = []
    return _answer(call, fields)


@api("GET", "/user/getUseridByUnionid")
@api("POST", "/topapi/user/getbyunionid")
def by_unionid(state: SandboxState, call: Call) -> Fields:
    """The person with a unionid."""
    contact = {_by(call, "contactType", "contact_type"): 0}
    return _answer(call, {**contact, "userid": _found(state, call, "unionid")})


@api("GET", "/user/get_org_user_count")
@api("POST", "/topapi/user/count")
def count(state: SandboxState, call: Call) -> Fields:
    """How many people there are, or are active."""
    only_active = call.parameters.flag_or(_by(call, "onlyActive", "only_active"), default=False)
    people = list(state.organisation.people.values())
    if only_active:
        people = [each for each in people if state.organisation.fields(each)["active"]]
    return _answer(call, {"count": len(people)})


def _found(state: SandboxState, call: Call, field: str) -> str:
    """The user with the value that the call has for a field, which the app may see."""
    userid = state.organisation.find(field, call.parameters.text(field))
    if userid is None or field in call.caller.hidden_fields:
        raise Refusal(60_121, "找不到该用户")
    return visible_person(state, call, userid).userid


@api("GET", "/v1.0/microApp/apps/{id}/scopes", counted=True)
def visible_scope(state: SandboxState, call: Call) -> Fields:
    """``GET /v1.0/microApp/apps/{agentId}/scopes``; for everybody it is empty."""
    app = call.caller
    if call.path.split("/")[4] != app.agent_id:
        raise Refusal("invalidParameter.agentId.notFound", "应用不存在")
    departments, users = app.visible
    everybody = ROOT in departments
    scope = {
        "deptIds": [] if everybody else list(departments),
        "userIds": [] if everybody else list(users),
        "roleIds": [],
        "onlyAdminVisible": not departments and not users,
    }
    return {"result": scope}
