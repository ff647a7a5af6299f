"""One call for several jobs: who is in it, and what each of them hears."""

import asyncio
import time
from math import inf
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import AsyncMock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError

from dingrelay_producers.store.states import OwnershipLost
from dingrelay_workers.calls.batch import Batch, BatchKey, BatchMember
from dingrelay_workers.calls.errors import BatchClosed, BatchSplit
from dingrelay_workers.calls.exchange import Exchange
from dingrelay_workers.calls.registry import BatchRegistry
from dingrelay_workers.dingtalk.apis import MESSAGE_SEND
from dingrelay_workers.dingtalk.errors import (
    Ambiguous,
    Credentials,
    NotFound,
    Permanent,
    QuotaExhausted,
    Throttled,
    TokenInvalid,
    Transient,
)
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.dingtalk.transport import SharedCall
from dingrelay_workers.limiter.slot import Draining, Parked, SlotRequest, Turns
from unit.fake_calls import TOKEN, intents, job_calls, limiter

if TYPE_CHECKING:
    from dingrelay_workers.store.records import Records

HERE = BatchKey("dingrelay:waiting:default:a", "normal")


def slot_request() -> SlotRequest:
    return SlotRequest(Turns("default", "message.send", "normal"))


def batch_of(*users: str, eager: bool = False) -> Batch:
    return Batch(slot_request(), users, key=HERE, eager=eager)


def registry() -> BatchRegistry:
    """One that claims nothing."""
    return BatchRegistry(cast("Records", None))


async def join(batches: BatchRegistry, *users: str) -> BatchMember:
    return await batches.join(HERE, users, slot_request(), eager=False)


def users() -> st.SearchStrategy[list[list[str]]]:
    user = st.integers(1, 150).map(lambda number: f"u{number}")
    return st.lists(st.lists(user, min_size=1, max_size=100, unique=True), min_size=1, max_size=40)


@given(wanted=users())
def test_no_call_holds_a_user_twice_or_more_than_it_takes(wanted: list[list[str]]) -> None:
    async def ask() -> list[BatchMember]:
        batches = registry()
        return [await join(batches, *each) for each in wanted]

    members = asyncio.run(ask())
    for batch in {member.batch for member in members}:
        batch.seal(paid=None)
        for each in members:
            each.ready()
        named = batch.freeze()
        assert len(named) == len(set(named)) <= 100
        assert named == [user for each in members if each.batch is batch for user in each.users]
    assert [list(each.users) for each in members] == wanted


async def test_jobs_join_the_call_that_waits_and_leave_room_when_they_go() -> None:
    batches = registry()
    leader, other = await join(batches, "u1"), await join(batches, "u2", "u3")
    assert leader.sends
    assert not other.sends
    assert leader.batch is other.batch
    assert leader.batch.request.recipients == 3
    other.leave()
    assert leader.batch.request.recipients == 1
    assert (await join(batches, "u1")).sends, "the same user needs a call of its own"


async def test_while_a_call_fills_up_others_wait_for_the_next() -> None:
    batches = registry()
    leader = await join(batches, "u1")
    leader.batch.seal(paid=None)
    later = asyncio.create_task(join(batches, "u2"))
    await asyncio.sleep(0)
    assert not later.done()
    assert leader.batch.freeze() == ["u1"]
    batches.withdraw(leader.batch)
    next_leader = await later
    assert next_leader.sends
    assert next_leader.batch.eager, "it waited"


async def test_a_member_that_is_not_ready_in_time_stays_behind() -> None:
    batch = batch_of("u1")
    slow, ready, never = batch.join(["u2"], eager=False), batch.reserve(), batch.reserve()
    batch.seal(paid=None)
    await slow.slot()
    gone = batch.reserve()
    gone.leave()
    ready.add(["u3"])
    ready.ready()
    await batch.members_ready(0.01)
    assert batch.freeze() == ["u1", "u3"]
    for left_behind in (slow, never):
        with pytest.raises(BatchClosed):
            await left_behind.answer()
    with pytest.raises(BatchClosed):
        never.add(["u4"])
    slow.leave()
    batch.complete({"task_id": 1})
    assert await ready.answer() == {"task_id": 1}


async def test_a_call_leaves_in_the_time_of_each_job_or_without_it() -> None:
    """A job's expiry, or the end of the day that it is admitted for, is as near as its intent says."""
    batch, now = batch_of("u1"), time.monotonic()
    over, soon, later = (batch.join([user], eager=False) for user in ("u2", "u3", "u4"))
    batch.seal(paid=None)
    for member, seconds in ((over, -0.001), (soon, 50), (later, 100)):
        member.ready(now + seconds)
    assert batch.freeze() == ["u1", "u3", "u4"]
    assert batch.call.leave_by == now + 50
    with pytest.raises(BatchClosed):
        await over.answer()


