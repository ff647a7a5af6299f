import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dingrelay_tasks import MessageSend, MessageSendResult
from dingrelay_tasks.context import DeliveryReport
from dingrelay_tasks.message_send import outcomes, run, so_far
from dingrelay_tasks.outcomes import Duplicate, Refused, Unknown, Wait
from unit.fake_context import EVERYONE, START, AnswerLost, FakeContext

TEXT = {"msgtype": "text", "text": {"content": "你好"}}


@pytest.fixture
def ctx() -> FakeContext:
    return FakeContext()


def to(*users: str, **fields: Any) -> MessageSend:
    return MessageSend.parse({"to": {"users": list(users)}, "message": TEXT, **fields})


def people(count: int) -> list[str]:
    return [f"u{number}" for number in range(count)]


async def test_one_call_and_its_result(ctx: FakeContext) -> None:
    result = await run(to("u1", "u2"), ctx)
    assert result == {
        "calls": [{"task_id": 1001, "request_id": "r1", "recipients": 2}],
        "accepted": 2,
        "duplicate": [],
        "daily_cap": [],
        "unknown_user": [],
        "out_of_scope": [],
        "unresolved": [],
        "duplicate_departments": [],
        "perhaps_duplicate": [],
        "unverified": [],
        "invalid": [],
        "forbidden": [],
        "failed": [],
    }
    assert ctx.messages.sent[0].message == TEXT
    assert MessageSendResult.model_validate(result).model_dump(mode="json") == result


async def test_users_are_split_by_a_hundred_and_named_once(ctx: FakeContext) -> None:
    users = people(250)
    result = await run(to(*users, *users), ctx)
    assert [len(sent.users) for sent in ctx.messages.sent] == [100, 100, 50]
    assert [user for sent in ctx.messages.sent for user in sent.users] == users
    assert result["accepted"] == 250


async def test_departments_are_split_by_twenty(ctx: FakeContext) -> None:
    departments = list(range(1, 46))
    job = MessageSend.parse({"to": {"users": ["u"], "departments": departments}, "message": TEXT})
    result = await run(job, ctx)
    assert [len(sent.departments) for sent in ctx.messages.sent] == [0, 20, 20, 5]
    assert [call["recipients"] for call in result["calls"]] == [1, 0, 0, 0]


async def test_everyone_is_one_call(ctx: FakeContext) -> None:
    result = await run(MessageSend.parse({"to": {"everyone": True}, "message": TEXT}), ctx)
    assert [sent.everyone for sent in ctx.messages.sent] == [True]
    assert len(ctx.messages.taken) == 1
    assert result["accepted"] == 0


async def test_people_who_would_get_nothing_are_left_out_and_named(ctx: FakeContext) -> None:
    other = FakeContext("job-2")
    other.messages.taken = ctx.messages.taken
    await run(to("u1"), other)
    ctx.messages.capped = {"u2"}
    result = await run(to("u1", "u2", "u3"), ctx)
    assert ctx.messages.sent[0].users == ["u3"]
    assert (result["duplicate"], result["daily_cap"], result["accepted"]) == (["u1"], ["u2"], 1)


async def test_nobody_left_ends_as_a_duplicate_without_a_call(ctx: FakeContext) -> None:
    ctx.messages.capped = set(people(150))
    with pytest.raises(Duplicate) as caught:
        await run(to(*people(150)), ctx)
    assert ctx.messages.calls == 0
    assert caught.value.result["daily_cap"] == people(150)


async def test_the_daily_limits_can_be_skipped(ctx: FakeContext) -> None:
    ctx.messages.capped = {"u1"}
    result = await run(to("u1", allow_duplicate=True), ctx)
    assert result["accepted"] == 1


async def test_a_lost_answer_can_stop_the_job(ctx: FakeContext) -> None:
    ctx.messages.lose = 1
    job = to("u1", on_unknown="stop")
    with pytest.raises(AnswerLost):
        await run(job, ctx)
    with pytest.raises(Unknown):
        await run(job, ctx)
    assert ctx.messages.calls == 1


async def test_confirmation_waits_longer_the_longer_it_takes(ctx: FakeContext) -> None:
    job = to(*people(101), confirm=True)
    ctx.messages.deliveries = {
        1001: [DeliveryReport(finished=True, invalid=["u7"])],
        1002: [DeliveryReport(finished=False)] * 3
        + [DeliveryReport(finished=True, forbidden=[{"userid": "u100", "code": "143105"}])],
    }
    waits: list[float] = []
    for _ in range(3):
        with pytest.raises(Wait) as caught:
            await run(job, ctx)
        waits.append(caught.value.delay.total_seconds())
        ctx.clock += caught.value.delay + timedelta(seconds=13)
    result = await run(job, ctx)
    assert waits == [2, 15, 30]
    assert (result["invalid"], result["accepted"]) == (["u7"], 101)
    assert result["forbidden"] == [{"userid": "u100", "code": "143105"}]
    assert ctx.messages.calls == 2


