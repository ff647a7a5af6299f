"""Messages that DingTalk drops silently are refused before the call, for a Beijing day."""

import asyncio
import string
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any

import pytest
from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock, keys, record
from dingrelay_producers.store.resolution import Resolution
from dingrelay_producers.store.scripts import Call, Script, run_async
from dingrelay_producers.store.states import Ownership, OwnershipLost, State
from dingrelay_tasks import beijing
from dingrelay_tasks.context import DailyVerdict, MessageCall
from dingrelay_tasks.message import digest
from dingrelay_tasks.outcomes import Refused, Wait
from dingrelay_workers.dingtalk.clock import Offset
from dingrelay_workers.limiter.daily_limits import DailyLimits, place
from dingrelay_workers.store.records import Records, Usage
from support import days
from support.jobs import cancel, running

EVENING = datetime(2026, 11, 24, 15, 59, tzinfo=UTC)
"""One minute before midnight in Beijing."""
TODAY = "2026-11-24"
EQUAL = Offset(0, 0)
"""Clocks that show the same."""
ONE_USER = MessageCall("call:1", users=["u1"])
ONE_DEPARTMENT = MessageCall("call:1", departments=[1])
EVERYONE = MessageCall("call:1", everyone=True)


def after_evening(seconds: float) -> int:
    """The moment in ms."""
    return int((EVENING + timedelta(seconds=seconds)).timestamp() * 1000)


def text(content: str) -> dict[str, Any]:
    return {"msgtype": "text", "text": {"content": content}}


class Day:
    def __init__(self) -> None:
        self.moment = EVENING

    def now(self) -> datetime:
        return self.moment


@pytest.fixture
def day() -> Day:
    return Day()


class Office:
    """The daily limits and the records of the jobs that ask."""

    def __init__(self, redis: Redis, day: Day) -> None:
        self.redis = redis
        self.daily_limits = DailyLimits(redis, now=day.now)

    async def job(self, job: str, state: str = "running", **fields: str) -> Ownership:
        """The job in this state; if it runs, the run."""
        run = Ownership(job, "worker/1", 1)
        held: dict[Any, Any] = {"state": state, "owner": run.owner, "fence": run.fence, **fields}
        await self.redis.hset(keys.job(job), mapping=held)
        await self.redis.expire(keys.job(job), 60)
        return run

    async def call(
        self, job: str, call: MessageCall, content: str = "hi", *, app: str = "a", **options: Any
    ) -> tuple[DailyVerdict, int]:
        """The answer to a run of the job, and until when the call may leave."""
        run = await self.job(job)
        options = {"offset": EQUAL, **options}
        return await self.daily_limits.reserve(app, run, call, text(content), **options)

    async def reserve(
        self, job: str, *users: str, content: str = "hi", step: str = "call:1", **options: Any
    ) -> DailyVerdict:
        return (await self.call(job, MessageCall(step, users), content, **options))[0]

    async def everyone(self, job: str, content: str) -> bool:
        return (await self.call(job, EVERYONE, content))[0].everyone

    async def sent(self, job: str, *users: str, content: str = "hi") -> None:
        """A job that has brought these users the content."""
        await self.job(job)
        assert (await self.reserve(job, *users, content=content)).users == list(users)
        await self.job(job, "done")

    async def cancel(self, job: str) -> None:
        assert await cancel(self.redis, job) in {b"cancelled", b"unknown"}

    async def received(self) -> dict[str, int]:
        return await days.received(self.redis, "a", TODAY)


@pytest.fixture
def office(redis: Redis, day: Day) -> Office:
    return Office(redis, day)


async def test_the_same_content_goes_to_a_user_once_a_day(office: Office, day: Day) -> None:
    await office.sent("job1", "u1", "u2")
    assert await office.reserve("job2", "u2", "u3") == DailyVerdict(["u3"], duplicate=["u2"])
    assert await office.reserve("job3", "u2", content="ho") == DailyVerdict(["u2"])
    assert await office.reserve("job4", "u2", app="b") == DailyVerdict(["u2"])
    day.moment += timedelta(minutes=2)
    assert await office.reserve("job5", "u2") == DailyVerdict(["u2"])


