"""Who has had what of a campaign is kept in a few bytes, and for as long as the day needs it."""

import string
from datetime import timedelta
from importlib import resources
from typing import Any

import pytest
from redis.asyncio import Redis

import days
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.scripts import Script, run_async
from dingrelay_producers.store.states import State
from dingrelay_tasks import beijing
from dingrelay_tasks.context import DailyVerdict, MessageCall
from dingrelay_workers.limiter.daily_limits import DailyLimits, place
from dingrelay_workers.store.records import Claim, Records, Usage
from jobs import claimed, queued

TEXT = {"msgtype": "text", "text": {"content": "hi"}}
STEP = "call"
PEOPLE = [f"u{number}" for number in range(1, 101)]


class Fleet:
    """Jobs that call for some users, each with one step."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.records = Records(redis, Settings.load(env="test"))
        self.daily_limits = DailyLimits(redis)

    async def run(self) -> Claim:
        draft = await queued(self.redis)
        return await claimed(self.records, draft)

    async def reserve(self, claim: Claim, *users: str) -> DailyVerdict:
        call = MessageCall(STEP, users)
        return (await self.daily_limits.reserve("a", claim.ownership, call, TEXT))[0]

    async def end(self, claim: Claim, state: State, *, answered: bool = True) -> None:
        steps = {STEP: {}} if state == State.DONE else {}
        usage = Usage(answered=answered, steps=steps)
        assert await self.records.settle(claim, state, usage=usage)

    async def received(self) -> dict[str, int]:
        return await days.received(self.redis, "a", beijing.day(beijing.now()), PEOPLE)


@pytest.fixture
def fleet(redis: Redis) -> Fleet:
    return Fleet(redis)


async def test_sent_messages_are_kept_as_integers_for_a_day(fleet: Fleet, redis: Redis) -> None:
    claim = await fleet.run()
    assert await fleet.reserve(claim, *PEOPLE) == DailyVerdict(PEOPLE)
    await fleet.end(claim, State.DONE)
    assert not await redis.keys(keys.content("a", "*", "*")), "only calls under way are named"
    names: list[Any] = await redis.keys(f"{keys.received('a', '*')}:*")
    sets = [name for name in names if b":had:" in name]
    assert 0 < len(sets) < len(names)
    for name in names:
        encoding = "intset" if name in sets else "listpack"
        assert await redis.object("ENCODING", name) == encoding.encode()
        assert timedelta() < timedelta(milliseconds=await redis.pttl(name)) <= timedelta(hours=36)
    assert await fleet.reserve(await fleet.run(), *PEOPLE, "x") == DailyVerdict(
        ["x"], duplicate=PEOPLE
    )
    assert await fleet.received() == dict.fromkeys(PEOPLE, 1)


async def test_a_server_with_other_thresholds_answers_the_same(fleet: Fleet, redis: Redis) -> None:
    settings = {"set-max-intset-entries": 0, "hash-max-listpack-entries": 0}
    before = {name: str((await redis.config_get(name))[name]) for name in settings}
    for name, value in settings.items():
        await redis.config_set(name, value)
    try:
        claim = await fleet.run()
        await fleet.reserve(claim, "u1")
        await fleet.end(claim, State.DONE)
        expected = DailyVerdict(["u2"], duplicate=["u1"])
        assert await fleet.reserve(await fleet.run(), "u1", "u2") == expected
    finally:
        for name, value in before.items():
            await redis.config_set(name, value)


@pytest.mark.parametrize("end", [State.DEAD, State.CANCELLED, State.DUPLICATE])
async def test_people_of_a_job_without_a_call_are_free(fleet: Fleet, end: State) -> None:
    claim = await fleet.run()
    await fleet.reserve(claim, "u1")
    await fleet.end(claim, end)
    assert await fleet.received() == {}
    assert await fleet.reserve(await fleet.run(), "u1") == DailyVerdict(["u1"])


async def test_people_of_an_unknown_call_are_free_and_counted(fleet: Fleet) -> None:
    claim = await fleet.run()
    await fleet.reserve(claim, "u1")
    await fleet.end(claim, State.UNKNOWN, answered=False)
    assert await fleet.received() == {"u1": 1}
    assert await fleet.reserve(await fleet.run(), "u1") == DailyVerdict(["u1"])


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
