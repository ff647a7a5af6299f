"""What every fault is: a frozen value of a schedule.

A fault begins at its step and ends `seconds` later. Both are carried out by the driver's main
thread, one after the other.
"""

from dataclasses import replace
from typing import Protocol, runtime_checkable

from dingrelay_chaos.system import System


@runtime_checkable
class Fault(Protocol):
    """Something that goes wrong for a while."""

    @property
    def seconds(self) -> float:
        """How long."""
        ...

    def begin(self, system: System) -> None:
        """Let it go wrong."""
        ...

    def end(self, system: System) -> None:
        """Mend it; also when its end came early."""
        ...


def shortened(fault: Fault, seconds: float) -> Fault:
    """The fault, ending within so many seconds."""
    if fault.seconds <= seconds:
        return fault
    return replace(fault, seconds=round(seconds, 2))  # type: ignore[type-var]
