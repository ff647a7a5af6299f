"""Malformed jobs at the client: refused where they are made, and nothing is enqueued."""

import pytest
from hypothesis import HealthCheck, given, settings
from redis.asyncio import Redis

from acceptance.malformed import Malformed, malformed_jobs, names
from dingrelay_producers import Client, Settings
from dingrelay_tasks import ContractError
from dingrelay_tasks.kinds import KINDS


async def test_a_malformed_job_names_its_field(valkey_url: str, redis: Redis) -> None:
    with Client(Settings.load(env="test", redis_url=valkey_url)) as client:

        @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
        @given(malformed_jobs())
        def enqueue(malformed: Malformed) -> None:
            with pytest.raises(ContractError) as refused:
                client.send(KINDS[malformed.kind].contract.parse(malformed.job))
            assert names(refused.value.field, malformed.field), refused.value
            str(refused.value).encode()

        enqueue()
    assert await redis.keys("*") == []
