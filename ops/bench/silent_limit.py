"""The server's limit falls from 20 to 10 calls a second and nobody says so."""

import time

from figures import Figure
from limit_used import CALLS, LIMIT
from messages import distinct
from testbed import API, Testbed

GROUP = "limit halved unannounced"
LOWER = LIMIT // 2


def measure(testbed: Testbed, seconds: float, *, before: float, settled: float) -> list[Figure]:
    """The share of refused answers, and of the lower limit that was used, once it has adapted.

    Args:
        testbed: where to measure.
        seconds: how long it is watched once it must have adapted.
        before: seconds at the full limit.
        settled: seconds within which the fleet must have adapted.
    """
    testbed.clear(latency=(5, 30), calls=CALLS, recipients="")
    rules = testbed.rules(calls=CALLS, recipients="")
    with testbed.workers(2, env=rules), testbed.client() as client:
        client.send_many(distinct(int(LIMIT * (seconds + 20))))
        time.sleep(before)
        testbed.sandbox.set_limits(calls=f"{LOWER}/1s")
        lowered = time.time()
        time.sleep(settled + seconds)
        dead = len(client.dead())
        calls = testbed.sandbox.calls(api=API, since=lowered)
    first = [call for call in calls if call["at"] < lowered + settled]
    after = [
        call for call in calls if lowered + settled <= call["at"] < lowered + settled + seconds
    ]
    refused = sum(call["verdict"] == "throttled" for call in after)
    accepted = sum(call["verdict"] == "ok" for call in after)
    early = sum(call["verdict"] == "throttled" for call in first)
    return [
        Figure(GROUP, "answers refused", refused / max(1, len(after)) * 100, "%", at_most=15),
        Figure(GROUP, "dead jobs", dead, at_most=0),
        Figure(GROUP, "limit used", accepted / (LOWER * seconds) * 100, "%"),
        Figure(GROUP, "refused while adapting", early, "calls"),
    ]
