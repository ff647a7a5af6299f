from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dingrelay_tasks.organisation import Member
from dingrelay_tasks.outcomes import OutOfScope
from dingrelay_workers.dingtalk.contact_fields import DEPARTMENT_FIELDS, USER_FIELDS
from dingrelay_workers.dingtalk.contacts import ContactsV1, ContactsV2, visible_range
from dingrelay_workers.dingtalk.errors import NotFound, Permission, Transient
from support.examples import either, json_values
from unit.fake_calls import FakeCalls, FakeRequest, Reply


def canned(*answers: Any) -> FakeCalls:
    """Answers calls with these, in order."""
    ahead = list(answers)
    return FakeCalls(lambda request: ahead.pop(0))


def made(calls: FakeCalls) -> list[tuple[str, dict[str, Any]]]:
    """Path and parameters of each call."""
    return [(request.api.path, request.query or request.body) for request in calls.requests]


def v2(*answers: Any) -> ContactsV2:
    return ContactsV2(canned(*answers))


def v1(*answers: Any) -> ContactsV1:
    return ContactsV1(canned(*answers))


async def members(contacts: ContactsV2) -> list[Member]:
    return [member async for page, _ in contacts.members(5) for member in page]


def gone() -> NotFound:
    return NotFound("60003", "部门不存在")


async def test_a_department_is_read_with_its_fields() -> None:
    calls = canned({"result": {"dept_id": "5", "name": "IT", "parent_id": 1, "order": "7"}})
    found = await ContactsV2(calls).department(5)
    assert (found.id, found.fields) == (5, {"name": "IT", "parent_id": 1, "order": 7})
    assert made(calls) == [("/topapi/v2/department/get", {"dept_id": 5})]


async def test_children_come_in_one_call() -> None:
    calls = canned({"result": [{"dept_id": 6, "name": "A"}, {"dept_id": 7}, {"dept_id": 5}]})
    found = await ContactsV2(calls).children(5)
    assert found is not None
    assert [child.id for child in found] == [6, 7]
    assert made(calls) == [("/topapi/v2/department/listsub", {"dept_id": 5})]


async def test_pages_follow_the_cursor() -> None:
    calls = canned(
        {"result": {"has_more": "true", "next_cursor": "40", "list": [{"userid": "a"}]}},
        {"result": {"has_more": False, "list": [{"userid": "b"}]}},
    )
    assert [member.userid for member in await members(ContactsV2(calls))] == ["a", "b"]
    bodies = [body for _, body in made(calls)]
    assert bodies == [
        {"dept_id": 5, "cursor": 0, "size": 100},
        {"dept_id": 5, "cursor": 40, "size": 100},
    ]


async def test_pages_of_v1_follow_the_offset_of_people() -> None:
    calls = canned(
        {"hasMore": True, "userlist": [{"userid": "a"}]},
        {"hasMore": "false", "userlist": {"userid": "b"}},
    )
    assert [member.userid for member in await members(ContactsV1(calls))] == ["a", "b"]
    assert [query["offset"] for _, query in made(calls)] == ["0", "100"]
    assert made(calls)[0] == (
        "/user/listbypage",
        {"department_id": "5", "offset": "0", "size": "100"},
    )


async def test_children_of_v1_are_the_direct_ones() -> None:
    calls = canned(
        {
            "department": [
                {"id": 6, "name": "A", "parentid": 5, "autoAddUser": True},
                {"id": 9, "name": "below A", "parentid": 6},
                {"id": 5, "name": "itself"},
            ]
        }
    )
    found = await ContactsV1(calls).children(5)
    assert found is not None
    assert [child.id for child in found] == [6]
    assert found[0].fields == {"name": "A", "parent_id": 5, "auto_add_user": True}
    assert made(calls) == [("/department/list", {"id": "5", "fetch_child": "false"})]


async def test_v1_speaks_in_the_words_of_v2() -> None:
    old = {
        "userid": "a",
        "order": 3,
        "tel": "010",
        "workPlace": "杭州",
        "isAdmin": "false",
        "isBoss": 0,
        "isHide": True,
        "isLeader": True,
        "department": [5, "6"],
        "position": "Clerk",
        "orgEmail": "a@x",
        "jobnumber": 17,
        "hiredDate": "1720000000000",
        "extattr": {"b": "2", "a": "1"},
        "unheardOf": 1,
    }
    [found] = await members(v1({"hasMore": False, "userlist": [old]}))
    assert found.fields == {
        "dept_order": 3,
        "telephone": "010",
        "work_place": "杭州",
        "admin": False,
        "boss": False,
        "hide_mobile": True,
        "leader": True,
        "dept_id_list": [5, 6],
        "title": "Clerk",
        "org_email": "a@x",
        "job_number": "17",
        "hired_date": 1720000000000,
        "extension": '{"a": "1", "b": "2"}',
    }


