"""Each approval instance belongs to one job, and each job has one."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from dingrelay_producers import keys
from dingrelay_producers.settings import Settings
from dingrelay_workers.adoptions import Adoptions
from dingrelay_workers.caller import Caller
from dingrelay_workers.dingtalk.apis import APPROVAL_CREATE, APPROVAL_LIST, APPROVAL_READ, Api
from dingrelay_workers.dingtalk.errors import Ambiguous
from dingrelay_workers.engine import Engine
from dingrelay_workers.job_context import JobApprovals
from dingrelay_workers.records import Claim

FORM = [("事由", "出差")]
EPOCH = datetime.fromtimestamp(0, UTC)


def of(redis: Redis, job_id: str) -> Adoptions:
    return Adoptions(redis, app="default", job_id=job_id)


async def test_an_instance_has_one_job_and_a_job_one_instance(redis: Redis) -> None:
    a, b = of(redis, "a"), of(redis, "b")
    assert await a.adopt("i1", since=1) is None
    assert await a.adopt("i1", since=1) is None
    assert await b.adopt("i1", since=2) == 1
    assert await a.adopt("i2", since=3) == 3
    assert await b.adopt("i2", since=2) is None
    assert (await a.own(), await b.own()) == ("i1", "i2")
    assert await redis.pttl(keys.adopted("default")) > 0


@dataclass
class DingTalk:
    """A caller of one job on a DingTalk that keeps the instances of all jobs."""

    instances: list[str]
    open_since: int
    doubts: list[int] = field(default_factory=list)
    agent_id: str = "1"
    app: str = "default"

    async def call(self, api: Api, **_: Any) -> dict[str, Any]:
        match api:
            case _ if api == APPROVAL_CREATE:
                self.instances.append(f"i{len(self.instances) + 1}")
                return {"instanceId": self.instances[-1]}
            case _ if api == APPROVAL_LIST:
                return {"result": {"list": list(reversed(self.instances))}}
            case _:
                assert api == APPROVAL_READ
                form = [{"name": name, "value": value} for name, value in FORM]
                return {
                    "result": {
                        "originatorUserId": "u1",
                        "createTime": "2026-11-24T08:00Z",
                        "formComponentValues": form,
                    }
                }

    async def doubt(self, since: int) -> None:
        self.doubts.append(since)


class Job:
    """A job's approvals on that DingTalk."""

    def __init__(self, redis: Redis, job_id: str, dingtalk: DingTalk) -> None:
        engine = SimpleNamespace(redis=redis, settings=Settings.load(env="test"))
        claim = SimpleNamespace(app="default", id=job_id)
        self._approvals = JobApprovals(
            cast("Claim", claim), cast("Caller", dingtalk), cast("Engine", engine)
        )

    async def create(self) -> str:
        return await self._approvals.create(
            process_code="P", originator="u1", department=-1, form=FORM
        )

    async def find(self) -> str | None:
        return await self._approvals.find(process_code="P", originator="u1", form=FORM, since=EPOCH)


async def test_whose_instance_was_taken_gets_the_one_that_the_taker_made(redis: Redis) -> None:
    # a's call made i1 and its answer was lost. a looks it up while the answer to b is under way,
    # and is told of i2 first.
    instances = ["i1"]
    calls_of_a, calls_of_b = DingTalk(instances, 1_000), DingTalk(instances, 9_000)
    a, b = Job(redis, "a", calls_of_a), Job(redis, "b", calls_of_b)
    assert await of(redis, "a").adopt("i2", since=1_000) is None
    with pytest.raises(Ambiguous):
        await b.create()
    assert calls_of_b.doubts == [1_000]
    assert await b.find() == "i1"
    assert await a.find() == "i2"
    assert instances == ["i1", "i2"]


async def test_a_job_that_has_its_instance_takes_no_other(redis: Redis) -> None:
    # b's worker died after it adopted i2; a's answer, i1, was lost and i1 is nobody's.
    instances = ["i1", "i2"]
    a, b = Job(redis, "a", DingTalk(instances, 1)), Job(redis, "b", DingTalk(instances, 2))
    assert await of(redis, "b").adopt("i2", since=2) is None
    assert await b.find() == "i2"
    assert await a.find() == "i1"
