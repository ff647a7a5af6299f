"""The same text to 20,000 people as 20,000 jobs: how many of them leave in one call."""

from collections.abc import Callable, Iterable

from figures import Figure
from limit_used import CALLS, LIMIT
from messages import same
from testbed import Testbed, wait_until

from dingrelay_producers import Client
from dingrelay_tasks import MessageSend

A_CALL = 100
"""Users that one call may carry."""

Enqueue = Callable[[Client, Iterable[MessageSend]], object]


def one_by_one(testbed: Testbed, jobs: int, *, patience: float) -> list[Figure]:
    """Enqueued with one `send` after the other, as many business applications would."""
    group = f"{jobs:,} equal texts, one by one"
    return _measure(testbed, jobs, group, _send_each, patience=patience, times=60, calls=1.3)


def in_one_go(testbed: Testbed, jobs: int, *, patience: float) -> list[Figure]:
    """Enqueued with `send_many`."""
    group = f"{jobs:,} equal texts, send_many"
    return _measure(testbed, jobs, group, Client.send_many, patience=patience, times=95, calls=None)


def _send_each(client: Client, jobs: Iterable[MessageSend]) -> None:
    for job in jobs:
        client.send(job)


def _measure(
    testbed: Testbed,
    jobs: int,
    group: str,
    enqueue: Enqueue,
    *,
    patience: float,
    times: float,
    calls: float | None,
) -> list[Figure]:
    """How many times as many people a second as with one call a job.

    The jobs wait before the workers start. Of a run that takes longer than `patience` (s) what
    was done by then is counted.
    """
    testbed.clear(people=jobs, calls=CALLS, recipients="")
    rules = testbed.rules(calls=CALLS, recipients="")
    with testbed.client() as client:
        enqueue(client, same(jobs))
    with testbed.workers(2, env=rules):
        done = _finished(testbed, jobs, patience)
        seen = [call for call in testbed.calls() if call["verdict"] == "ok"]
    people = sum(call["recipients"] for call in seen)
    # A call that is the only one takes up its share of a second, too.
    seconds = max(seen[-1]["monotonic"] - seen[0]["monotonic"], 1 / LIMIT)
    least = -(-people // A_CALL)
    note = f"{people:,} people in {len(seen):,} calls and {seconds:.1f} s"
    if not done:
        note += ", then cut off"
    return [
        Figure(group, "people a second", people / seconds, "/s", note=note),
        Figure(group, "× one call a job", people / seconds / LIMIT, "×", at_least=times),
        Figure(group, "calls ÷ fewest possible", len(seen) / least, "×", at_most=calls),
    ]


def _finished(testbed: Testbed, jobs: int, patience: float) -> bool:
    try:
        wait_until(lambda: testbed.delivered() >= jobs, patience)
    except TimeoutError:
        return False
    return True
