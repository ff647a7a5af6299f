"""Departments and people in the first generation (API §3.2)."""

from collections.abc import Mapping
from typing import Any

from dingrelay_sandbox.apis.api import Fields, api
from dingrelay_sandbox.apis.contacts import check_page, leads, visible_department, visible_person
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.organisation import ROOT, Department, Organisation, Person
from dingrelay_sandbox.state import SandboxState

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


@api("GET", "/department/list")
def departments(state: SandboxState, call: Call) -> Fields:
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
    return {"department": [_department_fields(each) for each in found]}


@api("GET", "/department/get")
def department(state: SandboxState, call: Call) -> Fields:
    """``GET /department/get``."""
    found = visible_department(state, call, call.parameters.whole("id"))
    organisation = state.organisation
    leaders = organisation.members(found.id)[:1]
    return {
        **_department_fields(found),
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


@api("GET", "/department/list_ids")
def department_ids(state: SandboxState, call: Call) -> Fields:
    """``GET /department/list_ids``: direct children's ids."""
    parent = visible_department(state, call, call.parameters.whole_or("id", ROOT))
    ids = [child.id for child in state.organisation.children(parent.id)]
    return {"sub_dept_id_list": ids}


@api("GET", "/user/get")
def user(state: SandboxState, call: Call) -> Fields:
    """``GET /user/get``."""
    person = visible_person(state, call)
    organisation = state.organisation
    fields = _person_fields(organisation, person, call)
    leads_in = {place: leads(organisation, person, place) for place in person.departments}
    fields["isLeaderInDepts"] = _pairs({k: str(v).lower() for k, v in leads_in.items()})
    fields["orderInDepts"] = _pairs(dict.fromkeys(person.departments, str(person.number)))
    fields["isSenior"] = False
    return {**fields}


@api("GET", "/user/listbypage")
@api("GET", "/user/list")
def members(state: SandboxState, call: Call) -> Fields:
    """``GET /user/listbypage`` and ``GET /user/list``: direct members by offset."""
    parent, page, more = _page(state, call)
    organisation = state.organisation
    listed = [
        _member_fields(organisation, organisation.people[each], parent.id, call) for each in page
    ]
    return {"hasMore": more, "userlist": listed}


@api("GET", "/user/simplelist")
def members_simple(state: SandboxState, call: Call) -> Fields:
    """``GET /user/simplelist``: ids and names."""
    _, page, more = _page(state, call)
    organisation = state.organisation
    listed = [
        {"userid": each, "name": organisation.fields(organisation.people[each])["name"]}
        for each in page
    ]
    return {"hasMore": more, "userlist": listed}


@api("GET", "/user/getDeptMember")
def member_ids(state: SandboxState, call: Call) -> Fields:
    """``GET /user/getDeptMember``: all direct members' ids."""
    parent = visible_department(state, call, call.parameters.whole("deptId"))
    return {"userIds": list(state.organisation.members(parent.id))}


def _page(state: SandboxState, call: Call) -> tuple[Department, list[str], bool]:
    """The department, one page of its members, and whether more follow.

    Without a page size `user/list` and `user/simplelist` tell of all members.
    """
    parameters = call.parameters
    parent = visible_department(state, call, parameters.whole("department_id"))
    everybody = list(state.organisation.members(parent.id))
    if call.path != "/user/listbypage" and not parameters.has("size"):
        return parent, everybody, False
    offset, size = parameters.whole("offset"), parameters.whole("size")
    check_page(offset, size)
    return parent, everybody[offset : offset + size], offset + size < len(everybody)


def _department_fields(found: Department) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": found.id,
        "name": found.name,
        "createDeptGroup": found.changes.get("create_dept_group", False),
        "autoAddUser": found.changes.get("auto_add_user", False),
    }
    if found.parent_id is not None:
        fields["parentid"] = found.parent_id
    return fields


def _person_fields(organisation: Organisation, person: Person, call: Call) -> dict[str, Any]:
    hidden = call.caller.hidden_fields
    return {
        OLD_NAMES[name]: value
        for name, value in organisation.fields(person).items()
        if name in OLD_NAMES and name not in hidden
    }


def _member_fields(
    organisation: Organisation, person: Person, place: int, call: Call
) -> dict[str, Any]:
    fields = _person_fields(organisation, person, call)
    fields["order"] = person.number
    fields["isLeader"] = leads(organisation, person, place)
    return fields


def _pairs(values: Mapping[int, str]) -> str:
    """An object as this generation writes it: without quotes."""
    return "{" + ",".join(f"{key}:{value}" for key, value in values.items()) + "}"
