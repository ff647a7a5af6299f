"""Everything that is measured, by letter and by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import alerts
import cost
import gateway
import kills
import limit_used
import pages
import starts
import urgent
import webhooks
from figures import Figure


@dataclass(frozen=True, slots=True)
class Measurement:
    """One thing that is measured.

    Attributes:
        letter: its short name.
        name: its long one.
        run: measures it on a test stand; its defaults are those of a published run.
        quick: arguments with which it takes seconds: shows that it runs, and judges nothing.
        in_smoke: whether a quick run of everything includes it.
    """

    letter: str
    name: str
    run: Callable[..., list[Figure]]
    quick: Mapping[str, Any]
    in_smoke: bool = True

    def __str__(self) -> str:
        return f"{self.letter} {self.name}"


ONE_ROUND = {"seconds": 1, "peer_seconds": 1, "lead": 0}
MEASUREMENTS = (
    Measurement("A", "limit-used", limit_used.measure, {**ONE_ROUND, "few": True}),
    Measurement("B", "command-start", starts.measure, {"rounds": 1}),
    Measurement("C", "recipients", limit_used.recipients, {"minutes": 1 / 60}, in_smoke=False),
    Measurement("D", "urgent", urgent.measure, {"messages": 3, "peer_messages": 0}),
    Measurement("E", "one-by-one", limit_used.coalescing, {"jobs": 10, "timeout": 5}),
    Measurement("F", "alerts", alerts.measure, {"alerts": 200}),
    Measurement("G", "cost", cost.worker, {"jobs": 100, "rounds": 1, "loaded": 0, "peers": False}),
    Measurement(
        "P",
        "pages",
        pages.measure,
        {"jobs": 2_000, "people": 500, "campaign": 5_000, "requests": 2, "seconds": 1},
    ),
    Measurement(
        "Q", "campaign-kills", kills.campaign, {"people": 20_000, "kills": 1}, in_smoke=False
    ),
    Measurement("R", "recovery", kills.recovery, {"kills": 1}, in_smoke=False),
    Measurement("S", "http-single", gateway.single, {"rounds": 1, "seconds": 0.5}),
    Measurement("T", "http-lines", gateway.lines, {"jobs": 1_000, "gateways": [1]}),
    Measurement("W", "webhooks-stuck", webhooks.measure, {"messages": 3, "seconds": 1}, False),
    Measurement("X", "redis", cost.redis_and_history, {"jobs": 100, "loaded": 0}),
    Measurement("Y", "enqueue", cost.enqueue, {"jobs": 100, "waiting": 1_000}),
)
