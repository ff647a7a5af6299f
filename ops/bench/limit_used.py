"""How much of 20 calls a second gets through, and how much is refused, however it is counted."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import watch
from figures import Figure
from messages import distinct, user
from testbed import PEOPLE, Testbed

LIMIT = 20
CALLS = f"{LIMIT}/1s"
WINDOWS = {"calendar": "calendar second", "bucket": "token bucket", "sliding": "sliding window"}
"""How the server may count; DingTalk's own messages show calendar seconds."""

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


@dataclass(frozen=True, slots=True)
class Distance:
    """How far away the server is, and what is asked of us there.

    Attributes:
        latency: milliseconds each way, from and to.
        used: the least share of the limit that must be used (%), by way of counting.
        refused: the most answers that may be refused (%).
    """

    latency: tuple[float, float]
    used: Mapping[str, float]
    refused: float

    def __str__(self) -> str:
        return f"{self.latency[0]:g}–{self.latency[1]:g} ms away"


NEAR = Distance((5, 30), {"calendar": 98, "bucket": 98, "sliding": 95}, 0.3)
FAR = Distance((5, 100), {"calendar": 97, "bucket": 97, "sliding": 90}, 1.5)


def measure(
    testbed: Testbed,
    seconds: float,
    *,
    distance: Distance,
    windows: Sequence[str] = tuple(WINDOWS),
    peers: Sequence[str] = (),
    peer_seconds: float = 20,
    lead: float = 2,
) -> list[Figure]:
    """The share of the limit that was used, and the share of refused answers.

    Args:
        testbed: where to measure.
        seconds: how long we are watched, under more jobs than the limit lets through.
        distance: how far away the server is.
        windows: how the server counts, one after the other.
        peers: who else is measured.
        peer_seconds: how long each of them is watched.
        lead: seconds after the first call that are not counted: everybody may start as they like.
    """
    used, refused = f"limit used, {distance}", f"answers refused, {distance}"
    figures: list[Figure] = []
    for window in windows:
        testbed.clear(latency=distance.latency, calls=CALLS, window=window, recipients="")
        seen = _watched(testbed, _ours, seconds, lead)
        name, note = WINDOWS[window], f"{seen.calls:,} calls"
        least, most = distance.used[window], distance.refused
        figures += [
            Figure(used, name, seen.used_share(LIMIT), "%", at_least=least, note=note),
            Figure(refused, name, seen.refused_share, "%", at_most=most),
        ]
    for name in peers:
        way, window = PEERS[name]
        testbed.clear(latency=distance.latency, calls=CALLS, window=window, recipients="")
        seen = _watched(testbed, way, peer_seconds, lead)
        figures += [
            Figure(used, name, seen.used_share(LIMIT), "%", note=f"{seen.calls:,} calls"),
            Figure(refused, name, seen.refused_share, "%"),
        ]
    return sorted(figures, key=lambda figure: figure.group != used)


def _watched(testbed: Testbed, way: Way, seconds: float, lead: float) -> watch.Watched:
    way(testbed, lead + seconds)
    return watch.seen(testbed, seconds, lead=lead)


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
"""Name → how it sends, and how the server counts meanwhile."""
