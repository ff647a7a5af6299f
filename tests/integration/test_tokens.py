"""The fleet's token: who fetches, who waits, and what a failure means for the others."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from conftest import wait_until_async
from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.settings import SettingsError
from dingrelay_producers.store import keys
from dingrelay_producers.store.scripts import run_async
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.calls import tokens as module
from dingrelay_workers.calls.tokens import Tokens
from dingrelay_workers.dingtalk.classify import Classifier
from dingrelay_workers.dingtalk.errors import Credentials, DingTalkError, Throttled, Transient
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.dingtalk.transport import Transport
from dingrelay_workers.limiter import breakers as circuits
from dingrelay_workers.limiter.breakers import Breakers
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.rules import Rules
from support.sandboxes import sandbox_settings

APP = "default"
PATHS = {"oapi": "/gettoken", "v1.0": "/v1.0/oauth2/accessToken"}

Worker = Callable[..., Tokens]


@pytest.fixture
async def worker(redis: Redis, valkey_url: str, sandbox: SandboxAdmin) -> AsyncIterator[Worker]:
    """Makes the `Tokens` of one more worker process."""
    opened: list[Tokens] = []
    sessions: list[aiohttp.ClientSession] = []

    def make(secret: str = "sandbox-secret", **settings: Any) -> Tokens:
        loaded = sandbox_settings(
            sandbox.base_url, valkey_url, secret=secret, env="test", **settings
        )
        sessions.append(Transport.open_session(loaded))
        transport = Transport(sessions[-1], Classifier({}), loaded)
        rules = Rules.from_settings({}, "office")
        apps = CurrentApps(loaded)
        breakers = Breakers.from_settings(redis, rules, loaded, apps)
        limiter = Limiter(redis, rules, max_wait=5, local_waiters=4, breakers=breakers)
        opened.append(
            Tokens(redis, transport, loaded, limiter, apps, worker=f"worker-{len(opened)}")
        )
        return opened[-1]

    yield make
    for tokens in opened:
        await tokens.close()
    for session in sessions:
        await session.close()


def entry(tokens: Tokens) -> tuple[str, str]:
    """The key of the app's token, and the result of the last fetch."""
    return module._keys(APP, tokens._apps.app(APP))


@pytest.fixture
def fetches(sandbox: SandboxAdmin) -> Callable[[], int]:
    """How many token calls there were, whatever became of them."""

    def count() -> int:
        calls = sandbox.audit()["calls"]
        return sum(sum(calls.get(path, {}).values()) for path in PATHS.values())

    return count


async def take(redis: Redis, tokens: Tokens, *, by: str = "", lease_ms: int = 20_000) -> None:
    """A worker says that it fetches the token, and is not done yet."""
    token, failure = entry(tokens)
    call = module._take_token(
        token=token,
        failure=failure,
        worker=by or tokens._worker,
        margin=600_000,
        lease=lease_ms,
        distrusted=None,
    )
    assert (await run_async(redis, call))[0] == b"fetch"


async def value(tokens: Tokens) -> str:
    """The token that a call would carry."""
    return (await tokens.token(APP)).value


async def all_of(workers: list[Tokens], times: int = 10) -> list[Any]:
    """The token or the error as many jobs of each worker get it at once."""
    calls = [value(tokens) for tokens in workers for _ in range(times)]
    return await asyncio.gather(*calls, return_exceptions=True)


@pytest.fixture
def near_its_end(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Awaitable[None]]:
    """Have the token that workers have be one that is soon over, and them look at it again."""
    monkeypatch.setattr(module, "REFRESH_MARGIN", 3590)

    async def age(*fleet: Tokens) -> None:
        await all_of([*fleet])
        for field in ("generation", "expires"):
            await redis.hincrby(keys.token(APP), field, -3_700_000)
        for tokens in fleet:
            tokens._held.clear()

    return age