async def test_admitted_messages_may_leave_until_shortly_before_midnight(office: Office) -> None:
    for call in (ONE_USER, ONE_DEPARTMENT, EVERYONE):
        assert (await office.call("job", call))[1] == after_evening(56)


async def test_the_same_job_is_admitted_again_and_counted_once(office: Office) -> None:
    for _ in range(3):
        assert await office.reserve("job", "u1") == DailyVerdict(["u1"])
    assert await office.received() == {"u1": 1}


async def test_a_call_that_may_be_leaving_is_waited_for(office: Office) -> None:
    await office.reserve("job1", "u1")
    with pytest.raises(Wait):
        await office.reserve("job2", "u1", "u2")
    assert await office.received() == {"u1": 1}, "a waiting job reserves nothing"


async def test_a_call_that_is_answered_soon_is_waited_for_here(office: Office) -> None:
    await office.reserve("job1", "u1")
    asking = asyncio.create_task(office.reserve("job2", "u1"))
    await asyncio.sleep(0)
    await office.job("job1", "done")
    assert await asking == DailyVerdict([], duplicate=["u1"])


@pytest.mark.parametrize("state", ["queued", "snoozed", "retrying", "cancelled", "dead", "unknown"])
async def test_an_unused_reservation_goes_to_another_job(office: Office, state: str) -> None:
    await office.reserve("job1", "u1")
    await office.job("job1", state)
    assert await office.reserve("job2", "u1") == DailyVerdict(["u1"])
    assert await office.received() == {"u1": 1}
    # The first one asks again before it calls.
    await office.job("job2", "done")
    assert await office.reserve("job1", "u1") == DailyVerdict([], duplicate=["u1"])


async def test_a_step_that_was_answered_stays_taken_however_the_job_ends(office: Office) -> None:
    await office.reserve("job1", "u1", step="call:1")
    await office.job("job1", "running", **{"step:call:1": "{}"})
    await office.reserve("job1", "u2", step="call:2")
    await office.job("job1", "snoozed")
    await office.cancel("job1")
    assert await office.received() == {"u1": 1}
    assert await office.reserve("job2", "u1", "u2") == DailyVerdict(["u2"], duplicate=["u1"])


async def test_a_cancelled_job_gives_back_what_it_reserved(office: Office) -> None:
    await office.reserve("job1", "u1", "u2")
    await office.job("job1", "retrying")
    await office.cancel("job1")
    assert await office.received() == {}


@pytest.mark.parametrize(
    ("end", "counted", "free"),
    [
        (State.DEAD, False, True),
        (State.EXPIRED, False, True),
        (State.DUPLICATE, False, True),
        (State.CANCELLED, False, True),
        (State.UNKNOWN, True, True),
        (State.DONE, True, False),
    ],
)
async def test_every_end_without_a_call_gives_back_the_message_of_the_day(
    office: Office, redis: Redis, end: State, *, counted: bool, free: bool
) -> None:
    records = Records(redis, Settings.load(env="test"))
    draft, claim = await running(redis, records)
    await office.daily_limits.reserve("a", claim.ownership, ONE_USER, text("hi"), offset=EQUAL)
    if end == State.CANCELLED:  # while it runs
        assert await cancel(redis, draft.id) == b"running"
        parked = await records.park(claim, State.SNOOZED, delay=9, usage=Usage())
        assert parked == State.CANCELLED
    else:
        assert await records.settle(claim, end, usage=Usage())
    assert await office.received() == ({"u1": 1} if counted else {})
    verdict = DailyVerdict(["u1"]) if free else DailyVerdict([], duplicate=["u1"])
    assert await office.reserve("another", "u1") == verdict


async def test_messages_that_may_have_been_sent_stay_counted(office: Office) -> None:
    await office.job("job1", intent='{"step":"call:1"}')
    await office.reserve("job1", "u1")
    await office.job("job1", "retrying")
    await office.cancel("job1")
    assert await office.received() == {"u1": 1}
    # DingTalk drops a second copy.
    assert await office.reserve("job2", "u1") == DailyVerdict(["u1"])


