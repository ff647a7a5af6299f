"""Workers that end or stand still."""

from dataclasses import dataclass

from dingrelay_chaos.system import System


@dataclass(frozen=True, slots=True)
class WorkerEnds:
    """A worker is killed or told to stop, and another one comes up later."""

    worker: int
    how: str
    seconds: float
    skew: float
    """Of the clock of the one that comes up."""

    def begin(self, system: System) -> None:
        """End it."""
        worker = system.workers[self.worker]
        worker.kill() if self.how == "kill" else worker.terminate()

    def end(self, system: System) -> None:
        """Start another one in its place."""
        system.workers[self.worker].start(self.skew)


@dataclass(frozen=True, slots=True)
class WorkerSleeps:
    """A worker is stopped (SIGSTOP) and goes on."""

    worker: int
    seconds: float

    def begin(self, system: System) -> None:
        """Stop it."""
        system.workers[self.worker].suspend()

    def end(self, system: System) -> None:
        """Let it go on."""
        system.workers[self.worker].resume()