@pytest.mark.parametrize("api", PATHS)
async def test_a_fleet_that_starts_at_once_fetches_once(
    worker: Worker, sandbox: SandboxAdmin, fetches: Callable[[], int], api: str
) -> None:
    sandbox.set_latency(20, 40)
    fleet = [worker(DINGTALK_TOKEN_API=api) for _ in range(12)]
    assert set(await all_of(fleet)) == set(sandbox.tokens())
    assert fetches() == 1
    assert list(sandbox.audit()["calls"]) == [PATHS[api]]


async def test_one_worker_refreshes_within_the_margin_while_the_others_go_on(
    worker: Worker,
    redis: Redis,
    sandbox: SandboxAdmin,
    fetches: Callable[[], int],
    near_its_end: Callable[..., Awaitable[None]],
) -> None:
    fleet = [worker() for _ in range(4)]
    await near_its_end(*fleet)
    # A long refresh delays no caller.
    sandbox.add_fault("latency", api="/gettoken", min_ms=400, max_ms=400)
    async with asyncio.timeout(0.3):
        assert set(await all_of(fleet)) == set(sandbox.tokens())
    for tokens in fleet:
        await tokens.close()
    assert fetches() == 2
    left = await redis.hget(keys.token(APP), "fetcher")
    assert left is None


async def test_a_failed_refresh_leaves_the_token_in_use(
    worker: Worker,
    sandbox: SandboxAdmin,
    fetches: Callable[[], int],
    near_its_end: Callable[..., Awaitable[None]],
) -> None:
    tokens = worker()
    await near_its_end(tokens)
    sandbox.add_fault("http", api="/gettoken", status=503)
    for _ in range(3):
        assert await value(tokens) == sandbox.tokens()[0]
        await tokens.close()
        tokens._held.clear()
    assert fetches() == 2, "it is not tried again at once"


async def test_the_lease_of_a_dead_fetcher_is_taken_over(
    worker: Worker, redis: Redis, fetches: Callable[[], int]
) -> None:
    tokens = worker()
    lease_ms = 300
    await take(redis, tokens, by="dead-worker", lease_ms=lease_ms)
    waiting = asyncio.create_task(value(tokens))
    await asyncio.wait([waiting], timeout=lease_ms / 3000)
    assert not waiting.done(), "the lease was not respected"
    async with asyncio.timeout(2):
        await waiting
    assert fetches() == 1


async def test_a_late_fetcher_keeps_the_newer_token(worker: Worker, redis: Redis) -> None:
    slow, quick = worker(), worker()
    await take(redis, slow, lease_ms=1)
    good = await quick.token(APP)
    assert await slow._store_token(entry(slow), "an older token", 7200) == 0
    assert await value(slow) == good.value


async def test_a_token_kept_twice_is_one_generation(worker: Worker, redis: Redis) -> None:
    tokens = worker()
    await take(redis, tokens)
    first = await tokens._store_token(entry(tokens), "a token", 7200)
    assert await tokens._store_token(entry(tokens), "a token", 7200) == first > 0


async def test_a_failure_that_is_over_at_once_is_kept_all_the_same(redis: Redis) -> None:
    """The pause that is left of an outage may be some microseconds."""
    token, failure = keys.token("default"), keys.token_failure("default", "c")
    take = module._take_token(
        token=token, failure=failure, worker="w", margin=1000, lease=1000, distrusted=None
    )
    put = module._put_token(
        token=token, failure=failure, worker="w", value=None, validity=0, error="[]"
    )
    assert (await run_async(redis, take))[0] == b"fetch"
    assert await run_async(redis, put) == 0
    assert (await run_async(redis, take))[0] in {b"failed", b"fetch"}