@pytest.mark.parametrize(
    "forget",
    [
        record.discard("job1"),
        Resolution("job1", happened=False).call(Settings.load(env="test"), by="me"),
    ],
    ids=["discarded", "not sent"],
)
async def test_a_given_up_job_frees_its_share(office: Office, redis: Redis, forget: Call) -> None:
    await office.job("job1", intent='{"step":"call:1"}')
    await office.reserve("job1", "u1")
    await office.job("job1", "retrying")
    await office.cancel("job1")
    assert await run_async(redis, forget)
    assert await office.received() == {}
    assert await office.reserve("job2", "u1") == DailyVerdict(["u1"])


async def test_a_run_that_begins_anew_gives_back_what_was_not_called(office: Office) -> None:
    """The worker was killed between the answer to one call and the next one, which waited for its slot."""
    await office.job("job1", intent='{"step":"call:1"}')
    await office.reserve("job1", "u1", step="call:1")
    await office.reserve("job1", "u2", step="call:2")
    assert await office.received() == {"u1": 1, "u2": 1}
    await office.reserve("job1", "u1", step="call:1")
    assert await office.received() == {"u1": 1}
    await office.job("job1", "retrying")
    await office.cancel("job1")
    assert await office.reserve("job2", "u2") == DailyVerdict(["u2"])


async def test_whoever_is_not_called_any_more_is_free_for_others(office: Office) -> None:
    await office.reserve("job1", "u1", "u2")
    await office.reserve("job1", "u1")
    await office.job("job1", "done")
    assert await office.reserve("job2", "u1", "u2") == DailyVerdict(["u2"], duplicate=["u1"])


@pytest.mark.parametrize(
    "taken_over",
    [{"state": "done"}, {"state": "cancelled"}, {"owner": "worker/2"}, {"fence": "2"}, {}],
)
async def test_a_run_that_lost_its_job_reserves_nothing(
    office: Office, redis: Redis, taken_over: dict[Any, Any]
) -> None:
    """A worker that stood still between its claim and its reservation."""
    run = await office.job("job")
    if taken_over:
        await redis.hset(keys.job("job"), mapping=taken_over)
    else:
        await redis.delete(keys.job("job"))
    before = await redis.hgetall(keys.job("job"))
    for call in (ONE_USER, ONE_DEPARTMENT, EVERYONE):
        with pytest.raises(OwnershipLost):
            await office.daily_limits.reserve("a", run, call, text("hi"), offset=EQUAL)
    assert await redis.hgetall(keys.job("job")) == before
    assert await redis.keys("dingrelay:*") == ([keys.job("job").encode()] if before else [])


async def test_allow_duplicate_keeps_reservations_of_others(office: Office) -> None:
    await office.sent("job1", "u1")
    assert await office.reserve("job2", "u1", "u2", anyway=True) == DailyVerdict(["u1", "u2"])
    assert await office.received() == {"u1": 1, "u2": 1}
    await office.job("job2", "done")
    assert await office.reserve("job3", "u1", "u2") == DailyVerdict([], duplicate=["u1", "u2"])


async def test_a_department_gets_a_content_once_a_day(office: Office) -> None:
    async def reserve(job: str, *departments: int, anyway: bool = False) -> list[int]:
        call = MessageCall("call:1", departments=departments)
        return (await office.call(job, call, anyway=anyway))[0].departments

    assert await reserve("job1", 1, 2) == [1, 2]
    with pytest.raises(Wait):
        await reserve("job2", 2, 3)
    await office.job("job1", "done")
    assert await reserve("job2", 2, 3) == [3]
    assert await reserve("job3", 2, anyway=True) == [2]
    # Who is in a department is not known here: the message is sent, and the possibility reported.
    assert await office.reserve("job4", "u1") == DailyVerdict(["u1"], perhaps=["u1"])
    assert await office.reserve("job4", "u1", content="ho") == DailyVerdict(["u1"])


async def test_messages_to_everyone_count_for_each_users_500(office: Office, redis: Redis) -> None:
    await days.put_received(redis, "a", TODAY, {"u1": 498, "u2": 497})
    for job in ("job1", "job2"):
        assert await office.everyone(job, job)
    assert await office.reserve("job3", "u1", "u2") == DailyVerdict(["u2"], daily_cap=["u1"])


