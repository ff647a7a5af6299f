"""event: what follows from an event of DingTalk's."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_producers.store import record
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.event import CONSEQUENCES, Event, run, value
from dingrelay_tasks.organisation import Department, Member
from dingrelay_tasks.outcomes import OutOfScope, Refused, Wait
from dingrelay_tasks.user_sync import ASKED_AT_ONCE
from support.examples import json_values
from unit.fake_context import FakeContext
from unit.fake_directory import FakeDirectory


class Organisation(FakeDirectory):
    """DingTalk and the directory in one: who is there, and what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.people: dict[str, bool] = {}
        self.departments: dict[int, dict[str, Any]] = {}
        self.hidden: set[str | int] = set()
        self.reads = 0

    async def user(self, userid: str) -> Member | None:
        self.reads += 1
        if userid in self.hidden:
            raise OutOfScope("user")
        return Member(userid, {}) if self.people.get(userid) else None

    async def department(self, number: int) -> Department | None:
        self.reads += 1
        if number in self.hidden:
            raise OutOfScope("department")
        found = self.departments.get(number)
        return None if found is None else Department(number, found)


class Ctx(FakeContext):
    def __init__(self) -> None:
        super().__init__()
        self.organisation = Organisation()
        self.contacts = self.directory = self.organisation
        self.spawned: list[int] = []

    async def spawn(self, children: Any, *, keys: Any) -> None:
        self.spawned += [child.department for child in children]
        assert list(keys) == [str(child.department) for child in children]

    async def children(self, kind: str, keys: Any) -> list[str | None]:
        return ["queued"] * len(keys)


def event_of(event_type: str, **data: Any) -> Event:
    return Event(event_type=event_type, event_id="e", data=data)


async def test_a_type_without_a_row_is_done_and_asks_nothing() -> None:
    ctx = Ctx()
    result = await run(event_of("chat_add_member", ChatId="x"), ctx)
    assert result["follows"] == "nothing"
    assert (ctx.organisation.reads, ctx.pushes) == (0, 1)


@pytest.mark.parametrize("event_type", ["user_add_org", "user_modify_org", "user_active_org"])
async def test_each_person_of_an_event_is_asked_for_once(event_type: str) -> None:
    ctx = Ctx()
    ctx.organisation.people = {"a": True, "7": True}
    result = await run(event_of(event_type, UserId=["a", 7, "a"]), ctx)
    assert (result["follows"], result["users"], result["gone"]) == ("directory", 2, 0)
    assert ctx.organisation.writes == [("put", "a"), ("put", "7")]
    await run(event_of(event_type, UserId=["a", 7, "a"]), ctx)
    assert (ctx.organisation.reads, ctx.pushes) == (2, 0)


async def test_an_answer_that_contradicts_the_event_is_asked_for_once_more() -> None:
    ctx = Ctx()
    ctx.organisation.people = {"a": True}
    leave = event_of("user_leave_org", userId=["a", "b"])
    with pytest.raises(Wait) as wait:
        await run(leave, ctx)
    assert wait.value.delay == timedelta(seconds=10)
    assert ctx.organisation.writes == [("put", "a"), ("drop", "b")]
    ctx.organisation.people = {}
    result = await run(leave, ctx)
    assert result["gone"] == 2
    assert ctx.organisation.writes[2:] == [("drop", "a")]


async def test_an_answer_that_dingtalk_repeats_is_believed() -> None:
    ctx = Ctx()
    join = event_of("user_add_org", userId=["a"])
    with pytest.raises(Wait):
        await run(join, ctx)
    assert (await run(join, ctx))["gone"] == 1


async def test_people_that_the_app_may_not_see_stay_as_they_are() -> None:
    ctx = Ctx()
    ctx.organisation.hidden = {"a", 9}
    assert (await run(event_of("user_leave_org", userId="a"), ctx))["gone"] == 0
    assert ctx.organisation.writes == []
    ctx = Ctx()
    ctx.organisation.hidden = {9}
    await run(event_of("org_dept_modify", deptId=[9]), ctx)
    opened = ("open", ctx.job_id, "event")
    assert ctx.organisation.writes == [opened, ("departments", [], [9], []), ("close", True)]


async def test_a_known_department_costs_a_call_and_who_heads_it_another() -> None:
    ctx = Ctx()
    ctx.organisation.departments = {5: {"dept_manager_userid_list": ["new", "", 3]}}
    ctx.organisation.known, ctx.organisation.heads = {5}, {5: ["old"]}
    ctx.organisation.people = {"new": True, "old": True}
    await run(event_of("org_dept_modify", DeptId=["5"]), ctx)
    assert ctx.organisation.reads == 3
    assert {("put", "new"), ("put", "old")} < set(map(tuple, map(str_of, ctx.organisation.writes)))
    assert ctx.spawned == []