async def test_absent_is_not_empty() -> None:
    raw = {"userid": "a", "name": "", "mobile": None, "hired_date": "", "active": ""}
    found = await v2({"result": raw}).user("a")
    assert found == Member("a", {"name": ""})


async def test_a_user_is_read_with_what_holds_by_department() -> None:
    raw = {
        "userid": "a",
        "dept_id_list": "[2, 3]",
        "leader_in_dept": [{"dept_id": "2", "leader": "true"}],
        "dept_order_list": {"dept_id": 2, "order": "9"},
    }
    found = await v2({"result": raw}).user("a")
    assert found.fields == {
        "dept_id_list": [2, 3],
        "leader_in_dept": [{"dept_id": 2, "leader": True}],
        "dept_order_list": [{"dept_id": 2, "order": 9}],
    }


@pytest.mark.parametrize("make", [v2, v1])
async def test_a_missing_person_or_department_is_none(make: Any) -> None:
    assert await make(gone()).department(5) is None
    assert await make(gone()).children(5) is None
    assert await make(gone()).user("a") is None
    with pytest.raises(LookupError):
        await members(make(gone()))


@pytest.mark.parametrize("make", [v2, v1])
async def test_other_errors_pass(make: Any) -> None:
    refusal = Permission("60011", "没有调用该接口的权限")
    for ask in (
        lambda c: c.department(5),
        lambda c: c.children(5),
        lambda c: c.user("a"),
        lambda c: c.scope(),
        members,
    ):
        with pytest.raises(Permission):
            await ask(make(refusal))


@pytest.mark.parametrize("make", [v2, v1])
async def test_objects_outside_the_scope_are_not_reported_as_gone(make: Any) -> None:
    with pytest.raises(OutOfScope, match="department 5"):
        await make(Permission("50004", "企业部门不在授权范围")).department(5)
    with pytest.raises(OutOfScope):
        await make(Permission("50002", "企业员工不在授权范围内")).user("a")


@pytest.mark.parametrize(
    ("scopes", "departments", "users"),
    [
        ({"authed_dept": [2, "-7"], "authed_user": ["a"]}, [2, -7], ["a"]),
        ({"authed_dept": 2, "authed_user": "a"}, [2], ["a"]),
        ({}, [], []),
    ],
)
async def test_the_scope_is_read(scopes: Any, departments: list[int], users: list[str]) -> None:
    calls = canned({"auth_org_scopes": scopes, "auth_user_field": ["name"]})
    assert await ContactsV2(calls).scope() == (departments, users)
    assert made(calls) == [("/auth/scopes", {})]


@pytest.mark.parametrize("make", [v2, v1])
async def test_a_school_has_departments_with_negative_ids(make: Any) -> None:
    rows = [{"dept_id": -7, "id": -7, "name": "家校通讯录", "parent_id": 1, "parentid": 1}]
    found = await make({"result": rows, "department": rows}).children(1)
    assert [child.id for child in found] == [-7]


async def test_a_department_that_disappears_between_pages_is_reported() -> None:
    first = {"result": {"has_more": True, "next_cursor": 1, "list": [{"userid": "a"}]}}
    with pytest.raises(LookupError):
        await members(v2(first, gone()))


