"""How asking for a slot ends."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dingrelay_workers.limiter.turns import Turns


@dataclass(frozen=True, slots=True)
class Grant:
    """A call may leave now.

    Attributes:
        costs: what was charged for it, by unit.
        probing: the API comes out of a pause and this call tries it: the others wait for how it
            is answered.
        waited: no slot was free when it was asked for.
        left: the time of its slot, on the limiter's clock.
        host: whose API it calls.
        breaker: by what the breaker of its API is known.
        sick: the fleet waits for a sane answer: this one must be reported.
        trial: it probes a breaker that stands open.
    """

    app: str
    api: str
    costs: Mapping[str, int]
    probing: bool = False
    waited: bool = False
    left: float = field(default=0.0, compare=False)
    host: str = "oapi"
    breaker: str = ""
    sick: bool = False
    trial: bool = False


class Turn(NamedTuple):
    """The turn that a parked job waits for.

    Attributes:
        turns: the lane in which senders take turns.
        had: what its sender has had, if it is new there; in seconds of the limit, as Redis writes it.
        recipients: of the call that it would have made.
    """

    turns: Turns
    had: str
    recipients: int = 0


class Parked(Exception):
    """The slot is too far away to wait for it here: the job goes back to the queue until then.

    Attributes:
        due_in: seconds until the job should be back; where it waits for a turn that is a guess.
        reason: what it waits for, one short phrase.
        turn: that of its sender for which it waits; None if it waits for a time.
    """

    def __init__(self, due_in: float, reason: str, turn: Turn | None = None) -> None:
        super().__init__(f"parked for {due_in:.3g} s: {reason}")
        self.due_in = due_in
        self.reason = reason
        self.turn = turn


class Outage(Exception):
    """The API does not answer sanely, or DingTalk refuses the app: nothing leaves but a probe.

    The job waits where its end is heard of.

    Attributes:
        name: of the place where it waits (`breakers.Circuit.name`).
        kind: which breaker is open: ``api``, ``host`` or ``hold``.
        reason: what it waits for, one short phrase.
        wait: seconds to the next probe.
    """

    def __init__(self, name: str, kind: str, reason: str, wait: float) -> None:
        app, api, host = name.split(" ")
        what = {"api": f"{api} is out", "host": f"DingTalk ({host}) is out"}
        self.name = name
        self.kind = kind
        self.reason = f"{what.get(kind, f'app {app} is held')}: {reason}"
        self.wait = wait
        super().__init__(self.reason)


class Draining(Exception):
    """The worker stops: nothing more leaves from here."""

    def __init__(self) -> None:
        super().__init__("the worker is stopping")