async def test_the_request_of_a_call_leaves_in_the_time_of_all_its_jobs() -> None:
    log: Any = SimpleNamespace(write=AsyncMock(return_value=9.0))
    transport: Any = SimpleNamespace(request=AsyncMock(return_value={"errcode": 0}))
    nothing: Any = None
    exchange = Exchange(nothing, nothing, nothing, transport)
    for soonest, leave_by in ((5.0, 5.0), (inf, 9.0)):
        shared = SharedCall((), leave_by=soonest)
        await exchange._request(Request(MESSAGE_SEND), TOKEN, log, shared)
        assert transport.request.call_args.kwargs["leave_by"] == leave_by


async def test_a_call_whose_token_is_refused_is_made_again_in_another_slot() -> None:
    refused, log, limits = TokenInvalid("40014", "invalid access_token"), intents(), limiter()
    transport = SimpleNamespace(request=AsyncMock(side_effect=[refused, {"errcode": 0}]))
    calls = job_calls(transport=transport, limiter=limits, intents=log)
    assert await calls.send(Request(MESSAGE_SEND)) == {"errcode": 0}
    assert limits.acquire.await_count == 2
    assert [call.args[1:] for call in limits.report.call_args_list] == [(refused,), ()]
    assert log.write.await_count == 2
    log.take_back.assert_called_once_with()


async def test_a_user_who_is_in_the_call_is_not_added_again() -> None:
    batch = batch_of("u1")
    member = batch.reserve()
    batch.seal(paid=None)
    with pytest.raises(BatchClosed):
        member.add(["u1"])
    member.leave()
    await asyncio.wait_for(batch.members_ready(60), 1)
    assert batch.freeze() == ["u1"]


async def test_a_member_that_joined_after_the_slot_was_paid_for_stays_behind() -> None:
    batch = batch_of("u1")
    paid, unpaid = batch.join(["u2"], eager=False), batch.join(["u3"], eager=False)
    batch.seal(paid=2)
    await paid.slot()
    with pytest.raises(BatchClosed):
        await unpaid.slot()
    paid.ready()
    assert batch.freeze() == ["u1", "u2"]


ALIKE = [
    Throttled("90018", "later"),
    Transient("-1", "busy"),
    Ambiguous("timeout", "no answer"),
    Credentials("40001", "wrong secret"),
    QuotaExhausted("90020", "used up"),
    Parked(3, "the limit"),
    Draining(),
    RedisConnectionError(),
]


@pytest.mark.parametrize("error", ALIKE, ids=lambda error: type(error).__name__)
async def test_an_error_of_the_call_is_one_of_all_its_jobs(error: Exception) -> None:
    batch = batch_of("u1")
    other = batch.join(["u2"], eager=False)
    assert batch.fail(error, sent=False) is error
    with pytest.raises(type(error)) as caught:
        await other.slot()
    assert caught.value is error
    assert batch.frozen.is_set()


@pytest.mark.parametrize("error", [Permanent("400002", "wrong"), NotFound("33012", "no such user")])
async def test_a_refusal_splits_the_batch(error: Permanent | NotFound) -> None:
    batch = batch_of("u1")
    assert batch.fail(error, sent=False) is error, "alone it is its own"
    batch = batch_of("u1")
    other = batch.join(["u2"], eager=False)
    assert isinstance(batch.fail(error, sent=False), BatchSplit)
    with pytest.raises(BatchSplit, match=error.code):
        await other.slot()


@pytest.mark.parametrize(("left", "raised"), [(False, BatchClosed), (True, Ambiguous)])
@pytest.mark.parametrize("error", [OwnershipLost(), asyncio.CancelledError()])
async def test_an_error_of_the_sender_only_is_not_the_others(
    error: BaseException, left: bool, raised: type[Exception]
) -> None:
    batch = batch_of("u1")
    other = batch.join(["u2"], eager=False)
    assert batch.fail(error, sent=left) is error
    with pytest.raises(raised):
        await other.slot()


async def test_members_on_their_way_are_waited_for() -> None:
    batch = batch_of("u1", eager=True)
    joined = batch.join(["u2"], eager=False)
    batch.seal(paid=None)
    joined.ready()
    late = batch.reserve()
    ready = asyncio.create_task(batch.members_ready(1))
    await asyncio.sleep(0)
    assert not ready.done()
    late.add(["u3"])
    late.ready()
    await ready
    assert batch.freeze() == ["u1", "u2", "u3"]
