"""Thirty keys at once on one lane, or a hundred: who has few jobs does not wait for those who have many."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis

from acceptance.fleet import Fleet
from acceptance.gateway_process import GatewayProcess, made_key
from acceptance.traffic import PEOPLE
from conftest import wait_until
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.http.routes import NDJSON
from support.examples import either
from support.gateways import Reply

FEW = 10
KEYS = either(30, 100)
SIZES = [FEW + round(490 * (number / (KEYS - 1)) ** 20) for number in range(KEYS)]
"""Jobs of each key: a few have hundreds, and most have ten."""
LIMIT = 60
RULES = f'{{"message.send": {{"calls": "{LIMIT}/1s", "recipients": ""}}}}'
CONCURRENCY = 64


def posted(gateway: GatewayProcess, key: str, path: str, body: object, media_type: str) -> Reply:
    """The answer; a busy machine's Redis may be late, and what can be repeated is asked again."""
    while True:
        answer = gateway.ask("POST", path, body, key=key, timeout=60, Content_Type=media_type)
        if answer.status != 503:
            assert answer.status in {200, 201}, answer
            return answer


def another_key(gateway: GatewayProcess, key: str, name: str) -> str:
    wanted = {"name": name, "scopes": ["messages:write"], "lanes": ["bulk"]}
    text: str = posted(gateway, key, "/v1/keys", wanted, "application/json").json["key"]
    return text


def burst(gateway: GatewayProcess, key: str, number: int) -> list[str]:
    """The ids of a key's jobs, which have nothing in common but their lane."""
    lines = [
        json.dumps(
            {
                "lane": "bulk",
                "to": {"users": [f"u{(number + each) % PEOPLE + 1}"]},
                "message": {"msgtype": "text", "text": {"content": f"{number}: {each}"}},
                "idempotency_key": f"{number}-{each}",
            }
        )
        for each in range(SIZES[number])
    ]
    while True:
        answers = posted(gateway, key, "/v1/jobs", "\n".join(lines).encode(), NDJSON)
        found = [json.loads(line) for line in answers.content.splitlines()]
        if all("id" in each for each in found):
            return [each["id"] for each in found]
        assert all(each.get("error", {}).get("status", 503) == 503 for each in found), found


def moments(valkey: Redis, ids: Sequence[str], field: str) -> list[int]:
    """When each of the jobs that have been started, or settled, was, in ms."""
    pipe = valkey.pipeline(transaction=False)
    for job_id in ids:
        pipe.hget(keys.job(job_id), field)
    found: list[Any] = pipe.execute()
    return sorted(int(moment) for moment in found if moment)


def settled(valkey: Redis, ids: Sequence[str]) -> list[int]:
    return moments(valkey, ids, "settled")


@pytest.mark.timeout(300)
def test_a_sender_of_few_jobs_does_not_wait_for_senders_of_many(
    fleet: Fleet, gateway: GatewayProcess, valkey: Redis, sandbox: SandboxAdmin
) -> None:
    sandbox.set_limits(calls=None)
    wait_until(gateway.ready, timeout=60)
    master = made_key(fleet, "master")
    own = [another_key(gateway, master, f"team-{number}") for number in range(len(SIZES))]
    with ThreadPoolExecutor(8) as pool:
        # The longest first: a sender with few comes late, and behind them.
        requests = [
            pool.submit(burst, gateway, own[number], number)
            for number in reversed(range(len(SIZES)))
        ]
        jobs = [each.result() for each in requests]
    fleet.spawn(1, concurrency=CONCURRENCY, DINGRELAY_RULES=RULES)
    few = [ids for ids in jobs if len(ids) == FEW]
    wait_until(
        lambda: all(len(settled(valkey, ids)) == FEW for ids in few),
        timeout=200,
        pause=0.5,
        what="all who have few jobs are through",
    )
    ends = [settled(valkey, ids) for ids in jobs]
    through = max(times[-1] for times, ids in zip(ends, jobs, strict=True) if len(ids) == FEW)
    calls = sum(moment <= through for times in ends for moment in times)
    # By turns it is one FEW of each key's; as they came, it would be nearly all. More than its turns a
    # key has only of what it had before a worker had seen all jobs.
    seen = max(moments(valkey, ids, "started")[-1] for ids in jobs)
    had = [sum(moment <= seen for moment in times) for times in ends]
    ahead = sum(max(0, calls_of_key - FEW) for calls_of_key in had)
    turns = FEW * len(jobs)
    # Twice as many for what a worker runs, or has woken, when it sees the last job: that stays theirs,
    # and is more where the worker is slow. As they came it would be four times the turns.
    assert calls <= 3 * turns + ahead
    assert sum(SIZES) > 3.5 * turns
