import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dingrelay_tasks import ApprovalCreate, ContractError
from dingrelay_tasks.approval_create import encode, run
from dingrelay_tasks.outcomes import Wait
from support.examples import json_values
from unit.fake_context import START, AnswerLost, FakeContext

FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES = json_values(scalars=st.booleans() | st.integers() | FINITE | st.text())


@pytest.fixture
def ctx() -> FakeContext:
    return FakeContext()


def approval(**fields: Any) -> ApprovalCreate:
    body = {"process_code": "PROC-1", "originator": "u1", "form": {"事由": "出差"}}
    return ApprovalCreate.parse(body | fields)


def refused(**fields: Any) -> str:
    with pytest.raises(ContractError) as caught:
        approval(**fields)
    return caught.value.field


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("出差", "出差"),
        (3, "3"),
        (2.5, "2.5"),
        (["1", "2"], '["1","2"]'),
        (["2025-05-27", "2025-05-28"], '["2025-05-27","2025-05-28"]'),
        ([], "[]"),
        ([{"项目": "车票"}], '[[{"name":"项目","value":"车票"}]]'),
        (
            [{"项目": "车票", "金额": 30}, {"项目": "饭"}],
            (
                '[[{"name":"项目","value":"车票"},{"name":"金额","value":"30"}],'
                '[{"name":"项目","value":"饭"}]]'
            ),
        ),
        ([[{"name": "a", "value": "b"}]], '[[{"name":"a","value":"b"}]]'),
        ([{"spaceId": "1", "fileId": "2"}], '[{"spaceId":"1","fileId":"2"}]'),
    ],
)
def test_values_become_dingtalks_strings(value: Any, text: str) -> None:
    assert encode(value) == text
    assert approval(form={"a": value}).form_values == [("a", text)]


@given(JSON_VALUES)
def test_every_json_value_becomes_a_string_that_survives_the_wire(value: Any) -> None:
    job = approval(form=[{"name": "a", "value": value}])
    assert ApprovalCreate.parse(json.loads(json.dumps(job.wire()))) == job


def test_a_form_is_a_list_or_an_object() -> None:
    fields = [{"name": "事由", "value": "出差"}, {"name": "天数", "value": 3}]
    assert approval(form=fields) == approval(form={"事由": "出差", "天数": 3})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"form": {}}, "form"),
        ({"form": "x"}, "form"),
        ({"form": {f"f{n}": "x" for n in range(151)}}, "form"),
        ({"form": {"a": None}}, "form.0.value"),
        ({"form": {"": "x"}}, "form.0.name"),
        ({"form": {"a": "x" * 65_536}}, "form.0.value"),
        ({"form": {"a": float("inf")}}, "form.0.value"),
        ({"form": [{"name": "a", "value": "b", "id": "c"}]}, "form.0.id"),
        ({"process_code": ""}, "process_code"),
        ({"originator": "a,b"}, "originator"),
        ({"department": 0}, "department"),
        ({"department": -2}, "department"),
        ({"department": "1"}, "department"),
        ({"approvers": [{"action": "AND", "users": ["a"]}] * 21}, "approvers"),
        ({"approvers": [{"action": "ALL", "users": ["a"]}]}, "approvers.0.action"),
        ({"approvers": [{"action": "AND", "users": []}]}, "approvers.0.users"),
        ({"cc": [f"u{n}" for n in range(51)]}, "cc"),
        ({"cc_position": "MIDDLE"}, "cc_position"),
        ({"extra": 1}, "extra"),
    ],
)
def test_errors_are_named(fields: dict[str, Any], field: str) -> None:
    assert refused(**fields) == field


def test_the_limits_themselves_are_allowed() -> None:
    job = approval(
        form={f"f{n}": "x" for n in range(150)},
        approvers=[{"action": "AND", "users": ["a"]}] * 20,
        cc=[f"u{n}" for n in range(50)],
        cc_position="START_FINISH",
        department=7,
    )
    assert job.summary() == "approval-create app=default lane=normal PROC-1 fields=150"


async def test_an_instance_is_created(ctx: FakeContext) -> None:
    job = approval(approvers=[{"action": "OR", "users": ["a", "b"]}], cc=["c"], cc_position="START")
    assert await run(job, ctx) == {"instance_id": "i1"}
    assert ctx.approvals.lookups == 0
    assert ctx.approvals.created_with == job


async def test_an_instance_that_appears_late_is_waited_for(ctx: FakeContext) -> None:
    ctx.approvals.lose = True
    ctx.approvals.hidden_until = START + timedelta(seconds=9)
    job = approval()
    with pytest.raises(AnswerLost):
        await run(job, ctx)
    ctx.clock += timedelta(seconds=3)
    with pytest.raises(Wait) as caught:
        await run(job, ctx)
    assert caught.value.delay == timedelta(seconds=7)
    ctx.clock += caught.value.delay
    assert await run(job, ctx) == {"instance_id": "i1"}
    assert len(ctx.approvals.made) == 1


@pytest.mark.parametrize("later", [0, 3_600])
async def test_a_lookup_that_fails_creates_nothing(ctx: FakeContext, later: float) -> None:
    ctx.approvals.lose = True
    ctx.approvals.lookup_error = ConnectionError()
    job = approval()
    with pytest.raises(AnswerLost):
        await run(job, ctx)
    ctx.clock += timedelta(seconds=later)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            await run(job, ctx)
    assert len(ctx.approvals.made) == 1


async def test_a_form_is_checked_before_it_is_sent_and_not_after(ctx: FakeContext) -> None:
    ctx.approvals.lose = True
    job = approval()
    with pytest.raises(AnswerLost):
        await run(job, ctx)
    await run(job, ctx)
    assert ctx.approvals.checks == 1


async def test_an_instance_that_another_job_left_to_this_one_is_waited_for(
    ctx: FakeContext,
) -> None:
    ctx.approvals.lose = True
    job = approval()
    with pytest.raises(AnswerLost):
        await run(job, ctx)
    ctx.approvals.made.clear()
    ctx.approvals.lose = False
    ctx.clock += 6 * ctx.settle_delay
    ctx.approvals.unsettled = timedelta(seconds=4)
    with pytest.raises(Wait) as caught:
        await run(job, ctx)
    assert caught.value.delay == timedelta(seconds=4)
    assert ctx.approvals.made == []
    ctx.approvals.unsettled = timedelta()
    await run(job, ctx)
    assert len(ctx.approvals.made) == 1


async def test_a_clock_that_was_set_back_makes_nobody_wait_longer(ctx: FakeContext) -> None:
    ctx.approvals.lose = True
    job = approval()
    with pytest.raises(AnswerLost):
        await run(job, ctx)
    ctx.approvals.made.clear()
    ctx.clock -= timedelta(hours=1)
    with pytest.raises(Wait) as caught:
        await run(job, ctx)
    assert caught.value.delay == ctx.settle_delay
