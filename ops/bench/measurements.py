"""Everything that is measured, by letter and by name."""

from collections.abc import Callable
from dataclasses import dataclass

import acquires
import capacity
import coalescing
import cost
import creation
import fleet
import gateway
import kills
import lifted
import limit_used
import memory
import punctuality
import recipients
import recovery
import silent_limit
import steering
import urgent
import webhooks
from figures import Figure
from limit_used import FAR, NEAR
from testbed import Testbed


@dataclass(frozen=True, slots=True)
class Measurement:
    """One thing that is measured.

    Attributes:
        letter: its short name.
        name: its long one.
        run: measures it.
        smoke: the same in seconds: it shows that everything runs, and judges nothing.
        in_smoke: whether a smoke run of all includes it; the others differ from one that does by
            their numbers only.
    """

    letter: str
    name: str
    run: Callable[[Testbed], list[Figure]]
    smoke: Callable[[Testbed], list[Figure]]
    in_smoke: bool = True

    def __str__(self) -> str:
        return f"{self.letter} {self.name}"


MEASUREMENTS = (
    Measurement(
        "A",
        "limit-used",
        lambda testbed: limit_used.measure(
            testbed, 60, distance=NEAR, peers=tuple(limit_used.PEERS)
        ),
        lambda testbed: limit_used.measure(
            testbed,
            1,
            distance=NEAR,
            windows=["sliding"],
            peers=["Celery and throttled-py"],
            peer_seconds=1,
            lead=0,
        ),
    ),
    Measurement(
        "B",
        "limit-used-far",
        lambda testbed: limit_used.measure(testbed, 60, distance=FAR),
        lambda testbed: limit_used.measure(testbed, 1, distance=FAR, windows=["bucket"]),
        in_smoke=False,
    ),
    Measurement(
        "C",
        "recipients",
        lambda testbed: recipients.measure(testbed, 3),
        lambda testbed: recipients.measure(testbed, 1 / 60),
        in_smoke=False,
    ),
    Measurement(
        "D",
        "urgent",
        lambda testbed: urgent.measure(testbed, 150, peer_messages=50),
        lambda testbed: urgent.measure(testbed, 3, peer_messages=0),
    ),
    Measurement(
        "E",
        "one-by-one",
        lambda testbed: coalescing.one_by_one(testbed, 20_000, patience=60),
        lambda testbed: coalescing.one_by_one(testbed, 10, patience=5),
        in_smoke=False,
    ),
    Measurement(
        "F",
        "in-one-go",
        lambda testbed: coalescing.in_one_go(testbed, 20_000, patience=60),
        lambda testbed: coalescing.in_one_go(testbed, 10, patience=5),
    ),
    Measurement(
        "G",
        "cost",
        lambda testbed: cost.measure(testbed, 3_000),
        lambda testbed: cost.measure(testbed, 100, rounds=1, loaded=0, peers=False),
    ),
    Measurement(
        "H",
        "acquires",
        lambda testbed: acquires.measure(testbed, 20_000),
        lambda testbed: acquires.measure(testbed, 640),
    ),
    Measurement(
        "I",
        "eight-apps",
        lambda testbed: fleet.measure(testbed, 20),
        lambda testbed: fleet.measure(testbed, 1),
        in_smoke=False,
    ),
    Measurement(
        "J",
        "memory",
        lambda testbed: memory.measure(testbed, 100_000),
        lambda testbed: memory.measure(testbed, 1_000),
        in_smoke=False,
    ),
    Measurement(
        "K",
        "silent-limit",
        lambda testbed: silent_limit.measure(testbed, 20, before=8, settled=5),
        lambda testbed: silent_limit.measure(testbed, 1, before=1, settled=1),
        in_smoke=False,
    ),
    Measurement(
        "L",
        "campaign-create",
        lambda testbed: creation.measure(testbed, 1_000_000),
        lambda testbed: creation.measure(testbed, 10_000),
        in_smoke=False,
    ),
    Measurement(
        "M",
        "campaign-lifted",
        lambda testbed: lifted.measure(testbed, 300_000),
        lambda testbed: lifted.measure(testbed, 3_000),
        in_smoke=False,
    ),
    Measurement(
        "N",
        "campaign-limits",
        lambda testbed: punctuality.measure(testbed, 20_000),
        lambda testbed: punctuality.measure(testbed, 1_000),
        in_smoke=False,
    ),
    Measurement(
        "O",
        "campaign-urgent",
        lambda testbed: urgent.under_campaign(testbed, 120),
        lambda testbed: urgent.under_campaign(testbed, 3),
        in_smoke=False,
    ),
    Measurement(
        "P",
        "campaign-steering",
        lambda testbed: steering.measure(testbed, 20),
        lambda testbed: steering.measure(testbed, 1),
        in_smoke=False,
    ),
    Measurement(
        "Q",
        "campaign-kills",
        lambda testbed: kills.measure(testbed, 100_000, 20),
        lambda testbed: kills.measure(testbed, 2_000, 1),
        in_smoke=False,
    ),
    Measurement(
        "R",
        "recovery",
        lambda testbed: recovery.measure(testbed, 20),
        lambda testbed: recovery.measure(testbed, 1),
        in_smoke=False,
    ),
    Measurement(
        "S",
        "http-single",
        lambda testbed: gateway.single(testbed, 9, 4),
        lambda testbed: gateway.single(testbed, 1, 0.5),
    ),
    Measurement(
        "T",
        "http-lines",
        lambda testbed: gateway.lines(testbed, 100_000),
        lambda testbed: gateway.lines(testbed, 1_000, gateways=[1]),
    ),
    Measurement(
        "U",
        "http-latency",
        lambda testbed: gateway.latency(testbed, 3, 10),
        lambda testbed: gateway.latency(testbed, 1, 1),
        in_smoke=False,
    ),
    Measurement(
        "V",
        "http-key-rate",
        lambda testbed: gateway.key_rate(testbed, 20),
        lambda testbed: gateway.key_rate(testbed, 1),
    ),
    Measurement(
        "W",
        "webhooks-stuck",
        lambda testbed: webhooks.measure(testbed, 300) + webhooks.isolation(testbed, 30),
        lambda testbed: webhooks.measure(testbed, 3) + webhooks.isolation(testbed, 1),
        in_smoke=False,
    ),
    Measurement(
        "X",
        "redis",
        lambda testbed: capacity.cost(testbed, 5_000),
        lambda testbed: capacity.cost(testbed, 100, loaded=0),
    ),
    Measurement(
        "Y",
        "enqueue",
        lambda testbed: capacity.enqueue(testbed, 2_000) + capacity.waiting(testbed, 100_000),
        lambda testbed: capacity.enqueue(testbed, 100) + capacity.waiting(testbed, 1_000),
        in_smoke=False,
    ),
    Measurement(
        "Z",
        "due",
        lambda testbed: capacity.due(testbed, 5_000, 1_000_000),
        lambda testbed: capacity.due(testbed, 100, 1_000),
        in_smoke=False,
    ),
)


def find(name: str) -> Measurement:
    """The measurement of that letter or name.

    Raises:
        ValueError: there is none.
    """
    for measurement in MEASUREMENTS:
        if name in {measurement.letter, measurement.letter.lower(), measurement.name}:
            return measurement
    raise ValueError(name)
