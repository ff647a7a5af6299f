from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from dingrelay_tasks import ApprovalCreate
from dingrelay_workers.dingtalk import apis
from dingrelay_workers.dingtalk.approvals import (
    Approvals,
    ApprovalsTopapi,
    ApprovalsV1,
)
from dingrelay_workers.dingtalk.errors import Ambiguous, NotFound, Transient
from unit.fake_calls import FakeCalls, FakeRequest, Reply

SINCE = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
SINCE_MS = int(SINCE.timestamp() * 1000)
FORM = [("事由", "出差"), ("天数", "3")]
KINDS = {"事由": "TextField", "天数": "NumberField"}
GENERATIONS = [ApprovalsV1, ApprovalsTopapi]

Made = tuple[str, str, str, Sequence[tuple[str, str]]]


class FakeOrganisation:
    """Instances as (id, originator, time of creation, form), returned by both generations."""

    def __init__(self, *made: Made) -> None:
        self.made = {instance[0]: instance for instance in made}
        self.gone: set[str] = set()
        self.url = ""

    def __call__(self, request: FakeRequest) -> Reply:
        if request.api in {apis.APPROVAL_LIST, apis.APPROVAL_LIST_TOPAPI}:
            return self._page(request.body)
        instance_id = request.query.get("processInstanceId") or request.body["process_instance_id"]
        if instance_id in self.gone:
            return NotFound("processInstanceNotExist", "x")
        _, originator, created, form = self.made[instance_id]
        values: list[dict[str, Any]] = [
            {"id": f"{KINDS[name]}_1", "name": name, "value": value} for name, value in form
        ]
        values += [{"name": "空", "value": None}, {"componentType": "TextNote", "value": "说明"}]
        tasks = [{"pcUrl": self.url, "url": self.url}]
        if request.api is apis.APPROVAL_READ:
            return {
                "result": {
                    "originatorUserId": originator,
                    "createTime": created,
                    "businessId": "7",
                    "tasks": tasks,
                    "formComponentValues": values,
                }
            }
        return {
            "process_instance": {
                "originator_userid": originator,
                "create_time": created,
                "business_id": 7,
                "tasks": tasks,
                "form_component_values": values,
            }
        }

    def _page(self, body: dict[str, Any]) -> Reply:
        start = int(body["nextToken"] if "nextToken" in body else body["cursor"])
        ids = list(self.made)
        page: dict[str, Any] = {"list": ids[start : start + 20]}
        if start + 20 < len(ids):
            page |= {"nextToken": str(start + 20), "next_cursor": start + 20}
        return {"result": page}


def form_of(number: int) -> list[tuple[str, str]]:
    return [("事由", f"出差{number}"), ("天数", "3")]


async def matches(
    approvals: Approvals, form: Sequence[tuple[str, str]] = FORM
) -> tuple[list[str], list[str]]:
    """The ids of the equal ones, and of those that can't be distinguished."""
    listed = await approvals.listed("PROC-1", "u1", SINCE_MS)
    equal, unclear = await approvals.matches(listed, originator="u1", form=form)
    return [each.id for each in equal], [each.id for each in unclear]


CREATE = {"process_code": "PROC-1", "originator": "u1", "form": dict(FORM)}


