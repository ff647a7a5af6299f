"""A probe of a breaker that does not leave must not keep the fleet waiting for its answer."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from redis.asyncio import Redis
from redis.exceptions import ReadOnlyError

from conftest import wait_until_async
from dingrelay_workers.dingtalk import apis
from dingrelay_workers.dingtalk.errors import Permanent, TokenInvalid, Transient
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.dingtalk.transport import TooLate
from dingrelay_workers.limiter import wait_queue
from dingrelay_workers.limiter.breakers import Breakers, Circuit
from dingrelay_workers.limiter.buckets import Ask, acquire, ask
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.limiter.slot import Draining, Outage, Slot, SlotRequest, Turns
from unit.fake_calls import TOKEN, intents, job_calls

APP, API, HOST = "default", "message.send", "oapi"


@dataclass
class Fleet:
    """A worker before a breaker that stands open and is to be probed now, at two calls a second."""

    redis: Redis
    limiter: Limiter
    rules: Rules
    circuit: Circuit

    def acquire(self) -> "asyncio.Task[Slot]":
        request = SlotRequest(Turns(APP, API, "normal"), host=HOST)
        return asyncio.create_task(self.limiter.acquire(request))

    async def far_probe(self) -> "asyncio.Task[Slot]":
        """A probe whose slot is most of a second away."""
        rules = self.rules.of(APP, API)
        costs = tuple(int(rule.unit == "calls") for rule in rules)
        while (await ask(self.redis, acquire(rules, "urgent", [Ask(costs)]))).starts < (0.3,):
            pass
        probe = self.acquire()
        await wait_until_async(self.waits_for_an_answer, what="the probe has its slot")
        return probe

    async def waits_for_an_answer(self) -> bool:
        return bool(await self.redis.hexists(self.circuit.breaker, "probe"))

    async def breakers_open(self) -> int:
        return len(await self.limiter.breakers.states())

    async def waits_for_none(self) -> bool:
        return not await self.waits_for_an_answer()


@pytest.fixture
async def fleet(redis: Redis) -> AsyncIterator[Fleet]:
    rules = Rules.from_settings({"*": {"calls": "2/1s"}, API: {"recipients": ""}}, "office")
    breakers = Breakers(redis, rules)
    limiter = Limiter(redis, rules, max_wait=30, local_waiters=100, breakers=breakers)
    circuit = breakers.circuit(APP, API, HOST)
    for _ in range(5):
        await breakers.sick(circuit, "way")
    await redis.hset(circuit.breaker, "next", 0)
    yield Fleet(redis, limiter, rules, circuit)
    await limiter.close()


async def test_a_job_cancelled_for_its_slot(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    probes: list[bool] = []

    async def ask_and_cancel(*args: Any, **kwargs: Any) -> Any:
        reply = await ask(*args, **kwargs)
        probes.append(reply.trial and await fleet.waits_for_an_answer())
        waiting.cancel()
        await asyncio.wait([waiting])
        return reply

    monkeypatch.setattr(wait_queue, "ask", ask_and_cancel)
    waiting = fleet.acquire()
    await wait_until_async(lambda: _true(probes), what="a slot was given")
    await wait_until_async(fleet.waits_for_none, timeout=5, what="the fleet waits for no answer")
    assert probes == [True]


async def test_its_job_is_cancelled_before_the_slot_comes(fleet: Fleet) -> None:
    probe = await fleet.far_probe()
    probe.cancel()
    await wait_until_async(fleet.waits_for_none, timeout=5, what="the fleet waits for no answer")


async def test_its_worker_stops_before_the_slot_comes(fleet: Fleet) -> None:
    probe = await fleet.far_probe()
    fleet.limiter.drain()
    with pytest.raises(Draining):
        await probe
    await wait_until_async(fleet.waits_for_none, timeout=5, what="the fleet waits for no answer")


async def test_a_pause_takes_its_slot_back(fleet: Fleet) -> None:
    probe = await fleet.far_probe()
    await fleet.limiter.throttled(APP, API, pause=60, everything=True, reason="90018")
    await wait_until_async(fleet.waits_for_none, timeout=5, what="the fleet waits for no answer")
    probe.cancel()


async def test_it_leaves_while_others_learn_of_the_outage(fleet: Fleet) -> None:
    probe = await fleet.far_probe()
    with pytest.raises(Outage):
        await fleet.acquire()
    assert (await probe).trial


@pytest.mark.parametrize("error", [ReadOnlyError("no"), asyncio.CancelledError()], ids=repr)
async def test_its_call_does_not_leave(fleet: Fleet, error: BaseException) -> None:
    probes: list[bool] = []

    async def fail() -> None:
        probes.append(await fleet.waits_for_an_answer())
        raise error

    with pytest.raises(type(error)):
        await asyncio.create_task(probe_with(fleet, write=fail))
    assert probes == [True]
    assert await fleet.waits_for_none()


async def test_its_worker_was_too_busy_to_send_it(fleet: Fleet) -> None:
    transport: Any = SimpleNamespace(request=AsyncMock(side_effect=TooLate))
    with pytest.raises(Transient, match="too busy"):
        await probe_with(fleet, transport=transport)
    assert await fleet.waits_for_none()
    assert await fleet.breakers_open() == 1, "DingTalk has answered nothing"


async def test_there_is_no_token_for_it(fleet: Fleet) -> None:
    lost = Permanent("40001", "no such app")
    with pytest.raises(Permanent):
        await probe_with(fleet, token=AsyncMock(side_effect=[None, lost]))
    assert await fleet.waits_for_none()
    assert await fleet.breakers_open() == 1, "only DingTalk's API for tokens has answered"


async def test_its_token_is_refused(fleet: Fleet) -> None:
    refused = TokenInvalid("40014", "invalid access_token")
    transport: Any = SimpleNamespace(request=AsyncMock(side_effect=[refused, {"errcode": 0}]))
    await probe_with(fleet, transport=transport)
    assert await fleet.breakers_open() == 0, "it was made again, as another probe"


async def probe_with(
    fleet: Fleet, *, write: Any = None, transport: Any = None, token: Any = None
) -> Any:
    """A job's call, which is the probe."""
    at_hand = None if token else TOKEN
    tokens = Mock(
        token=token or AsyncMock(), at_hand=lambda *_: at_hand, note_refusal=lambda *_: False
    )
    calls = job_calls(
        limiter=fleet.limiter, tokens=tokens, transport=transport, intents=intents(write)
    )
    return await calls.send(Request(replace(apis.MESSAGE_SEND, counted=False)))


async def _true(value: object) -> bool:
    return bool(value)