async def test_confirmation_does_not_wait_for_ever(ctx: FakeContext) -> None:
    ctx.messages.deliveries = {1001: [DeliveryReport(finished=False)]}
    job = to("u1", confirm=True)
    with pytest.raises(Wait):
        await run(job, ctx)
    ctx.clock = START + timedelta(minutes=10)
    assert (await run(job, ctx))["accepted"] == 1


async def test_departments_are_not_confirmed(ctx: FakeContext) -> None:
    body = {"to": {"departments": [1]}, "message": TEXT, "confirm": True}
    assert (await run(MessageSend.parse(body), ctx))["invalid"] == []


async def test_a_lost_answer_is_not_repeated_on_another_day(ctx: FakeContext) -> None:
    ctx.messages.lose = 1
    with pytest.raises(AnswerLost):
        await run(to("u1"), ctx)
    ctx.clock = datetime(2026, 11, 24, 16, 0, 3, tzinfo=UTC)
    with pytest.raises(Unknown):
        await run(to("u1"), ctx)
    assert ctx.messages.calls == 1


async def test_the_day_of_a_lost_answer_is_dingtalks(ctx: FakeContext) -> None:
    ctx.messages.lose = 1
    ctx.clock = datetime(2026, 11, 24, 15, 59, 35, tzinfo=UTC)
    ctx.ahead = timedelta(seconds=20)
    with pytest.raises(AnswerLost):
        await run(to("u1"), ctx)
    ctx.clock += timedelta(seconds=10)
    with pytest.raises(Unknown):
        await run(to("u1"), ctx)
    assert ctx.messages.calls == 1


async def test_requeueing_a_lost_answer_repeats_the_call(ctx: FakeContext) -> None:
    ctx.messages.lose = 1
    with pytest.raises(AnswerLost):
        await run(to("u1", on_unknown="stop"), ctx)
    with pytest.raises(Unknown):
        await run(to("u1", on_unknown="stop"), ctx)
    assert ctx.intent
    ctx.intent = replace(ctx.intent, requeued=True)
    ctx.clock = ctx.clock + timedelta(days=1)
    result = await run(to("u1", on_unknown="stop"), ctx)
    assert result["accepted"] == 1
    assert ctx.messages.calls == 2


async def test_departments_and_everyone_that_have_it_are_left_out(ctx: FakeContext) -> None:
    content = json.dumps(TEXT)
    ctx.messages.taken = {("2", content): "other", (EVERYONE, content): "other"}
    job = MessageSend.parse({"to": {"departments": [1, 2]}, "message": TEXT})
    result = await run(job, ctx)
    assert ctx.messages.sent[0].departments == [1]
    assert result["duplicate_departments"] == [2]
    ctx.remembered.clear()
    with pytest.raises(Duplicate):
        await run(MessageSend.parse({"to": {"everyone": True}, "message": TEXT}), ctx)


def test_the_summary_holds_recipients_and_no_content() -> None:
    assert to("a", "b").summary() == "message-send app=default lane=normal text users=2"
    everyone = MessageSend.parse({"to": {"everyone": True}, "message": TEXT, "lane": "bulk"})
    assert everyone.summary().endswith("lane=bulk text everyone")
    assert everyone.queue == "dingrelay.bulk"
    assert to("a", lane="urgent").queue == "dingrelay.urgent"


OA = {
    "msgtype": "oa",
    "oa": {
        "message_url": "https://example.com/1",
        "head": {"bgcolor": "FFBBBBBB", "text": "报销"},
        "body": {"title": "报销单", "content": "待确认"},
    },
}
STATUS_BAR = {**OA, "oa": {**OA["oa"], "status_bar": {"status_value": "进行中"}}}  # type: ignore[dict-item]


def test_equal_messages_of_any_lane_and_time_share_a_call() -> None:
    later = (START + timedelta(hours=1)).isoformat()
    alike = [to("u1"), to("u2", lane="bulk"), to("u3", send_at=later), to(*people(100))]
    alike.append(to("u4", idempotency_key="k", expires_at=later))
    assert len({job.batch_digest for job in alike}) == 1
    assert alike[0].batch_digest
    assert MessageSend.parse({"to": {"users": ["u1"]}, "message": OA}).batch_digest


