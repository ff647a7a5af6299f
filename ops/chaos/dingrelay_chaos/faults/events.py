"""What can be wrong with the way of DingTalk's events."""

from dataclasses import dataclass, field
from typing import Any, Literal

from dingrelay_chaos.system import System


@dataclass(frozen=True, slots=True)
class EventsSpoilt:
    """Events are swallowed, sent twice, late, or in another order; `spec` is the sandbox's."""

    kind: str
    seconds: float
    spec: dict[str, Any] = field(default_factory=dict[str, Any])

    def begin(self, system: System) -> None:
        """Script it."""
        system.sandbox.add_event_fault(self.kind, seconds=max(0.1, self.seconds), **self.spec)

    def end(self, system: System) -> None:
        """Nothing: the sandbox ends it by itself."""


@dataclass(frozen=True, slots=True)
class StreamBreaks:
    """Something happens to the connections of the stream, or to those that are opened next.

    Nothing comes of it where events are pushed.
    """

    how: Literal["drop", "disconnect", "silence", "die", "no_registered", "deaf", "silent"]
    seconds: float

    def begin(self, system: System) -> None:
        """Let it happen."""
        match self.how:
            case "no_registered" | "deaf" | "silent":
                system.sandbox.add_event_fault(self.how, seconds=max(0.1, self.seconds))
                system.sandbox.act_on_streams("drop")
            case _:
                system.sandbox.act_on_streams(self.how)

    def end(self, system: System) -> None:
        """Nothing: whoever listens opens another one."""


@dataclass(frozen=True, slots=True)
class ListenerEnds:
    """The process that listens to the stream is killed, and another one comes up later."""

    seconds: float

    def begin(self, system: System) -> None:
        """End it."""
        system.door.kill()

    def end(self, system: System) -> None:
        """Start another one in its place."""
        system.door.start()
