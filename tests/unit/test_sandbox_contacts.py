"""The organisation, and both generations of its APIs (API §3)."""

from typing import Any

import pytest

from dingrelay_sandbox.apps import App
from dingrelay_sandbox.organisation import ROOT, Organisation
from unit.sandbox_caller import Caller


@pytest.fixture
def caller() -> Caller:
    caller = Caller(users=300)
    caller.state.organisation.seed(users=300, departments=30, seed=7)
    caller.limit(calls="")
    return caller


def walk(caller: Caller) -> tuple[set[int], dict[str, set[int]]]:
    """All departments, and who is in which, by the current APIs."""
    found, people = {ROOT}, dict[str, set[int]]()
    queue = [ROOT]
    while queue:
        department = queue.pop()
        for child in caller.post("/topapi/v2/department/listsub", {"dept_id": department}).body[
            "result"
        ]:
            found.add(child["dept_id"])
            queue.append(child["dept_id"])
        cursor: int | None = 0
        while cursor is not None:
            page = caller.post(
                "/topapi/v2/user/list", {"dept_id": department, "cursor": cursor, "size": 7}
            ).body["result"]
            for member in page["list"]:
                people.setdefault(member["userid"], set()).add(department)
            assert page["has_more"] is ("next_cursor" in page)
            cursor = page.get("next_cursor")
    return found, people


def test_a_walk_meets_everybody_where_they_are(caller: Caller) -> None:
    organisation = caller.state.organisation
    found, people = walk(caller)
    assert found == set(range(1, 31))
    assert people == {each.userid: set(each.departments) for each in organisation.people.values()}
    assert any(len(places) > 1 for places in people.values())


def test_the_first_generation_answers_the_same(caller: Caller) -> None:
    everything = caller.get("/department/list", id="1", fetch_child="true").body["department"]
    assert {each["id"] for each in everything} == set(range(1, 31))
    children = caller.get("/department/list", id="1").body["department"]
    assert {each.get("parentid") for each in children} == {None, 1}
    for department in (each["id"] for each in everything):
        ids = caller.get("/user/getDeptMember", deptId=str(department)).body["userIds"]
        listed, offset, more = list[str](), 0, True
        while more:
            page = caller.get(
                "/user/listbypage", department_id=str(department), offset=str(offset), size="7"
            ).body
            listed += [each["userid"] for each in page["userlist"]]
            offset, more = offset + 7, page["hasMore"]
        assert listed == ids == caller.state.organisation.members(department)


def test_ids_and_names(caller: Caller) -> None:
    ids = caller.post("/topapi/user/listid", {"dept_id": 2}).body["result"]["userid_list"]
    simple = caller.post("/topapi/user/listsimple", {"dept_id": 2, "cursor": 0, "size": 100})
    assert [each["userid"] for each in simple.body["result"]["list"]] == ids
    subs = caller.post("/topapi/v2/department/listsubid", {"dept_id": 1}).body["result"]
    assert subs["dept_id_list"] == list(range(2, 10))


def test_one_person_and_one_department(caller: Caller) -> None:
    user = caller.post("/topapi/v2/user/get", {"userid": "u1"}).body["result"]
    assert user["dept_id_list"] == [1]
    assert user["leader_in_dept"] == [{"dept_id": 1, "leader": True}]
    root = caller.post("/topapi/v2/department/get", {"dept_id": 1}).body["result"]
    assert "parent_id" not in root
    assert root["member_count"] >= 300


def test_the_same_seed_makes_the_same_people() -> None:
    first, second = Organisation(), Organisation()
    first.seed(users=50, departments=9, seed=3)
    second.seed(users=50, departments=9, seed=3)
    assert [first.fields(each) for each in first.people.values()] == [
        second.fields(each) for each in second.people.values()
    ]
    second.seed(users=50, departments=9, seed=4)
    assert first.fields(first.people["u9"]) != second.fields(second.people["u9"])


