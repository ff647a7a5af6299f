"""How much of 20 calls a second gets through, and how much is refused, however it is counted."""

import sys
from collections.abc import Callable, Mapping

import watch
from figures import Figure
from messages import distinct, user
from testbed import PEOPLE, Testbed

LIMIT = 20
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

Way = Callable[[Testbed, float], None]
"""Sends for so many seconds after its first call."""

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
        testbed.clear(latency=LATENCY_MS, calls=CALLS, window=window, recipients="")
        way(testbed, lead + seconds)
        seen = watch.seen(testbed, seconds, lead=lead)
        note, least = f"{seen.calls:,} calls", bounds.get("at_least")
        used.append(Figure(USED, name, seen.used_share(LIMIT), "%", at_least=least, note=note))
        most = bounds.get("at_most")
        refused.append(Figure(REFUSED, name, seen.refused_share, "%", at_most=most))

    for window, (name, least) in list(WINDOWS.items())[-1 if few else 0 :]:
        watched(name, window, _ours, seconds, at_least=least, at_most=0.3)
    for name, (way, window) in list(PEERS.items())[-1 if few else 0 :]:
        watched(name, window, way, peer_seconds)
    return used + refused


def _backlog(seconds: float) -> int:
    return int(LIMIT * (seconds + 1) * 1.3)


def _ours(testbed: Testbed, seconds: float) -> None:
    rules = testbed.rules(calls=CALLS, recipients="")
    with testbed.workers(2, env=rules), testbed.client() as client:
        client.send_many(distinct(_backlog(seconds)))
        watch.wait(testbed, seconds)


def _sleeper(testbed: Testbed, seconds: float) -> None:
    with testbed.processes([[sys.executable, "-c", SLEEPER.replace("%d", str(PEOPLE))]]):
        watch.wait(testbed, seconds)


def _celery_peer(app: str) -> Way:
    def run(testbed: Testbed, seconds: float) -> None:
        celery = testbed.celery()
        with testbed.celery_workers(2, app):
            for number in range(int(_backlog(seconds) * 1.5)):
                celery.send_task(f"{app}.send_text", args=[user(number), f"text {number}"])
            watch.wait(testbed, seconds)

    return run


THROTTLED_PY = _celery_peer("peers.token_bucket")
PEERS: Mapping[str, tuple[Way, str]] = {
    "a loop that sleeps 2 s": (_sleeper, "calendar"),
    'Celery rate_limit="20/s"': (_celery_peer("peers.rate_limited"), "calendar"),
    # It counts in whole seconds of Redis's clock, which is the server's own here: what fits
    # calendar seconds to the call is refused where the server counts otherwise.
    "Celery and throttled-py": (THROTTLED_PY, "calendar"),
    "Celery and throttled-py, sliding window": (THROTTLED_PY, "sliding"),
}
"""Name → how it sends, and how the server counts then."""
