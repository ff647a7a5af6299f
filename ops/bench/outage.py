"""Outages of DingTalk's at full length, each on a stand of its own, side by side.

``python ops/bench/outage.py [KIND ...] [--seconds 150]``. Two workers have messages and
approvals waiting when an outage begins. Exit code 1 if a bound is broken.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

from figures import Figure, show
from redis import Redis
from testbed import Testbed, testbed, wait_until

from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_sandbox.faults import TOKEN_APIS
from dingrelay_tasks import ApprovalCreate, MessageSend

MESSAGES, APPROVALS = 200, 50
WORKERS, CONCURRENCY = 2, 32
CALLS = 60
"""Calls into an outage at most; of refused connections the sandbox sees none."""
SOON = 30
"""Seconds after its end within which all is done."""
PATIENCE = 180
"""Seconds after its end for which the rest is waited for, to find out how late it was."""


def _unavailable_then_busy(sandbox: SandboxAdmin, seconds: float) -> None:
    sandbox.outage("503", seconds=seconds / 2)
    sandbox.outage("busy", starts_in=seconds / 2, seconds=seconds / 2)


def _tokens_alone(sandbox: SandboxAdmin, seconds: float) -> None:
    sandbox.outage("503", api=TOKEN_APIS, seconds=seconds)
    sandbox.revoke_tokens()


KINDS: dict[str, Callable[[SandboxAdmin, float], object]] = {
    "503 and -1": _unavailable_then_busy,
    "timeouts": lambda sandbox, seconds: sandbox.outage("hang", seconds=seconds),
    "refused": lambda sandbox, seconds: sandbox.refuse_connections(seconds),
    "html": lambda sandbox, seconds: sandbox.outage("html", seconds=seconds),
    "tokens": _tokens_alone,
}


def main() -> int:
    """Measure, show, and check the bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--seconds", type=float, default=150, help="how long an outage lasts")
    options = parser.parse_args()
    chosen = options.kinds or list(KINDS)
    with ExitStack() as stack, ThreadPoolExecutor(len(chosen)) as threads:
        # One after the other: two that start at once may choose the same port.
        stands = [stack.enter_context(testbed()) for _ in chosen]
        found = threads.map(partial(measure, seconds=options.seconds), stands, chosen)
        figures = [figure for each in found for figure in each]
    show(figures)
    return int(any(figure.holds is False for figure in figures))


def measure(testbed: Testbed, kind: str, seconds: float) -> list[Figure]:
    """What an outage cost, and how soon all was done after it."""
    testbed.clear(calls="", recipients="")
    with testbed.workers(WORKERS, concurrency=CONCURRENCY), testbed.client() as client:
        warm = [client.send(_message(number)) for number in range(MESSAGES, MESSAGES + 20)]
        jobs = [handle.id for handle in warm]
        with Redis.from_url(testbed.redis_url) as redis:
            wait_until(lambda: _ended(redis, jobs), 60)
            began = time.monotonic()
            KINDS[kind](testbed.sandbox, seconds)
            jobs += [client.send(_message(number)).id for number in range(MESSAGES)]
            jobs += [client.send(_approval(number)).id for number in range(APPROVALS)]
            time.sleep(max(0, began + seconds - time.monotonic()))
            try:
                wait_until(lambda: _ended(redis, jobs), PATIENCE, pause=0.2)
            except TimeoutError as error:
                print(kind, error, file=sys.stderr)
            late = time.monotonic() - began - seconds
            states = Counter(_field(redis, jobs, "state"))
    met = Counter(call["api"] for call in testbed.sandbox.calls() if call["fault"])
    twice = testbed.sandbox.audit()["duplicates"]["approvals"]
    group = f"{kind} for {seconds:g} s"
    note = ", ".join(f"{api} {count}" for api, count in met.items())
    return [
        Figure(group, "calls into it", met.total(), "calls", at_most=CALLS, note=note),
        Figure(group, "not done", len(jobs) - states["done"], "jobs", at_most=0, note=str(states)),
        Figure(group, "approvals created twice", twice, "", at_most=0),
        Figure(group, "done after its end", late, "s", at_most=SOON),
    ]


def _message(number: int) -> MessageSend:
    text = {"msgtype": "text", "text": {"content": f"message {number}"}}
    return MessageSend.parse({"to": {"users": [f"u{number + 1}"]}, "message": text})


def _approval(number: int) -> ApprovalCreate:
    return ApprovalCreate.parse(
        {"process_code": "PROC-ANY", "originator": "u1", "form": {"days": number}}
    )


def _field(redis: Redis, jobs: Sequence[str], name: str) -> list[str]:
    with redis.pipeline(transaction=False) as pipe:
        for job in jobs:
            pipe.hget(keys.job(job), name)
        return [(value or b"").decode() for value in pipe.execute()]


def _ended(redis: Redis, jobs: Sequence[str]) -> bool:
    ended = {"done", "dead", "unknown", "duplicate", "expired", "cancelled"}
    return ended.issuperset(_field(redis, jobs, "state"))


if __name__ == "__main__":
    sys.exit(main())