def test_empty_and_hidden_fields_are_absent(caller: Caller) -> None:
    caller.state.apps["narrow"] = App(app_key="narrow", app_secret="s", hidden_fields=("mobile",))
    caller.state.organisation.put_user("u1", {"title": None, "remark": "new"})
    user = caller.post("/topapi/v2/user/get", {"userid": "u1"}).body["result"]
    assert "title" not in user
    assert (user["remark"], "mobile" in user) == ("new", True)
    caller.log_in("narrow", "s")
    assert "mobile" not in caller.post("/topapi/v2/user/get", {"userid": "u1"}).body["result"]


def test_an_app_sees_its_scope_only(caller: Caller) -> None:
    organisation = caller.state.organisation
    outside = next(u for u, p in organisation.people.items() if p.departments == (ROOT,))
    caller.state.apps["narrow"] = App(app_key="narrow", app_secret="s", departments=(2,))
    caller.log_in("narrow", "s")
    assert caller.post("/topapi/v2/department/listsub", {"dept_id": 2}).code == "0"
    assert caller.post("/topapi/v2/department/listsub", {"dept_id": 1}).code == "50004"
    assert caller.post("/topapi/v2/user/get", {"userid": outside}).code == "50002"
    scopes = caller.get("/auth/scopes").body["auth_org_scopes"]
    assert scopes == {"authed_user": [], "authed_dept": [2]}


@pytest.mark.parametrize(
    ("path", "payload", "code"),
    [
        ("/topapi/v2/department/listsub", {"dept_id": 999}, "60003"),
        ("/topapi/v2/department/get", {}, "40035"),
        ("/topapi/v2/user/get", {"userid": "stranger"}, "60121"),
        ("/topapi/v2/user/list", {"dept_id": 1, "cursor": 0, "size": 101}, "40069"),
        ("/topapi/v2/user/list", {"dept_id": 1, "cursor": -1, "size": 10}, "40068"),
        ("/topapi/v2/user/list", {"dept_id": "one", "cursor": 0, "size": 10}, "400002"),
    ],
)
def test_missing_objects_and_wrong_values(
    caller: Caller, path: str, payload: dict[str, Any], code: str
) -> None:
    assert caller.post(path, payload).code == code


def test_the_organisation_changes_at_run_time(caller: Caller) -> None:
    organisation = caller.state.organisation
    organisation.put_department(500, {"name": "新部门", "parent_id": 2})
    organisation.put_user("new", {"name": "新人", "dept_id_list": [500]})
    organisation.delete_user("u2")
    organisation.put_department(2, {"parent_id": 3})
    found, people = walk(caller)
    assert 500 in found
    assert people["new"] == {500}
    assert "u2" not in people
    assert organisation.below(3) >= {3, 2, 500}
    organisation.delete_department(500)
    assert walk(caller)[1]["new"] == {ROOT}


def test_a_changed_name_does_not_move_anybody_in_the_pages(caller: Caller) -> None:
    organisation = caller.state.organisation
    before = list(organisation.members(2))
    organisation.put_user(before[0], {"name": "改名"})
    assert organisation.members(2) == before


@pytest.mark.parametrize(
    ("number", "changes"), [(2, {"parent_id": 999}), (2, {"parent_id": 10}), (1, {"parent_id": 2})]
)
def test_departments_form_a_tree(caller: Caller, number: int, changes: dict[str, Any]) -> None:
    with pytest.raises(LookupError):
        caller.state.organisation.put_department(number, changes)
    assert caller.state.organisation.below(ROOT) == frozenset(range(1, 31))


def test_departments_with_others_below_cannot_go(caller: Caller) -> None:
    for number in (ROOT, 2, 999):
        with pytest.raises(LookupError):
            caller.state.organisation.delete_department(number)
    with pytest.raises(LookupError):
        caller.state.organisation.delete_user("stranger")
    with pytest.raises(LookupError):
        caller.state.organisation.put_user("u1", {"dept_id_list": [999]})
