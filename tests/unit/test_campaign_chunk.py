from datetime import timedelta
from typing import Any

import pytest

from dingrelay_tasks.campaign_chunk import TOO_LARGE, CampaignChunk, CampaignChunkResult, run
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.outcomes import Refused, Unknown, Withdrawn
from unit.fake_context import START, AnswerLost, FakeContext

TEXT = {"msgtype": "text", "text": {"content": "你好"}}


@pytest.fixture
def ctx() -> FakeContext:
    return FakeContext()


def chunk(*users: str, **fields: Any) -> CampaignChunk:
    return CampaignChunk.parse(
        {"campaign": "c", "number": 0, "users": list(users), "message": TEXT, **fields}
    )


async def test_it_is_one_call_to_the_people_that_it_would_reach(ctx: FakeContext) -> None:
    ctx.messages.capped.add("u2")
    ctx.messages.taken["u3", '{"msgtype": "text", "text": {"content": "\\u4f60\\u597d"}}'] = "other"
    result = await run(chunk("u1", "u2", "u3"), ctx)
    assert result == {
        "call": {"task_id": 1001, "request_id": "r1", "recipients": 1},
        "called_at": START.isoformat(),
        "duplicate": ["u3"],
        "daily_cap": ["u2"],
        "ambiguous": False,
    }
    assert [sent.users for sent in ctx.messages.sent] == [["u1"]]
    read = CampaignChunkResult.model_validate({**result, "of_a_later_release": []})
    assert read.model_dump(mode="json") == result


async def test_nobody_left_is_no_call(ctx: FakeContext) -> None:
    ctx.messages.capped.add("u1")
    result = await run(chunk("u1"), ctx)
    assert (result["call"], result["called_at"], result["daily_cap"]) == (None, None, ["u1"])
    assert not ctx.messages.sent


async def test_a_lost_answer_is_repeated_with_the_same_bytes_and_reported(ctx: FakeContext) -> None:
    ctx.messages.lose = 1
    with pytest.raises(AnswerLost):
        await run(chunk("u1"), ctx)
    result = await run(chunk("u1"), ctx)
    assert result["ambiguous"] is True
    first, second = ctx.messages.sent
    assert first == second


async def test_an_answer_that_came_is_not_asked_for_again(ctx: FakeContext) -> None:
    first = await run(chunk("u1"), ctx)
    assert await run(chunk("u1"), ctx) == first
    assert len(ctx.messages.sent) == 1


async def test_a_lost_answer_of_another_day_is_not_repeated(ctx: FakeContext) -> None:
    ctx.messages.lose = 1
    with pytest.raises(AnswerLost):
        await run(chunk("u1"), ctx)
    ctx.clock += timedelta(days=1)
    with pytest.raises(Unknown):
        await run(chunk("u1"), ctx)
    assert len(ctx.messages.sent) == 1


async def test_a_chunk_whose_job_was_lost_is_reported_as_ambiguous(ctx: FakeContext) -> None:
    assert (await run(chunk("u1", repeated=True), ctx))["ambiguous"] is True


async def test_more_people_than_a_call_may_have_are_refused_before_it(ctx: FakeContext) -> None:
    ctx.messages.users_per_call = 1
    with pytest.raises(Refused) as refused:
        await run(chunk("u1", "u2"), ctx)
    assert refused.value.code == TOO_LARGE
    with pytest.raises(Unknown):
        await run(chunk("u1", "u2", repeated=True), ctx)
    assert not ctx.messages.sent
    ctx.messages.capped.add("u1")
    assert (await run(chunk("u1", "u2"), ctx))["call"]["recipients"] == 1


def test_a_chunk_is_one_call() -> None:
    with pytest.raises(ContractError):
        chunk(*(f"u{number}" for number in range(101)))
    with pytest.raises(ContractError):
        chunk()


async def test_a_call_that_sql_does_not_want_is_not_made(ctx: FakeContext) -> None:
    ctx.campaigns.wanted = False
    with pytest.raises(Withdrawn):
        await run(chunk("u1"), ctx)
    assert ctx.messages.calls == 0
    ctx.campaigns.wanted = True
    known = await run(chunk("u1"), ctx)
    ctx.campaigns.wanted = False
    assert await run(chunk("u1"), ctx) == known, "the answer of a call that was made is kept"


async def test_people_that_no_look_up_shows_are_unverified(ctx: FakeContext) -> None:
    ctx.messages.unverified, ctx.messages.unknown = {"u2"}, {"u3"}
    assert (await run(chunk("u1", "u2", "u3"), ctx))["unverified"] == ["u2"]
    ctx.remembered.clear()
    repeat = await run(chunk("u1", "u2", "u3", repeated=True), ctx)
    assert repeat["unverified"] == ["u2", "u3"]
    assert len(ctx.messages.sent[1].users) == 3
