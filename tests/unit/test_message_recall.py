"""A message is recalled as far as its calls were only its own."""

from datetime import UTC, datetime

import pytest

from dingrelay_producers import JobStatus, State
from dingrelay_producers.client.history_documents import JobDetails
from dingrelay_producers.client.job_details import recall_of
from dingrelay_tasks.context import DeliveryReport
from dingrelay_tasks.message_recall import MessageRecall, run, so_far
from dingrelay_tasks.outcomes import Refused, Wait
from unit.fake_context import AnswerLost, FakeContext


def recall(*calls: int, users: tuple[str, ...] = (), unknown: int = 0, **of: bool) -> MessageRecall:
    sent = [{"task_id": call, "named": False, **of} for call in calls]
    fields = {"message": "job-1", "calls": sent, "users": list(users), "unknown": unknown}
    return MessageRecall.parse(fields)


@pytest.fixture
def ctx() -> FakeContext:
    return FakeContext()


async def test_every_call_is_taken_back_once(ctx: FakeContext) -> None:
    ctx.messages.unrecallable = {2}
    ctx.messages.lose = 3
    with pytest.raises(AnswerLost):
        await run(recall(1, 2, 3), ctx)
    result = await run(recall(1, 2, 3), ctx)
    assert (result["recalled"], result["refused"], result["shared"]) == ([1, 3], [2], [])
    assert ctx.messages.recalled == [1, 3, 3]


async def test_calls_shared_with_others_are_not_recalled(ctx: FakeContext) -> None:
    ctx.messages.deliveries = {1: [DeliveryReport(True, read=["u1"], unread=["u2"])]}
    with pytest.raises(Refused, match="none of 1 calls: 1 shared with others") as error:
        await run(recall(1, named=True, users=("u1",)), ctx)
    assert error.value.code == "nothing_recalled"
    assert ctx.messages.recalled == []
    ctx = FakeContext()
    ctx.messages.deliveries = {1: [DeliveryReport(True, read=["u1"], unread=["u2"])]}
    job = recall(1, named=True, users=("u1", "u2", "u3"))
    assert (await run(job, ctx))["recalled"] == [1]


async def test_a_delivery_that_goes_on_is_waited_for(ctx: FakeContext) -> None:
    ctx.messages.deliveries = {1: [DeliveryReport(False), DeliveryReport(True, unread=["u1"])]}
    job = recall(1, named=True, users=("u1",))
    with pytest.raises(Wait):
        await run(job, ctx)
    assert (await run(job, ctx))["recalled"] == [1]


async def test_people_that_a_lost_call_reached_keep_the_message(ctx: FakeContext) -> None:
    had = [{"userid": user, "code": "143106", "count": 1} for user in ("u2", "other")]
    ctx.messages.deliveries = {
        1: [DeliveryReport(True, unread=["u1"], forbidden=had)],
        2: [DeliveryReport(True, forbidden=had)],
    }
    users = ("u1", "u2")
    result = await run(recall(1, named=True, repeated=True, users=users, unknown=3), ctx)
    assert (result["recalled"], result["kept"], result["unknown"]) == ([1], ["u2"], 3)
    with pytest.raises(Refused, match="1 people have it by a call whose answer was lost") as error:
        await run(recall(2, named=True, repeated=True, users=users), ctx)
    assert error.value.code == "nothing_recalled"
    assert ctx.messages.recalled == [1]
    known = so_far(ctx.remembered)
    assert {*known["kept"]} == {"u2"}


def test_two_recalls_of_a_message_are_one_job() -> None:
    assert recall(1).identity == recall(1, named=True, users=("u1",)).identity


def test_one_that_has_made_more_calls_since_is_recalled_by_another() -> None:
    assert recall(1).identity != recall(1, 2).identity


async def test_a_call_that_is_too_old_to_be_asked_about_is_named(ctx: FakeContext) -> None:
    with pytest.raises(Refused, match="none of 1 calls: 1 too old"):
        await run(recall(1, named=True, users=("u1",)), ctx)
    assert ctx.messages.recalled == []


@pytest.mark.parametrize(
    ("calls", "left_out", "named"),
    [
        ((2,), 0, True),
        ((50, 30), 0, True),
        ((100, 1), 0, False),
        ((50,), 51, False),
        ((3, 0), 0, False),
    ],
)
def test_only_shareable_calls_are_read(calls: tuple[int, ...], left_out: int, named: bool) -> None:
    """A limit of the app's can make calls small: then a job of several shares them all the same."""
    made = [{"task_id": number, "recipients": people} for number, people in enumerate(calls)]
    status = JobStatus(
        id="job-1",
        kind="message-send",
        app="default",
        lane="normal",
        state=State.DONE,
        created_at=datetime.now(UTC),
        result={"calls": made, "accepted": sum(calls), "duplicate": ["u"] * left_out},
    )
    people = {"u1": "accepted", "u2": "duplicate", "u3": "unknown_user"}
    job = recall_of(JobDetails(status, "", people))
    assert {call.named for call in job.calls} == {named}
    assert job.users == (["u1"] if named else [])