@pytest.mark.parametrize("fate", ["revoked", "expired"])
async def test_a_bad_token_is_replaced_once_and_only_its_own_generation(
    worker: Worker, sandbox: SandboxAdmin, fetches: Callable[[], int], fate: str
) -> None:
    fleet = [worker() for _ in range(4)]
    old = [await tokens.token(APP) for tokens in fleet]
    end = {"revoked": sandbox.revoke_tokens, "expired": sandbox.expire_tokens}
    end[fate]()
    pairs = [*zip(fleet, old, strict=True)] * 10
    new = await asyncio.gather(*(tokens.token(APP, distrust=token) for tokens, token in pairs))
    assert {token.value for token in new} == {sandbox.tokens()[1]}
    assert fetches() == 2
    # Who complains late of the old one does not cost the new one its life.
    assert (await fleet[0].token(APP, distrust=old[0])).value == sandbox.tokens()[1]
    assert fetches() == 2


async def test_trusting_jobs_answer_no_distrust(worker: Worker, sandbox: SandboxAdmin) -> None:
    tokens = worker()
    old = await tokens.token(APP)
    sandbox.revoke_tokens()
    tokens._held.clear()
    plain, distrusting = await asyncio.gather(tokens.token(APP), tokens.token(APP, distrust=old))
    assert (plain.generation, distrusting.value) == (old.generation, sandbox.tokens()[1])


@pytest.mark.parametrize(("api", "code"), [("oapi", "40096"), ("v1.0", "invalidClientIdOrSecret")])
async def test_wrong_credentials_open_a_circuit_for_the_fleet(
    worker: Worker, fetches: Callable[[], int], api: str, code: str
) -> None:
    fleet = [worker(secret="wrong", DINGTALK_TOKEN_API=api) for _ in range(3)]
    for _ in range(3):
        for error in await all_of(fleet):
            assert isinstance(error, Credentials)
            assert (error.code, error.hint) == (code, module.CREDENTIALS_HINT)
    assert fetches() == 1


async def test_corrected_credentials_need_not_wait_for_the_circuit(
    worker: Worker, sandbox: SandboxAdmin, fetches: Callable[[], int]
) -> None:
    wrong = worker(secret="wrong")
    with pytest.raises(Credentials):
        await value(wrong)
    assert await value(worker()) == sandbox.tokens()[0]
    # Who has not heard of the correction yet uses the token that is there.
    assert await value(wrong) == sandbox.tokens()[0]
    assert fetches() == 2


async def test_a_refusal_of_a_secret_that_is_over_by_then_holds_nobody(
    worker: Worker,
    redis: Redis,
    sandbox: SandboxAdmin,
    fetches: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    file = tmp_path / "secret"
    file.write_text("old-secret")
    monkeypatch.setenv("DINGTALK_APP_SECRET_FILE", str(file))
    tokens = worker(secret="old-secret")
    request = tokens._transport.request

    async def renewed_meanwhile(call: Request) -> dict[str, Any]:
        try:
            return await request(call)
        finally:
            file.write_text("sandbox-secret")
            tokens._apps.look()
            tokens._apps.look()

    monkeypatch.setattr(tokens._transport, "request", renewed_meanwhile)
    assert await value(tokens) == sandbox.tokens()[0]
    assert fetches() == 2
    assert await redis.keys("dingrelay:hold:*") == []
    assert await redis.keys("dingrelay:token-failure:*") == []


async def test_a_good_fetch_ends_others_hold(worker: Worker, redis: Redis) -> None:
    wrong, right = worker(secret="wrong"), worker()
    with pytest.raises(Credentials):
        await value(wrong)
    assert [state.scope for state in await circuits.read_breakers(redis)] == [f"hold:{APP}"]
    await value(right)
    assert await circuits.read_breakers(redis) == []


async def test_credentials_are_tried_again(worker: Worker, fetches: Callable[[], int]) -> None:
    tokens = worker(secret="wrong", token_circuit=0.2)
    for calls in (1, 2):
        with pytest.raises(Credentials):
            await value(tokens)
        assert fetches() == calls
        await asyncio.sleep(0.25)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "http", "status": 503}, Transient),
        ({"kind": "throttle", "code": 90018}, Throttled),
        ({"kind": "truncated"}, Transient),
    ],
)
async def test_a_failed_fetch_is_news_for_all_who_want_the_token(
    worker: Worker,
    sandbox: SandboxAdmin,
    fetches: Callable[[], int],
    fault: dict[str, Any],
    error: type[DingTalkError],
) -> None:
    sandbox.add_fault(**fault, api="/gettoken", count=1)
    fleet = [worker() for _ in range(3)]
    assert {type(each) for each in await all_of(fleet)} == {error}
    assert fetches() == 1

    async def fetched_again() -> bool:
        await all_of(fleet, 1)
        return fetches() == 2

    await wait_until_async(fetched_again)
    assert await value(fleet[1]) == sandbox.tokens()[-1]
    assert fetches() == 2


