"""Eight apps, each with a limit of its own, on the same two workers."""

import watch
from figures import Figure
from limit_used import CALLS, LIMIT
from messages import distinct
from testbed import Testbed

LEAD = 2
"""Seconds after the first call that are not counted: the first call of each app is later."""
GROUP = "eight apps on two workers"
APPS = tuple(f"app{number}" for number in range(1, 9))


def measure(testbed: Testbed, seconds: float) -> list[Figure]:
    """The share of all their limits together that was used.

    Args:
        testbed: where to measure.
        seconds: how long they are watched.
    """
    testbed.clear(calls=CALLS, recipients="")
    env = testbed.rules(calls=CALLS, recipients="")
    for number, app in enumerate(APPS):
        key, secret, agent = f"{app}-key", f"{app}-secret", str(2_000_001 + number)
        testbed.sandbox.add_app(app_key=key, app_secret=secret, agent_id=agent)
        env[f"DINGTALK_APP_KEY_{app.upper()}"] = key
        env[f"DINGTALK_APP_SECRET_{app.upper()}"] = secret
        env[f"DINGTALK_AGENT_ID_{app.upper()}"] = agent
    together = LIMIT * len(APPS)
    with testbed.workers(2, env=env), testbed.client() as client:
        client.send_many(distinct(int(together * (seconds + LEAD + 1) * 1.2), apps=APPS))
        watch.wait(testbed, LEAD + seconds)
        seen = watch.seen(testbed, seconds, lead=LEAD)
    note = f"{seen.accepted / seconds:.1f} of {together} calls/s"
    return [
        Figure(GROUP, "limit used", seen.used_share(together), "%", at_least=96, note=note),
        Figure(GROUP, "answers refused", seen.refused_share, "%"),
    ]
