"""Departments and people in the first generation (API §3.2)."""

from collections.abc import Mapping
from typing import Any

from dingrelay_sandbox.answers import Answer, OapiRefusal, oapi_ok
from dingrelay_sandbox.apis.contacts import LARGEST_PAGE, leads, seen_department
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.organisation import ROOT, Department, Organisation, Person
from dingrelay_sandbox.world import World

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


def departments(world: World, call: Call) -> Answer:
    """``GET /department/list``: children, or everything below with ``fetch_child``."""
    parameters = call.parameters
    parent = seen_department(world, call, parameters.whole_or("id", ROOT))
    organisation = world.organisation
    if parameters.flag_or("fetch_child", default=False):
        numbers = sorted(organisation.below(parent.id) - {parent.id})
        found = [organisation.departments[number] for number in numbers]
    else:
        found = organisation.children(parent.id)
    return oapi_ok(call.request_id, department=[_department_fields(each) for each in found])


def members(world: World, call: Call) -> Answer:
    """``GET /user/listbypage``: direct members by offset."""
    parameters = call.parameters
    parent = seen_department(world, call, parameters.whole("department_id"))
    offset, size = parameters.whole("offset"), parameters.whole("size")
    if offset < 0:
        raise OapiRefusal(40_068, "不合法的偏移量")
    if not 1 <= size <= LARGEST_PAGE:
        raise OapiRefusal(40_069, "不合法的分页大小")
    organisation = world.organisation
    everybody = organisation.members(parent.id)
    listed = [
        _member_fields(organisation, organisation.people[each], parent.id, call)
        for each in everybody[offset : offset + size]
    ]
    more = offset + size < len(everybody)
    return oapi_ok(call.request_id, hasMore=more, userlist=listed)


def member_ids(world: World, call: Call) -> Answer:
    """``GET /user/getDeptMember``: all direct members' ids."""
    parent = seen_department(world, call, call.parameters.whole("deptId"))
    return oapi_ok(call.request_id, userIds=list(world.organisation.members(parent.id)))


def _department_fields(found: Department) -> dict[str, Any]:
    return {
        "id": found.id,
        "name": found.name,
        "parentid": found.parent_id,
        "createDeptGroup": found.changes.get("create_dept_group", False),
        "autoAddUser": found.changes.get("auto_add_user", False),
    }


def _member_fields(
    organisation: Organisation, person: Person, place: int, call: Call
) -> dict[str, Any]:
    hidden = call.caller.hidden_fields
    fields = {
        OLD_NAMES[name]: value
        for name, value in organisation.fields(person).items()
        if name in OLD_NAMES and name not in hidden
    }
    fields["order"] = person.number
    fields["isLeader"] = leads(organisation, person, place)
    return fields
