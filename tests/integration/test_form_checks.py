"""Templates are read once for all workers, and again before a form is called wrong."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.states import OwnershipLost
from dingrelay_tasks import ContractError
from dingrelay_workers.approvals import form_checks
from dingrelay_workers.approvals.form_checks import FormChecks
from dingrelay_workers.calls.errors import Cancelled
from dingrelay_workers.dingtalk.apis import APPROVAL_SCHEMA
from dingrelay_workers.dingtalk.errors import Permission, Transient
from dingrelay_workers.limiter.slot import Draining, Parked
from dingrelay_workers.store.records import RedisTime
from unit.fake_calls import FakeCalls, FakeRequest, Reply

GOOD, WRONG = [("事由", "x")], [("事曲", "x")]


class Template:
    """A template at DingTalk that can be edited."""

    def __init__(self) -> None:
        self.labels = ["事由"]
        self.error: Exception | None = None
        self.calls = FakeCalls(self._answer)

    def _answer(self, request: FakeRequest) -> Reply:
        assert request.api is APPROVAL_SCHEMA
        assert request.query == {"processCode": "P"}
        if self.error:
            return self.error
        items = [{"componentName": "TextField", "props": {"label": each}} for each in self.labels]
        return {"result": {"schemaContent": {"items": items}}}

    @property
    def reads(self) -> int:
        return len(self.calls.requests)


class Worker:
    def __init__(self, redis: Redis, template: Template) -> None:
        self.checks = FormChecks(redis)
        self.template = template
        self.ahead = 0

    async def check(self, form: Any) -> None:
        now = RedisTime(int(time.monotonic() * 1000) + self.ahead)
        await self.checks.check(self.template.calls, now, "P", form)

    async def refuses(self, form: Any) -> bool:
        try:
            await self.check(form)
        except ContractError:
            return True
        return False


@pytest.fixture
def template() -> Template:
    return Template()


@pytest.fixture
def worker(redis: Redis, template: Template) -> Callable[[], Worker]:
    return lambda: Worker(redis, template)


async def test_the_fleet_reads_a_template_once(
    worker: Callable[[], Worker], template: Template, redis: Redis
) -> None:
    workers = [worker() for _ in range(5)]
    await asyncio.gather(*(each.check(GOOD) for each in workers for _ in range(4)))
    assert template.reads == 1
    assert 0 < await redis.pttl(keys.form_schema("default", "P")) <= 600_000
    assert not await redis.exists(keys.form_schema_reader("default", "P"))


async def test_a_form_is_refused_once(worker: Callable[[], Worker], template: Template) -> None:
    with pytest.raises(ContractError, match="did you mean 事由") as caught:
        await worker().check(WRONG)
    assert caught.value.field == "form.事曲"
    assert template.reads == 1


async def test_a_template_is_not_reread(worker: Callable[[], Worker], template: Template) -> None:
    one, other = worker(), worker()
    await one.check(GOOD)
    one.ahead = other.ahead = 1_000
    assert [await each.refuses(WRONG) for each in (one, other, one, other)] == [True] * 4
    assert template.reads == 2
    one.ahead = other.ahead = 62_000
    assert await one.refuses(WRONG)
    assert await other.refuses(WRONG)
    assert template.reads == 3


async def test_an_edit_refuses_no_form(worker: Callable[[], Worker], template: Template) -> None:
    one, other = worker(), worker()
    await one.check(GOOD)
    await other.check(GOOD)
    template.labels = ["事曲"]
    one.ahead = other.ahead = 1_000
    await one.check(WRONG)
    await other.check(WRONG)  # which now is right
    assert template.reads == 2


@pytest.mark.parametrize(
    ("error", "kept_ms"),
    [
        (Permission("60011", "x"), 600_000),
        (Transient("-1", "x"), 30_000),
        (Parked(9, "the limit"), 0),
        (ValueError("x"), 0),
    ],
)
async def test_a_template_that_cannot_be_read_stops_nobody(
    worker: Callable[[], Worker], template: Template, redis: Redis, error: Exception, kept_ms: int
) -> None:
    template.error = error
    for each in (worker(), worker()):
        await each.check(WRONG)
    assert template.reads == (1 if kept_ms else 2), "an answer is for all workers"
    ttl = max(await redis.pttl(keys.form_schema("default", "P")), 0)
    assert kept_ms * 0.5 <= ttl <= kept_ms


async def test_a_job_that_must_stop_is_not_kept_by_its_check(
    worker: Callable[[], Worker], template: Template, redis: Redis
) -> None:
    for error in (Draining(), OwnershipLost(), Cancelled()):
        template.error = error
        with pytest.raises(type(error)):
            await worker().check(WRONG)
        assert not await redis.exists(keys.form_schema_reader("default", "P"))


async def test_a_reader_that_died_stops_nobody_for_long(
    worker: Callable[[], Worker],
    template: Template,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(form_checks, "TIMEOUT", 0.2)
    await redis.set(keys.form_schema_reader("default", "P"), 1, px=60_000)
    await worker().check(WRONG)
    assert template.reads == 0


async def test_a_schema_that_is_too_large_is_not_kept(
    worker: Callable[[], Worker], template: Template, redis: Redis
) -> None:
    template.labels = ["x" * 1_000] * 1_000
    await worker().check(WRONG)
    assert await redis.strlen(keys.form_schema("default", "P")) < 1_000