async def test_a_broadcast_counts_for_each_person(office: Office, redis: Redis) -> None:
    assert await office.everyone("job1", "hi")
    with pytest.raises(Wait):
        await office.reserve("job2", "u1")
    await office.job("job1", "done")
    assert await office.reserve("job2", "u1") == DailyVerdict([], duplicate=["u1"])
    assert not await office.everyone("job3", "hi")
    assert await redis.hlen(keys.everyone("a", TODAY)) == 1


async def test_a_user_gets_500_a_day(office: Office, redis: Redis) -> None:
    await days.put_received(redis, "a", TODAY, {"u1": 500, "u2": 499})
    assert await office.reserve("job", "u1", "u2") == DailyVerdict(["u2"], daily_cap=["u1"])
    assert (await office.received())["u2"] == 500
    assert await office.reserve("job", "u2") == DailyVerdict(["u2"])


async def test_concurrent_jobs_never_share_a_user(office: Office) -> None:
    users = [f"u{number}" for number in range(100)]
    asking = (office.reserve(f"job{n}", *users) for n in range(5))
    verdicts = await asyncio.gather(*asking, return_exceptions=True)
    admitted = [verdict.users for verdict in verdicts if isinstance(verdict, DailyVerdict)]
    assert admitted == [users]
    assert sum(isinstance(verdict, Wait) for verdict in verdicts) == 4, "they look again"


async def test_a_message_to_everyone_is_taken_three_times_a_day(office: Office, day: Day) -> None:
    for number in (1, 2, 3, 3, 1):
        assert await office.everyone(f"job{number}", f"hi{number}")
    with pytest.raises(Wait):
        await office.everyone("job4", "hi4")
    # One that is cancelled was none of them.
    await office.job("job2", "snoozed")
    await office.cancel("job2")
    assert await office.everyone("job4", "hi4")
    for job in ("job1", "job3", "job4"):
        await office.job(job, "done")
    with pytest.raises(Refused) as refused:
        await office.everyone("job5", "hi5")
    assert refused.value.code == "everyone_cap"
    day.moment += timedelta(minutes=2)
    assert await office.everyone("job5", "hi5")