@pytest.mark.parametrize(
    "fields",
    [
        {"confirm": True},
        {"allow_duplicate": True},
        {"on_unknown": "stop"},
        {"to": {"users": people(101)}},
        {"to": {"users": ["u1"], "departments": [1]}},
        {"to": {"everyone": True}},
        {"message": STATUS_BAR},
    ],
    ids=str,
)
def test_messages_that_cannot_share_a_call_go_alone(fields: dict[str, Any]) -> None:
    job = {"to": {"users": ["u1"]}, "message": TEXT, **fields}
    assert MessageSend.parse(job).batch_digest is None


def test_other_content_is_shared_with_nobody_else() -> None:
    other = MessageSend.parse(
        {"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {"content": "另"}}}
    )
    assert other.batch_digest != to("u1").batch_digest


def test_null_for_users_is_none_of_them() -> None:
    steps: dict[str, Any] = {"addresses": {"users": ["u1"], "unresolved": []}}
    assert outcomes({"to": {"users": None}}, steps) == {"u1": "not_sent"}


async def test_a_message_that_the_others_have_is_a_duplicate(ctx: FakeContext) -> None:
    ctx.messages.unknown, ctx.messages.capped = {"u1"}, {"u2"}
    with pytest.raises(Duplicate) as caught:
        await run(to("u1", "u2"), ctx)
    assert caught.value.result["unknown_user"] == ["u1"]


async def test_people_of_a_call_without_an_answer_are_in_its_repeat(ctx: FakeContext) -> None:
    ctx.messages.lose = 1
    job = to("u1", "u2")
    with pytest.raises(AnswerLost):
        await run(job, ctx)
    ctx.messages.unknown = {"u1"}
    result = await run(job, ctx)
    assert (result["accepted"], result["unverified"]) == (2, ["u1"])
    assert result["calls"][0]["repeated"]
    assert ctx.messages.sent[0] == ctx.messages.sent[1]


@pytest.mark.parametrize(
    ("confirm", "delivery", "u1", "u2"),
    [
        (False, DeliveryReport(True), "unverified", "unverified"),
        (True, DeliveryReport(False), "unverified", "unverified"),
        (True, DeliveryReport(True, unread=["u1"], invalid=["u2"]), "accepted", "invalid"),
    ],
    ids=["unconfirmed", "unfinished", "finished"],
)
async def test_a_finished_delivery_verifies_users(
    ctx: FakeContext, confirm: bool, delivery: DeliveryReport, u1: str, u2: str
) -> None:
    ctx.messages.unverified = {"u1", "u2"}
    ctx.messages.deliveries[1001] = [delivery]
    job = to("u1", "u2", confirm=confirm)
    if not delivery.finished:
        with pytest.raises(Wait):
            await run(job, ctx)
        ctx.clock += timedelta(minutes=10)
    result = await run(job, ctx)
    by_user = outcomes({"to": {"users": ["u1", "u2"]}}, ctx.remembered)
    assert by_user == {"u1": u1, "u2": u2}
    assert result["unverified"] == [user for user, of in by_user.items() if of == "unverified"]


@pytest.mark.parametrize(
    ("report", "ends"),
    [
        (DeliveryReport(True, invalid=["u1", "u2"]), "2 invalid"),
        (DeliveryReport(True, failed=["u1", "u2"]), "2 failed"),
        (
            DeliveryReport(True, invalid=["u1"], forbidden=[{"userid": "u2", "code": "143103"}]),
            "1 invalid, 1 forbidden",
        ),
        (DeliveryReport(True, invalid=["u1"]), "done"),
        # One person may be named twice.
        (DeliveryReport(True, invalid=["u1", "u1"], failed=["u1"]), "done"),
        (DeliveryReport(True, failed=["u1"], forbidden=[{"userid": "u1", "code": ""}]), "done"),
        (
            DeliveryReport(True, invalid=["u1"], forbidden=[{"userid": "u2", "code": "143106"}]),
            "done",
        ),
    ],
)
async def test_one_delivery_confirms(ctx: FakeContext, report: DeliveryReport, ends: str) -> None:
    ctx.messages.deliveries = {1001: [report]}
    job = to("u1", "u2", confirm=True)
    if ends == "done":
        assert (await run(job, ctx))["invalid"] == report.invalid
        return
    with pytest.raises(Refused, match=f"none of 2 people: {ends}") as error:
        await run(job, ctx)
    assert error.value.code == "nobody_reached"
    result = so_far(ctx.remembered)
    assert (result["invalid"], result["failed"]) == (report.invalid, report.failed)