@pytest.mark.parametrize(
    ("value", "validity"),
    [
        *((value, 7200) for value in ("", "a b", "a\r\nb", "令牌", "half\ud83d", "x" * 5_000, 7)),
        *(("token", validity) for validity in (0, -1, "soon", None, [], "NaN", "1e999")),
    ],
)
def test_a_token_that_no_call_can_carry_is_none(value: object, validity: object) -> None:
    with pytest.raises(Transient):
        module._read_token({"token": value, "expires": validity}, "token", "expires")


def test_a_token_is_not_kept_for_ever() -> None:
    assert module._read_token({"token": "a", "expires": "7200"}, "token", "expires") == ("a", 7200)
    assert module._read_token({"token": "a", "expires": 1e9}, "token", "expires")[1] == 86_400


async def test_a_token_that_lives_shorter_than_the_margin_is_not_fetched_by_everybody(
    worker: Worker, sandbox: SandboxAdmin, fetches: Callable[[], int]
) -> None:
    short = {"errcode": 0, "access_token": "short", "expires_in": 300}
    sandbox.add_fault("http", api="/gettoken", status=200, body=short)
    for tokens in (worker(), worker(), worker()):
        assert await value(tokens) == "short"
        await tokens.close()
    assert fetches() == 1


async def test_missing_credentials_reach_neither_redis_nor_dingtalk(
    worker: Worker, redis: Redis, fetches: Callable[[], int]
) -> None:
    tokens = worker(secret="")
    with pytest.raises(SettingsError, match="DINGTALK_APP_SECRET"):
        await value(tokens)
    assert fetches() == 0
    assert await redis.keys("dingrelay:*") == []


async def test_a_job_that_gives_up_does_not_spoil_the_fetch_for_the_others(
    worker: Worker, sandbox: SandboxAdmin, fetches: Callable[[], int]
) -> None:
    sandbox.set_latency(100, 100)
    tokens = worker()
    impatient, patient = (asyncio.create_task(value(tokens)) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    assert await patient == sandbox.tokens()[0]
    assert fetches() == 1


async def test_neither_token_nor_secret_shows(worker: Worker, redis: Redis) -> None:
    token = await worker().token(APP)
    assert token.value not in repr(token)
    with pytest.raises(Credentials) as refused:
        await worker(secret="wrong-secret").token("default", distrust=token)
    assert "wrong-secret" not in str(refused.value) + refused.value.hint
    failures = [key async for key in redis.scan_iter("dingrelay:token-failure:*")]
    stored = [*failures, *[await redis.get(key) for key in failures]]
    assert stored
    assert not any(b"wrong-secret" in part for part in stored)


async def test_a_broken_probe(worker: Worker, redis: Redis, sandbox: SandboxAdmin) -> None:
    stopping = worker()
    breakers = stopping._limiter.breakers
    circuit = breakers.circuit(APP, "token", "oapi")
    await breakers.sick(circuit, "way", needed=1)
    await redis.hset(circuit.breaker, "next", 0)
    sandbox.add_fault("hang", api="/gettoken")
    probing = asyncio.create_task(value(stopping))
    await wait_until_async(lambda: redis.hexists(circuit.breaker, "probe"), what="it probes")
    for fetch in stopping._under_way:
        fetch.cancel()
    await asyncio.wait([probing])
    assert not await redis.hexists(circuit.breaker, "probe")
