"""How much of 20 calls a second gets through, and how much is refused, for each way to do it."""

import os
import subprocess
import sys
import time

from celery import Celery
from cost import distinct
from figures import Figure
from stand import HERE, PEOPLE, Stand

from dingrelay_sandbox.reports import CallReport

LIMIT = 20
API = "/topapi/message/corpconversation/asyncsend_v2"
USED, REFUSED = "limit used", "answers refused"

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


def measure(stand: Stand, seconds: float, *, lead: float) -> list[Figure]:
    """For each peer, the share of the limit that it used and the share of refused answers.

    Args:
        stand: where to measure.
        seconds: how long each is watched, under more jobs than the limit lets through.
        lead: seconds after the first call that are not counted: everybody may start as they like.
    """
    ways = {
        "dingrelay, two workers": _ours,
        "a loop that sleeps 2 s": _sleeper,
        'Celery rate_limit="20/s"': _rate_limited,
        "throttled-py token bucket": _token_bucket,
    }
    results: dict[str, tuple[float, float, int]] = {}
    for name, way in ways.items():
        stand.clear(latency=(5, 30), calls=f"{LIMIT}/1s", window="calendar", recipients="")
        way(stand, lead + seconds)
        results[name] = _seen(stand.sandbox.calls(api=API), seconds, lead)
    ours = next(iter(ways))
    figures = [
        Figure(
            USED,
            name,
            used * 100,
            "%",
            at_least=95 if name == ours else None,
            note=f"{calls} calls",
        )
        for name, (used, _, calls) in results.items()
    ]
    return figures + [
        Figure(REFUSED, name, refused * 100, "%", at_most=0.5 if name == ours else None)
        for name, (_, refused, _) in results.items()
    ]


def _seen(calls: list[CallReport], seconds: float, lead: float) -> tuple[float, float, int]:
    """Share of the limit used, share of answers refused, calls: within the watched time."""
    begin = min(call["monotonic"] for call in calls) + lead
    seen = [call for call in calls if begin <= call["monotonic"] < begin + seconds]
    accepted = sum(call["verdict"] == "ok" for call in seen)
    refused = sum(call["verdict"] == "throttled" for call in seen)
    return accepted / (LIMIT * seconds), refused / max(1, len(seen)), len(seen)


def _backlog(seconds: float) -> int:
    return int(LIMIT * seconds * 1.3)


def _watch(stand: Stand, seconds: float) -> None:
    """Let it run until the watched time after the first call is over."""
    deadline = time.monotonic() + 60
    while not stand.sandbox.audit()["calls"].get(API):
        assert time.monotonic() < deadline, "nothing was sent"
        time.sleep(0.05)
    time.sleep(seconds)


def _ours(stand: Stand, seconds: float) -> None:
    rules = stand.rules(calls=f"{LIMIT}/1s", recipients="")
    with stand.workers(2, concurrency=64, env=rules), stand.client() as client:
        client.send_many(distinct(_backlog(seconds)))
        _watch(stand, seconds)


def _sleeper(stand: Stand, seconds: float) -> None:
    command = [sys.executable, "-c", SLEEPER.replace("%d", str(PEOPLE))]
    env = {**os.environ, **stand.env, "PYTHONPATH": str(HERE)}
    with subprocess.Popen(command, env=env) as process:
        _watch(stand, seconds)
        process.terminate()


def _rate_limited(stand: Stand, seconds: float) -> None:
    _celery_peer(stand, seconds, "peers.rate_limited")


def _token_bucket(stand: Stand, seconds: float) -> None:
    _celery_peer(stand, seconds, "peers.token_bucket")


def _celery_peer(stand: Stand, seconds: float, app: str) -> None:
    celery = Celery(broker=stand.redis_url, set_as_current=False)
    with stand.workers(2, app=app, concurrency=64, options=()):
        for number in range(int(_backlog(seconds) * 1.5)):
            user = f"u{number % PEOPLE + 1}"
            celery.send_task(f"{app}.send_text", args=[user, f"text {number}"])
        _watch(stand, seconds)