@pytest.mark.parametrize(
    ("generation", "job", "body"),
    [
        (
            ApprovalsV1,
            {
                "approvers": [{"action": "AND", "users": ["a", "b"]}],
                "target_actioners": [{"key": "manual_1", "users": ["d"]}],
                "cc": ["c"],
                "cc_position": "FINISH",
            },
            {
                "originatorUserId": "u1",
                "processCode": "PROC-1",
                "deptId": -1,
                "microappAgentId": 4242,
                "approvers": [{"actionType": "AND", "userIds": ["a", "b"]}],
                "targetSelectActioners": [{"actionerKey": "manual_1", "actionerUserIds": ["d"]}],
                "ccList": ["c"],
                "ccPosition": "FINISH",
                "formComponentValues": [
                    {"name": "事由", "value": "出差"},
                    {"name": "天数", "value": "3"},
                ],
            },
        ),
        (
            ApprovalsTopapi,
            {
                "department": 5,
                "form": dict(FORM[:1]),
                "approvers": [{"action": "NONE", "users": ["a"]}],
                "cc": ["c", "d"],
            },
            {
                "agent_id": 4242,
                "process_code": "PROC-1",
                "originator_user_id": "u1",
                "dept_id": 5,
                "approvers_v2": [{"task_action_type": "NONE", "user_ids": ["a"]}],
                "cc_list": "c,d",
                "form_component_values": [{"name": "事由", "value": "出差"}],
            },
        ),
    ],
)
async def test_the_body_of_a_create(
    generation: type[Approvals], job: dict[str, Any], body: dict[str, Any]
) -> None:
    calls = FakeCalls(lambda _: {"errcode": 0, generation.names["created_id"]: "i1"})
    assert await generation(calls).create(ApprovalCreate.parse(CREATE | job)) == "i1"
    assert calls.requests[0].body == body


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize(
    "answer",
    [{}, {"instanceId": None, "process_instance_id": ""}, {"instanceId": []}],
)
async def test_a_create_may_be_unclear(generation: type[Approvals], answer: dict[str, Any]) -> None:
    with pytest.raises(Ambiguous, match="missing in a successful answer"):
        await generation(FakeCalls(lambda _: answer)).create(ApprovalCreate.parse(CREATE))


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_a_list_is_read_to_its_end(generation: type[Approvals]) -> None:
    made = [(f"i{number}", "u1", "", FORM) for number in range(45)]
    calls = FakeCalls(FakeOrganisation(*made))
    listed = await generation(calls).listed("PROC-1", "u1", SINCE_MS, SINCE_MS + 60_000)
    assert listed == [m[0] for m in made]
    assert len(calls.requests) == 3
    body = calls.requests[0].body
    assert SINCE_MS in {body.get("startTime"), body.get("start_time")}
    assert SINCE_MS + 60_000 in {body.get("endTime"), body.get("end_time")}
    assert 20 in {body.get("maxResults"), body.get("size")}


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_a_list_that_leads_back_is_no_list(generation: type[Approvals]) -> None:
    calls = FakeCalls(lambda _: {"result": {"list": ["i1"], "nextToken": 0, "next_cursor": 0}})
    with pytest.raises(Transient):
        await matches(generation(calls))


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("page", [[], ["i1"]])
async def test_an_endless_list_costs_few(generation: type[Approvals], page: list[str]) -> None:
    def answer(_: FakeRequest) -> Reply:
        place = len(calls.requests)
        return {"result": {"list": page, "nextToken": place, "next_cursor": place}}

    calls = FakeCalls(answer)
    with pytest.raises(Transient):
        await generation(calls).listed("PROC-1", "u1", SINCE_MS)
    assert len(calls.requests) < 30, "each is one of the month"


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_originators_ignore_case(generation: type[Approvals]) -> None:
    calls = FakeCalls(FakeOrganisation(("i1", "U1", "", FORM)))
    assert await matches(generation(calls)) == (["i1"], [])


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_the_equal_form_is_found(generation: type[Approvals]) -> None:
    made = [(f"i{number}", "u1", f"2026-11-24T09:0{number}Z", form_of(number)) for number in (1, 2)]
    approvals = generation(FakeCalls(FakeOrganisation(*made)))
    assert await matches(approvals, form_of(2)) == (["i2"], [])
    assert await matches(approvals, form_of(2)[::-1]) == (["i2"], [])
    assert await matches(approvals, [*form_of(2), ("空", "")]) == (["i2"], [])
    assert await matches(approvals, form_of(3)) == ([], [])
    assert await matches(approvals, [("事由", "出差2"), ("天数", "4")]) == ([], [])


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_matches_are_the_originators_by_time(generation: type[Approvals]) -> None:
    made: list[Made] = [
        ("late", "u1", "2026-11-24T09:03Z", FORM),
        ("early", "u1", "2026-11-24T09:01Z", FORM),
        ("another's", "u2", "2026-11-24T09:00Z", FORM),
    ]
    assert await matches(generation(FakeCalls(FakeOrganisation(*made)))) == (["early", "late"], [])


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_an_unreadable_instance_may_match(generation: type[Approvals]) -> None:
    organisation = FakeOrganisation(("i1", "u1", "", FORM))
    organisation.gone.add("i1")
    assert await matches(generation(FakeCalls(organisation))) == ([], ["i1"])


@pytest.mark.parametrize("generation", GENERATIONS)
async def test_an_instance_has_a_link(generation: type[Approvals]) -> None:
    organisation = FakeOrganisation(("i1", "u1", "2026-11-24T09:03Z", FORM))
    approvals = generation(FakeCalls(organisation))
    own = "https://aflow.dingtalk.com?procInsId=i1&businessId=7"
    for url, link in ("", own), (own.removeprefix("https://") + "&taskId=1", own + "&taskId=1"):
        organisation.url = url
        (found,), _ = await approvals.matches(["i1"], originator="u1", form=FORM)
        assert found.link == link


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize(
    "answer", [{}, {"result": []}, {"result": {"list": "i1"}}, {"result": {"list": [{}]}}]
)
async def test_an_unreadable_list(generation: type[Approvals], answer: dict[str, Any]) -> None:
    with pytest.raises(Transient, match="missing in a successful answer"):
        await matches(generation(FakeCalls(lambda _: answer)))
