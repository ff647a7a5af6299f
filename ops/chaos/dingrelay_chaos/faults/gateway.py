"""A gateway that ends."""

from dataclasses import dataclass

from dingrelay_chaos.system import System


@dataclass(frozen=True, slots=True)
class GatewayEnds:
    """The gateway is killed, and another one comes up later."""

    seconds: float

    def begin(self, system: System) -> None:
        """End it."""
        system.gateway.kill()

    def end(self, system: System) -> None:
        """Start another one in its place."""
        system.gateway.start()


@dataclass(frozen=True, slots=True)
class GatewaySleeps:
    """The gateway is stopped (SIGSTOP) and goes on."""

    seconds: float

    def begin(self, system: System) -> None:
        """Stop it."""
        system.gateway.process.suspend()

    def end(self, system: System) -> None:
        """Let it go on."""
        system.gateway.process.resume()
