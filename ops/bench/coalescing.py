"""The same text to 20,000 people as 20,000 jobs: how many of them leave in one call."""

from figures import Figure
from limit_used import CALLS, LIMIT
from messages import same
from testbed import Testbed, wait_until

A_CALL = 100
"""Users that one call may carry."""


def measure(testbed: Testbed, jobs: int = 20_000, *, patience: float = 60) -> list[Figure]:
    """How many times as many people a second as with one call a job.

    Args:
        testbed: where to measure.
        jobs: enqueued with one `send` after the other, before the workers start.
        patience: seconds; of a run that takes longer what was done by then is counted.
    """
    group = f"{jobs:,} equal texts, one by one"
    testbed.clear(people=jobs, calls=CALLS, recipients="")
    with testbed.client() as client:
        for job in same(jobs):
            client.send(job)
    note = ""
    with testbed.workers(2, env=testbed.rules(calls=CALLS, recipients="")):
        try:
            wait_until(lambda: testbed.delivered() >= jobs, patience)
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
