"""DingTalk lowers a limit without a word: the fleet finds the new one by itself."""

import time

import pytest
from redis import Redis

from acceptance import traffic
from acceptance.fleet import Fleet, states, wait_for_ends
from conftest import wait_until
from dingrelay_producers import Client, State
from dingrelay_producers.store.keys import bucket
from dingrelay_sandbox.admin import SandboxAdmin

MESSAGES = 200
LOWERED = 10
"""Calls a second, from 20."""
SENDS = bucket("app:default", "message.send", "calls")
WATCHED = 10.0
"""Seconds after the limit was lowered."""


@pytest.mark.timeout(300)
def test_a_limit_that_is_lowered_in_silence_is_found_within_seconds(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, valkey: Redis
) -> None:
    sandbox.set_latency(5, 30)
    fleet.spawn(2, concurrency=16)
    ids = traffic.send_all(client, map(traffic.message, range(MESSAGES)))
    # The sandbox is asked: on a busy machine a look at all jobs takes as long as many of them.
    wait_until(lambda: sandbox.audit()["delivered"] >= 30, what="the messages flow")
    lowered = time.time()
    sandbox.set_limits(calls=f"{LOWERED}/1s")
    wait_until(lambda: time.time() > lowered + WATCHED, what="the limit is found")
    rate = float(valkey.hget(SENDS, "rate") or 0)
    assert states(client, ids)[State.DONE] < MESSAGES, "the messages ran out too early"
    calls = [
        call
        for call in sandbox.calls(since=lowered, api="/topapi/message")
        if call["at"] < lowered + WATCHED
    ]
    throttled = [call["at"] - lowered for call in calls if call["verdict"] == "throttled"]
    assert len(throttled) <= 0.15 * len(calls), throttled
    # Not what has left: a busy machine misses slots. Calls that it holds up come at once, and are refused.
    assert rate >= 0.5 * LOWERED
    ended = wait_for_ends(client, ids, timeout=180)
    assert {(status.state, status.attempts) for status in ended} == {(State.DONE, 1)}
