"""A storm of alerts to a group of two robots: in how many calls, how fast, and how soon the first and an urgent one."""

import json
import time
from collections.abc import Iterator
from typing import Any

from figures import Figure
from testbed import Testbed, wait_until

from dingrelay_tasks import RobotMessage

GROUP, ROBOTS = "oncall", ("a", "b")
HOSTS = 100
"""Hosts that raise alerts: each has its line in a digest."""
URGENT = "urgent"


def measure(testbed: Testbed, alerts: int = 10_000, *, timeout: float = 120) -> list[Figure]:
    """Alerts that come as fast as one client enqueues them, merged every five seconds; an urgent one among them.

    Args:
        testbed: where to measure.
        alerts: how many.
        timeout: seconds until all are in the group.
    """
    group = f"{alerts:,} alerts to a group of two robots"
    testbed.clear()
    env = {"DINGRELAY_GROUPS": json.dumps({GROUP: {"robots": ROBOTS}})}
    for name in ROBOTS:
        testbed.sandbox.add_robot(name)
        url = f"{testbed.sandbox.base_url}/robot/send?access_token={name}"
        env[f"DINGTALK_ROBOT_{name.upper()}_WEBHOOK"] = url
    with testbed.workers(2, env=env), testbed.client() as client:
        began = time.time()
        client.send_many(_alerts(alerts // 2))
        asked = time.time()
        client.send(_alert(URGENT, lane="urgent"))
        client.send_many(_alerts(alerts - alerts // 2))
        wait_until(lambda: _shown(testbed) > alerts, timeout)
    posts = testbed.sandbox.robot_posts()
    urgent = next(post for post in posts if _title(post) == URGENT)
    seconds = posts[-1]["at"] - began
    note = f"{_shown(testbed):,} messages in {len(posts)} posts and {seconds:.1f} s"
    return [
        Figure(group, "calls made", len(posts), "calls", at_most=40, note=note),
        Figure(group, "first", (posts[0]["at"] - began) * 1000, "ms", at_most=1_000),
        Figure(group, URGENT, (urgent["at"] - asked) * 1000, "ms", at_most=2_000),
        Figure(group, "messages a second", alerts / seconds, "/s", at_least=100),
    ]


def _alerts(count: int) -> Iterator[RobotMessage]:
    for number in range(count):
        yield _alert(f"host {number % HOSTS}: disk {number % 7 + 90} %", digest="5s")


def _alert(title: str, **more: Any) -> RobotMessage:
    content = {"title": title, "text": f"{title}, since {time.time():.0f}"}
    message = {"msgtype": "markdown", "markdown": content}
    return RobotMessage.parse({"to": {"group": GROUP}, "message": message, **more})


def _title(post: dict[str, Any]) -> str:
    return str(post["message"]["markdown"]["title"])


def _shown(testbed: Testbed) -> int:
    """How many alerts the titles of the posts count."""
    titles = map(_title, testbed.sandbox.robot_posts())
    return sum(int(title[1:].split("]")[0]) if title[0] == "[" else 1 for title in titles)
