"""What the driver did, with its times: a fault begins and ends a little later than planned."""

from dataclasses import dataclass, field

from dingrelay_chaos.faults.fault import Fault


@dataclass(slots=True)
class FaultTime:
    """A fault as it was. Times are in seconds from the start."""

    what: Fault
    began: float
    ended: float


@dataclass(slots=True)
class Journal:
    """All faults of a run, and what surprised the driver itself."""

    faults: list[FaultTime] = field(default_factory=list[FaultTime])
    errors: list[str] = field(default_factory=list[str])
