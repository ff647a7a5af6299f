"""How much of DingTalk's limits gets through: of its calls, of its recipients, and of what one call may carry."""

import sys
import time
from collections.abc import Callable, Mapping

from figures import Figure
from messages import distinct, full, same, user
from testbed import PEOPLE, Testbed, wait_until

from dingrelay_sandbox.admin import Row

LIMIT = 20
A_MINUTE, A_CALL = 5_000, 100
"""Recipients of an app in a minute, and of one call."""
CALLS = f"{LIMIT}/1s"
LATENCY_MS = (5, 30)
USED, REFUSED = "limit used, 5–30 ms away", "answers refused, 5–30 ms away"
WINDOWS = {
    "calendar": ("calendar second", 98),
    "bucket": ("token bucket", 98),
    "sliding": ("sliding window", 95),
}
"""How the server may count → its name, and the least share (%) of the limit to be used then.
DingTalk's own messages show calendar seconds."""

Way = Callable[[Testbed, float, Mapping[str, str]], None]
"""Sends for so many seconds after its first call, if it has them under these rules."""

SLEEPER = """
import time
from itertools import count
from peers.dingtalk import Throttled, send
for number in count():
    while True:
        try:
            send(f"u{number % %d + 1}", f"text {number}")
            break
        except Throttled:
            time.sleep(2)
"""


def watch_for(testbed: Testbed, seconds: float) -> None:
    """Let it run until so many seconds after the first call."""
    wait_until(testbed.calls, 60, pause=0.01)
    time.sleep(seconds)


def seen_within(
    testbed: Testbed, seconds: float, *, lead: float = 0
) -> tuple[list[Row], list[Row]]:
    """The calls that were carried out, and those that were throttled, of so many seconds.

    They begin `lead` seconds after the first call.
    """
    calls = testbed.calls()
    begin = min(call["monotonic"] for call in calls) + lead
    within = [call for call in calls if begin <= call["monotonic"] < begin + seconds]
    accepted = [call for call in within if call["verdict"] == "ok"]
    return accepted, [call for call in within if call["verdict"] == "throttled"]


def measure(
    testbed: Testbed,
    seconds: float = 60,
    *,
    peer_seconds: float = 20,
    lead: float = 2,
    few: bool = False,
) -> list[Figure]:
    """The share of the limit that was used, and the share of refused answers.

    Args:
        testbed: where to measure.
        seconds: how long we are watched, under more jobs than the limit lets through.
        peer_seconds: how long each peer is watched.
        lead: seconds after the first call that are not counted.
        few: one way of counting and one peer only.
    """
    used: list[Figure] = []
    refused: list[Figure] = []

    def watched(name: str, window: str, way: Way, seconds: float, **bounds: float) -> None:
        rules = testbed.clear(latency=LATENCY_MS, calls=CALLS, window=window, recipients="")
        way(testbed, lead + seconds, rules)
        accepted, throttled = seen_within(testbed, seconds, lead=lead)
        calls = len(accepted) + len(throttled)
        share, note = len(accepted) / (LIMIT * seconds) * 100, f"{calls:,} calls"
        used.append(Figure(USED, name, share, "%", at_least=bounds.get("at_least"), note=note))
        share = len(throttled) / max(1, calls) * 100
        refused.append(Figure(REFUSED, name, share, "%", at_most=bounds.get("at_most")))

    for window, (name, least) in list(WINDOWS.items())[-1 if few else 0 :]:
        watched(name, window, _ours, seconds, at_least=least, at_most=0.3)
    for name, (way, window) in list(PEERS.items())[-1 if few else 0 :]:
        watched(name, window, way, peer_seconds)
    return used + refused


def _backlog(seconds: float) -> int:
    return int(LIMIT * (seconds + 1) * 1.3)


def _ours(testbed: Testbed, seconds: float, rules: Mapping[str, str]) -> None:
    with testbed.workers(2, env=rules), testbed.client() as client:
        client.send_many(distinct(_backlog(seconds)))
        watch_for(testbed, seconds)