async def test_the_day_is_that_of_redis(
    redis: Redis, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose clock is a day off reserves for the same day as the others."""
    seconds, _ = await redis.time()
    now = datetime.fromtimestamp(seconds, UTC)
    monkeypatch.setattr(clock, "now", lambda: now - timedelta(days=1))
    run = await office.job("job")
    verdict, _ = await DailyLimits(redis).reserve("a", run, ONE_USER, text("hi"), offset=EQUAL)
    assert verdict.users == ["u1"]
    assert await days.received(redis, "a", beijing.day(now)) == {"u1": 1}


@pytest.mark.parametrize(
    ("at", "least", "most", "name", "last"),
    [
        (55, 0, 0, "2026-11-24", 56),
        (30, 20, 20, "2026-11-24", 36),
        (30, 14, 20, "2026-11-24", 36),
        (43, 20, 20, "2026-11-25", 86_436),
        (70, -20, -20, "2026-11-24", 76),
        (83, -20, -15, "2026-11-25", 86_471),
    ],
)
async def test_the_day_is_that_of_dingtalk_where_its_clock_was_measured(
    office: Office, redis: Redis, day: Day, at: int, least: int, most: int, name: str, last: int
) -> None:
    """Days and moments are in seconds from 23:59 by Redis's clock on."""
    day.moment, offset = EVENING + timedelta(seconds=at), Offset(least * 1000, most * 1000)
    for call, content in ((ONE_USER, "hi"), (ONE_DEPARTMENT, "hi"), (EVERYONE, "all")):
        _, until = await office.call(f"job {call}", call, content, offset=offset)
        assert until == after_evening(last)
    assert await days.received(redis, "a", name) == {"u1": 1}


@pytest.mark.parametrize(
    ("at", "least", "most", "delay"),
    [
        (56, 0, 0, 5),
        (60.5, 0, 0, 0.5),
        (40.5, 20, 20, 0.5),
        (80, -20, -20, 1),
        (37, 20, 20, 4),
        (31, 18, 25, 12),
    ],
)
async def test_nothing_is_admitted_around_the_midnight_of_dingtalk(
    office: Office, day: Day, at: float, least: int, most: int, delay: float
) -> None:
    """From when a call might arrive on the next day, until that has certainly begun."""
    day.moment, offset = EVENING + timedelta(seconds=at), Offset(least * 1000, most * 1000)
    with pytest.raises(Wait) as waits:
        await office.call("job", ONE_USER, offset=offset)
    assert waits.value.delay == timedelta(seconds=delay)
    day.moment += waits.value.delay
    assert (await office.call("job", ONE_USER, offset=offset))[0].users == ["u1"]


async def test_keys_live_a_day_and_some_hours(office: Office, redis: Redis) -> None:
    await office.reserve("job1", "u1")
    assert await office.everyone("job2", "all")
    await office.call("job3", ONE_DEPARTMENT)
    await office.sent("job4", "u2")
    await redis.delete(*(keys.job(f"job{number}") for number in (1, 2, 3, 4)))
    names = [name async for name in redis.scan_iter("dingrelay:*")]
    assert len(names) == 5
    for name in names:
        assert 24 * 3_600_000 < await redis.pttl(name) <= 36 * 3_600_000


def test_content_is_the_same_whatever_the_order_of_its_fields() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": "你"}}) == digest({"b": {"d": "你", "c": 2}, "a": 1})
    assert digest(text("a")) != digest(text("b"))
    assert digest(text("\ud800"))


PEOPLE = [f"u{number}" for number in range(1, 101)]


async def call_for(office: Office, *users: str) -> None:
    """A job that has called for these people."""
    records = Records(office.redis, Settings.load(env="test"))
    _, claim = await running(office.redis, records)
    call = MessageCall("call", users)
    verdict, _ = await office.daily_limits.reserve(
        "a", claim.ownership, call, text("hi"), offset=EQUAL
    )
    assert verdict == DailyVerdict(list(users))
    usage = Usage(answered=True, steps={"call": {}})
    assert await records.settle(claim, State.DONE, usage=usage)


async def test_sent_messages_are_kept_as_integers_for_a_day(office: Office, redis: Redis) -> None:
    await call_for(office, *PEOPLE)
    assert not await redis.keys(keys.content("a", "*", "*")), "only calls under way are named"
    names: list[Any] = await redis.keys(f"{keys.received('a', '*')}:*")
    sets = [name for name in names if b":had:" in name]
    assert 0 < len(sets) < len(names)
    for name in names:
        encoding = "intset" if name in sets else "listpack"
        assert await redis.object("ENCODING", name) == encoding.encode()
        assert timedelta() < timedelta(milliseconds=await redis.pttl(name)) <= timedelta(hours=36)
    assert await office.reserve("job", *PEOPLE, "x") == DailyVerdict(["x"], duplicate=PEOPLE)
    assert await days.received(redis, "a", TODAY, PEOPLE) == dict.fromkeys(PEOPLE, 1)


async def test_a_server_with_other_thresholds_answers_the_same(
    office: Office, redis: Redis
) -> None:
    settings = {"set-max-intset-entries": 0, "hash-max-listpack-entries": 0}
    before = {name: str((await redis.config_get(name))[name]) for name in settings}
    for name, value in settings.items():
        await redis.config_set(name, value)
    try:
        await call_for(office, "u1")
        expected = DailyVerdict(["u2"], duplicate=["u1"])
        assert await office.reserve("job", "u1", "u2") == expected
    finally:
        for name, value in before.items():
            await redis.config_set(name, value)


async def test_the_person_is_found_by_the_same_digest_in_both_languages(redis: Redis) -> None:
    body = """
        local found = {}
        for _, text in ipairs(ARGV) do found[#found + 1], found[#found + 2] = place(text) end
        return found
    """
    texts = [*string.ascii_letters, "张三", "0134521346352323", *PEOPLE]
    file = resources.files("dingrelay_producers.store").joinpath("lua", "reservations.lua")
    script = Script.of(file.read_text("utf-8") + body)
    found = await run_async(redis, script.call([], texts))
    pairs = [(found[at], int(found[at + 1])) for at in range(0, len(found), 2)]
    assert pairs == [place(text) for text in texts]