def str_of(write: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(map(str, write))


async def test_a_new_department_is_walked() -> None:
    ctx = Ctx()
    ctx.organisation.departments = {5: {}, 6: {}}
    ctx.organisation.known = {6}
    create = event_of("org_dept_create", deptId=[5, 6])
    with pytest.raises(Wait, match="1 departments pending"):
        await run(create, ctx)
    assert ctx.spawned == [5]
    ctx.organisation.open.clear()
    assert (await run(create, ctx))["departments"] == 2
    assert ctx.organisation.reads == 2


async def test_the_members_of_a_department_that_is_gone_are_asked_for() -> None:
    ctx = Ctx()
    everybody = [f"u{number}" for number in range(ASKED_AT_ONCE + 2)]
    ctx.organisation.people = dict.fromkeys(everybody[:-1], True)
    ctx.organisation.hidden = {everybody[-2]}
    ctx.organisation.inside = {5: everybody}
    remove = event_of("org_dept_remove", deptId=5)
    for left in (2, 0):
        with pytest.raises(Wait):
            await run(remove, ctx)
        assert len(ctx.organisation.unmet_users) == left
    assert (await run(remove, ctx))["gone"] == 1
    assert ctx.organisation.reads == 1 + len(everybody)
    assert ctx.organisation.writes[2:] == [
        ("vanish", 5, 0),
        ("users", ASKED_AT_ONCE, [], []),
        ("users", 0, everybody[-2:-1], everybody[-1:]),
        ("close", True),
    ]


async def test_an_answer_that_is_older_than_the_end_of_a_department_is_asked_for_again() -> None:
    ctx = Ctx()
    ctx.organisation.people = {"a": True}
    ctx.organisation.outdated = {"a": True}
    edit = event_of("user_modify_org", userId="a")
    with pytest.raises(Wait, match="deleted after it was read") as wait:
        await run(edit, ctx)
    assert wait.value.delay == timedelta(0)
    assert (await run(edit, ctx))["gone"] == 0
    assert ctx.organisation.writes == [("put", "a"), ("put", "a")]


@pytest.mark.parametrize(
    "data", [{}, {"userId": []}, {"userId": [{"id": "a"}]}, {"userId": "a,b"}, {"userId": [True]}]
)
async def test_an_event_without_ids_is_refused_by_name(data: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=r"data\.userId") as refused:
        await run(event_of("user_modify_org", **data), Ctx())
    assert refused.value.code == "event_unreadable"


async def test_a_thousand_people_are_asked_for_a_hundred_a_run() -> None:
    ctx = Ctx()
    ctx.organisation.people = {f"u{number}": True for number in range(250)}
    event = event_of("user_modify_org", userId=list(ctx.organisation.people))
    for count in (100, 200):
        with pytest.raises(Wait):
            await run(event, ctx)
        assert ctx.organisation.reads == count
    assert (await run(event, ctx))["users"] == 250


def test_the_same_event_is_the_same_job() -> None:
    first, again = event_of("user_add_org", userId=["a"]), event_of("user_add_org", userId=["b"])
    assert record.draft(first).id == record.draft(again).id
    other = first.model_copy(update={"app": "hr"})
    assert record.draft(other).id != record.draft(first).id
    assert record.draft(first).queue == "dingrelay.events"


PLAIN = json_values(scalars=st.none() | st.booleans() | st.integers() | st.text())


@given(st.dictionaries(st.text(), PLAIN), st.text(min_size=1, max_size=20))
def test_an_event_without_an_id_is_known_by_its_content(data: Any, event_type: str) -> None:
    def of(data: dict[str, Any], at: int) -> str | None:
        return Event(event_type=event_type, born_at=at, data=data).identity

    reordered = dict(reversed(data.items()))
    assert of(data, 1) == of(reordered, 1)
    assert of(data, 1) != of(data, 2)
    assert of(data, 1) != of({**data, "one more field": 1}, 1)


def test_fields_are_found_in_any_letters() -> None:
    assert value({"USERID": 1, "userId": 2}, "userId") == 2
    assert value({"USERID": 1}, "userId") == 1
    assert value({}, "userId") is None


@pytest.mark.parametrize(
    ("field", "given"),
    [("event_type", ""), ("event_id", "x" * 257), ("born_at", -1), ("data", []), ("app", "a b")],
)
def test_a_wrong_event_is_refused_by_the_name_of_its_field(field: str, given: Any) -> None:
    with pytest.raises(ContractError) as refused:
        Event.parse({"event_type": "x", field: given})
    assert refused.value.field == field


def test_the_table_knows_the_events_of_the_organisation() -> None:
    assert {"user_leave_org", "org_dept_remove"} < CONSEQUENCES.keys()