def _sleeper(testbed: Testbed, seconds: float, rules: Mapping[str, str]) -> None:
    with testbed.processes([[sys.executable, "-c", SLEEPER.replace("%d", str(PEOPLE))]]):
        watch_for(testbed, seconds)


def _celery_peer(task: str) -> Way:
    def run(testbed: Testbed, seconds: float, rules: Mapping[str, str]) -> None:
        celery = testbed.celery()
        with testbed.celery_workers(2, prefetch=1):
            for number in range(int(_backlog(seconds) * 1.5)):
                celery.send_task(f"peers.celery.{task}", args=[user(number), f"text {number}"])
            watch_for(testbed, seconds)

    return run


THROTTLED_PY = _celery_peer("token_bucket")
PEERS: Mapping[str, tuple[Way, str]] = {
    "a loop that sleeps 2 s": (_sleeper, "calendar"),
    'Celery rate_limit="20/s"': (_celery_peer("rate_limited"), "calendar"),
    # It counts in whole seconds of Redis's clock, which is the server's own here: what fits
    # calendar seconds to the call is refused where the server counts otherwise.
    "Celery and throttled-py": (THROTTLED_PY, "calendar"),
    "Celery and throttled-py, sliding window": (THROTTLED_PY, "sliding"),
}
"""Name → how it sends, and how the server counts then."""


def recipients(testbed: Testbed, minutes: float = 3) -> list[Figure]:
    """The share of the recipients' limit that arrived in inboxes, and who got nothing.

    Args:
        testbed: where to measure.
        minutes: how long, under more jobs to 100 users each than the limit lets through.
    """
    group = f"{A_MINUTE:,} recipients a minute"
    with testbed.workers(2, env=testbed.clear(calls=CALLS, recipients="5000/60s")):
        with testbed.client() as client:
            client.send_many(full(int((minutes + 1) * A_MINUTE / A_CALL), A_CALL))
        watch_for(testbed, minutes * 60)
        accepted, _ = seen_within(testbed, minutes * 60)
        # What was under way is in the inboxes, too.
        time.sleep(0.1)
        dropped = sum(testbed.sandbox.audit()["dropped"].values())
    people = sum(call["recipients"] for call in accepted)
    delivered = (people - dropped) / (A_MINUTE * minutes) * 100
    note = f"{people:,} people in {minutes:g} min"
    return [
        Figure(group, "delivered", delivered, "%", at_least=96, note=note),
        Figure(group, "dropped silently", dropped, "people", at_most=0),
    ]


def coalescing(testbed: Testbed, jobs: int = 20_000, *, timeout: float = 60) -> list[Figure]:
    """How many times as many people a second as with one call a job.

    Args:
        testbed: where to measure.
        jobs: enqueued with one `send` after the other, before the workers start.
        timeout: seconds; of a run that takes longer what was done by then is counted.
    """
    group = f"{jobs:,} equal texts, one by one"
    rules = testbed.clear(people=jobs, calls=CALLS, recipients="")
    with testbed.client() as client:
        for job in same(jobs):
            client.send(job)
    note = ""
    with testbed.workers(2, env=rules):
        try:
            wait_until(lambda: testbed.delivered() >= jobs, timeout)
        except TimeoutError:
            note = ", then cut off"
        seen = [call for call in testbed.calls() if call["verdict"] == "ok"]
    people = sum(call["recipients"] for call in seen)
    # A call that is the only one takes up its share of a second, too.
    seconds = max(seen[-1]["monotonic"] - seen[0]["monotonic"], 1 / LIMIT)
    note = f"{people:,} people in {len(seen):,} calls and {seconds:.1f} s{note}"
    fewest = -(-people // A_CALL)
    return [
        Figure(group, "people a second", people / seconds, "/s", note=note),
        Figure(group, "× one call a job", people / seconds / LIMIT, "×", at_least=60),
        Figure(group, "calls ÷ fewest possible", len(seen) / fewest, "×", at_most=1.3),
    ]