async def is_malformed(reading: Any) -> None:
    with pytest.raises(Transient) as raised:
        await reading
    assert raised.value.code == "malformed_answer"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"result": None},
        {"result": []},
        {"result": {}},
        {"result": {"list": []}},
        {"result": {"has_more": "perhaps", "list": []}},
        {"result": {"has_more": True, "list": [{"userid": "a"}]}},
        {"result": {"has_more": True, "next_cursor": 0, "list": [{"userid": "a"}]}},
        {"result": {"has_more": True, "next_cursor": 1.5, "list": []}},
        {"result": {"has_more": False, "list": [None]}},
        {"result": {"has_more": False, "list": [{"name": "stranger"}]}},
        {"result": {"has_more": False, "list": [{"userid": ""}]}},
        {"result": {"has_more": False, "list": [{"userid": "a", "active": "perhaps"}]}},
        {"result": {"has_more": False, "list": [{"userid": "a", "dept_id_list": ["x"]}]}},
        {"result": {"has_more": False, "list": [{"userid": "a", "dept_id_list": "[2"}]}},
        {"result": {"has_more": False, "list": [{"userid": "a", "hired_date": 2**64}]}},
        {"result": {"has_more": False, "list": [{"userid": "a", "leader_in_dept": [2]}]}},
    ],
)
async def test_a_malformed_page_is_no_page(answer: Any) -> None:
    await is_malformed(members(v2(answer)))


@pytest.mark.parametrize(
    "answer",
    [{}, {"userlist": []}, {"hasMore": False, "userlist": "x"}],
)
async def test_a_malformed_page_of_v1_is_no_page(answer: Any) -> None:
    await is_malformed(members(v1(answer)))


@pytest.mark.parametrize("people", [[], [{"userid": "a"}]])
async def test_pages_that_go_on_and_tell_nothing_end(people: list[Any]) -> None:
    def of_v2(_: FakeRequest) -> Reply:
        page = {"has_more": True, "next_cursor": len(calls.requests), "list": people}
        return {"result": page}

    calls = FakeCalls(of_v2)
    await is_malformed(members(ContactsV2(calls)))
    assert len(calls.requests) < 30
    calls = FakeCalls(lambda _: {"hasMore": True, "userlist": people})
    await is_malformed(members(ContactsV1(calls)))
    assert len(calls.requests) < 30


async def test_other_malformed_answers() -> None:
    await is_malformed(v2({}).children(5))
    await is_malformed(v1({}).children(5))
    await is_malformed(v2({"result": [{"name": "without id"}]}).children(5))
    await is_malformed(v2({"result": [{"dept_id": 0}]}).children(5))
    await is_malformed(v2({"result": {"dept_id": 6}}).department(5))
    await is_malformed(v2({"result": {"userid": "b"}}).user("a"))
    await is_malformed(v2({"result": "x"}).user("a"))
    await is_malformed(visible_range(canned({"result": {"deptIds": "[1"}})))


async def test_an_error_does_not_quote_the_person() -> None:
    raw = {"userid": "a", "hired_date": "13800138000x"}
    with pytest.raises(Transient, match="hired_date") as raised:
        await v2({"result": raw}).user("a")
    assert "13800138000" not in str(raised.value)


async def test_texts_fit_any_database() -> None:
    raw = {"userid": "a", "name": "a\0b\ud800", "role_list": [{"name": "\0x\ud800"}]}
    found = await v2({"result": raw}).user("a")
    assert found.fields == {"name": "ab?", "role_list": [{"name": "x?"}]}


JSON = json_values(["dept_id", "userid", "leader", "order", "id", "name"])
KEYS = [
    *("result", "list", "has_more", "next_cursor", "department", "userlist", "hasMore"),
    *("dept_id", "userid", "id", "parentid", "department", "extattr", "isLeader"),
    *USER_FIELDS,
    *DEPARTMENT_FIELDS,
]
ITEM = st.dictionaries(st.sampled_from(KEYS), JSON, max_size=6)
PAGE = st.fixed_dictionaries(
    {"has_more": JSON, "list": JSON | st.lists(ITEM, max_size=3)}, optional={"next_cursor": JSON}
)
ANSWER = st.dictionaries(st.sampled_from(KEYS), JSON | ITEM | st.lists(ITEM, max_size=3)) | (
    st.fixed_dictionaries({"result": JSON | ITEM | PAGE | st.lists(ITEM, max_size=3)})
)


@settings(max_examples=either(40, 1_000), deadline=None)
@given(answer=ANSWER, make=st.sampled_from([v2, v1]))
async def test_no_answer_leads_to_an_error_of_another_kind(answer: Any, make: Any) -> None:
    for ask in (
        lambda c: c.department(5),
        lambda c: c.children(5),
        lambda c: c.user("a"),
        members,
    ):
        try:
            # What follows the page ends the walk.
            found = await ask(make(answer, gone()))
        except Transient as error:
            assert error.code == "malformed_answer"  # noqa: PT017 - success is fine, too
        except LookupError:
            assert ask is members
        else:
            assert found is not None
