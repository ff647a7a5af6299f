"""Everything that is measured, by letter and by name."""

from collections.abc import Callable
from dataclasses import dataclass

import acquires
import coalescing
import cost
import creation
import fleet
import kills
import lifted
import limit_used
import memory
import punctuality
import recipients
import silent_limit
import steering
import urgent
from figures import Figure
from limit_used import FAR, NEAR
from testbed import Stand


@dataclass(frozen=True, slots=True)
class Measurement:
    """One thing that is measured.

    Attributes:
        letter: its short name.
        name: its long one.
        run: measures it.
        rehearse: the same in seconds: it shows that everything runs, and judges nothing.
        rehearsed: whether a rehearsal of all includes it; the others differ from one that does by
            their numbers only.
    """

    letter: str
    name: str
    run: Callable[[Stand], list[Figure]]
    rehearse: Callable[[Stand], list[Figure]]
    rehearsed: bool = True

    def __str__(self) -> str:
        return f"{self.letter} {self.name}"


MEASUREMENTS = (
    Measurement(
        "A",
        "limit-used",
        lambda stand: limit_used.measure(stand, 60, distance=NEAR, peers=tuple(limit_used.PEERS)),
        lambda stand: limit_used.measure(
            stand,
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
        lambda stand: limit_used.measure(stand, 60, distance=FAR),
        lambda stand: limit_used.measure(stand, 1, distance=FAR, windows=["bucket"]),
        rehearsed=False,
    ),
    Measurement(
        "C",
        "recipients",
        lambda stand: recipients.measure(stand, 3),
        lambda stand: recipients.measure(stand, 1 / 60),
        rehearsed=False,
    ),
    Measurement(
        "D",
        "urgent",
        lambda stand: urgent.measure(stand, 150, peer_messages=50),
        lambda stand: urgent.measure(stand, 3, peer_messages=0),
    ),
    Measurement(
        "E",
        "one-by-one",
        lambda stand: coalescing.one_by_one(stand, 20_000, patience=60),
        lambda stand: coalescing.one_by_one(stand, 10, patience=5),
        rehearsed=False,
    ),
    Measurement(
        "F",
        "in-one-go",
        lambda stand: coalescing.in_one_go(stand, 20_000, patience=60),
        lambda stand: coalescing.in_one_go(stand, 10, patience=5),
    ),
    Measurement(
        "G",
        "cost",
        lambda stand: cost.measure(stand, 3_000),
        lambda stand: cost.measure(stand, 100, peers=False),
    ),
    Measurement(
        "H",
        "acquires",
        lambda stand: acquires.measure(stand, 20_000),
        lambda stand: acquires.measure(stand, 640),
    ),
    Measurement(
        "I",
        "eight-apps",
        lambda stand: fleet.measure(stand, 20),
        lambda stand: fleet.measure(stand, 1),
        rehearsed=False,
    ),
    Measurement(
        "J",
        "memory",
        lambda stand: memory.measure(stand, 100_000),
        lambda stand: memory.measure(stand, 1_000),
        rehearsed=False,
    ),
    Measurement(
        "K",
        "silent-limit",
        lambda stand: silent_limit.measure(stand, 20, before=8, settled=5),
        lambda stand: silent_limit.measure(stand, 1, before=1, settled=1),
        rehearsed=False,
    ),
    Measurement(
        "L",
        "campaign-create",
        lambda stand: creation.measure(stand, 1_000_000),
        lambda stand: creation.measure(stand, 10_000),
        rehearsed=False,
    ),
    Measurement(
        "M",
        "campaign-lifted",
        lambda stand: lifted.measure(stand, 300_000),
        lambda stand: lifted.measure(stand, 3_000),
        rehearsed=False,
    ),
    Measurement(
        "N",
        "campaign-limits",
        lambda stand: punctuality.measure(stand, 20_000),
        lambda stand: punctuality.measure(stand, 1_000),
        rehearsed=False,
    ),
    Measurement(
        "O",
        "campaign-urgent",
        lambda stand: urgent.under_campaign(stand, 120),
        lambda stand: urgent.under_campaign(stand, 3),
        rehearsed=False,
    ),
    Measurement(
        "P",
        "campaign-steering",
        lambda stand: steering.measure(stand, 20),
        lambda stand: steering.measure(stand, 1),
        rehearsed=False,
    ),
    Measurement(
        "Q",
        "campaign-kills",
        lambda stand: kills.measure(stand, 100_000, 20),
        lambda stand: kills.measure(stand, 2_000, 1),
        rehearsed=False,
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
