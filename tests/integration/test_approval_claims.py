"""Each approval instance belongs to one job, and each job has one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_tasks import ApprovalCreate
from dingrelay_workers.approvals.form_checks import FormChecks
from dingrelay_workers.dingtalk.apis import APPROVAL_CREATE, APPROVAL_LIST, APPROVAL_READ
from dingrelay_workers.dingtalk.errors import Ambiguous
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.jobs.context import JobApprovals
from dingrelay_workers.store.approval_claims import ApprovalClaims
from dingrelay_workers.store.records import RedisTime

FORM = [("事由", "出差")]
JOB = ApprovalCreate.parse({"process_code": "P", "originator": "u1", "form": dict(FORM)})
EPOCH = datetime.fromtimestamp(0, UTC)


SETTINGS = Settings.load(env="test")


def of(redis: Redis, job_id: str) -> ApprovalClaims:
    return ApprovalClaims(redis, SETTINGS, job_id=job_id)


async def test_an_instance_has_one_job_and_a_job_one_instance(redis: Redis) -> None:
    a, b = of(redis, "a"), of(redis, "b")
    assert await a.claim("i1", since=1) is None
    assert await a.claim("i1", since=1) is None
    assert await b.claim("i1", since=2) == 1
    assert await a.claim("i2", since=3) == 3
    assert await b.claim("i2", since=2) is None
    assert (await a.own(), await b.own()) == ("i1", "i2")
    assert await a.free(["i1", "i2", "i3"]) == ["i1", "i3"]


async def test_marks_outlive_every_job_that_may_look_and_expire_singly(redis: Redis) -> None:
    a, b = of(redis, "a"), of(redis, "b")
    assert await a.claim("i1", since=1) is None
    mark = keys.approval_owner("i1")
    whole = await redis.pttl(mark)
    # An unknown job can be requeued on the last day of its record, and looks again then.
    assert whole > (SETTINGS.dead_ttl + 6 * 86_400) * 1000
    await redis.pexpire(mark, 60_000)
    assert await b.free(["i1"]) == []
    assert await redis.pttl(mark) > 60_000
    await redis.pexpire(mark, 60_000)
    assert await b.claim("i1", since=2) == 1
    assert await redis.pttl(mark) > 60_000
    await redis.pexpire(mark, 60_000)
    assert await a.claim("i9", since=1) == 1
    assert await b.claim("i2", since=2) is None
    assert await redis.pttl(mark) <= 60_000  # what others take keeps no mark


async def test_a_job_keeps_its_instance_when_its_own_mark_is_over(redis: Redis) -> None:
    a = of(redis, "a")
    assert await a.claim("i1", since=1) is None
    await redis.delete(keys.job_approval("a"))
    assert await a.free(["i1"]) == ["i1"]
    assert await a.claim("i1", since=1) is None
    assert await a.own() == "i1"


@dataclass
class DingTalk:
    """The calls of one job on a DingTalk that keeps the instances of all jobs."""

    instances: list[str]
    open_since: int
    searches: list[int] = field(default_factory=list)
    agent_id: str = "1"
    app: str = "default"

    @property
    def intents(self) -> "DingTalk":
        return self

    async def send(self, request: Request) -> dict[str, Any]:
        match request.api:
            case api if api == APPROVAL_CREATE:
                self.instances.append(f"i{len(self.instances) + 1}")
                return {"instanceId": self.instances[-1]}
            case api if api == APPROVAL_LIST:
                return {"result": {"list": list(reversed(self.instances))}}
            case api:
                assert api == APPROVAL_READ
                form = [{"name": name, "value": value} for name, value in FORM]
                made = {"originatorUserId": "u1", "createTime": "2026-11-24T08:00Z"}
                return {"result": {**made, "formComponentValues": form}}

    async def ahead(self) -> None:
        """Its answers show no time."""

    async def search_from(self, since: int) -> None:
        self.searches.append(since)


class Job:
    """A job's approvals on that DingTalk."""

    def __init__(self, redis: Redis, job_id: str, calls: DingTalk) -> None:
        holds: Any = {"redis": redis, "settings": SETTINGS, "form_checks": FormChecks(redis)}
        resources: Any = SimpleNamespace(**holds)
        claim: Any = SimpleNamespace(app="default", id=job_id, time=RedisTime(0))
        of_job: Any = calls
        self._approvals = JobApprovals(claim, of_job, resources)

    async def create(self) -> str:
        return await self._approvals.create(JOB)

    async def look(self) -> tuple[str | None, Sequence[Any], timedelta]:
        return await self._approvals.find(JOB, since=EPOCH)

    async def find(self) -> str | None:
        return (await self.look())[0]


async def test_a_job_whose_instance_was_taken_gets_that_of_the_taker(redis: Redis) -> None:
    # a's call made i1 and its answer was lost. a looks it up while the answer to b is under way,
    # and gets i2 first.
    instances = ["i1"]
    calls_of_a, calls_of_b = DingTalk(instances, 1_000), DingTalk(instances, 9_000)
    a, b = Job(redis, "a", calls_of_a), Job(redis, "b", calls_of_b)
    assert await of(redis, "a").claim("i2", since=1_000) is None
    with pytest.raises(Ambiguous):
        await b.create()
    assert calls_of_b.searches == [1_000]
    assert await b.find() == "i1"
    assert await a.find() == "i2"
    assert instances == ["i1", "i2"]


async def test_a_job_that_has_its_instance_takes_no_other(redis: Redis) -> None:
    # b's worker died after it claimed i2; a's answer, i1, was lost and i1 belongs to no job.
    instances = ["i1", "i2"]
    a, b = Job(redis, "a", DingTalk(instances, 1)), Job(redis, "b", DingTalk(instances, 2))
    assert await of(redis, "b").claim("i2", since=2) is None
    assert await b.find() == "i2"
    assert await a.find() == "i1"


async def test_what_is_left_to_a_job_is_waited_for(redis: Redis) -> None:
    # The calls of a, b and c have no answer, and that of b takes long.
    instances = ["i1", "i2"]
    a, b, c = (Job(redis, name, DingTalk(instances, 1)) for name in "abc")
    assert {await a.find(), await b.find()} == {"i1", "i2"}
    found, _, unsettled = await c.look()
    assert found is None
    assert timedelta() < unsettled <= timedelta(seconds=SETTINGS.settle_delay)
    instances.append("i3")
    assert (await c.look())[0] == "i3"


async def test_an_approval_whose_answer_came_is_waited_for_by_no_other(redis: Redis) -> None:
    a, b = Job(redis, "a", DingTalk([], 1)), Job(redis, "b", DingTalk(["i1"], 1))
    assert await a.create() == "i1"
    assert await b.look() == (None, [], timedelta())
