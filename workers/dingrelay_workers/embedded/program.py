"""One program of the system: how it starts, how it is known to be ready, how it ends."""

import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Program:
    """A program to run.

    Attributes:
        name: the prefix of its output.
        command: for exec.
        port: it is ready once something listens there; or
        ready_text: it is ready once a line of its output holds this.
        patience: seconds it may take to end after SIGTERM.
        orphaned: the signal it gets if this process is killed.
    """

    name: str
    command: tuple[str, ...]
    port: int | None = None
    ready_text: str = ""
    patience: float = 5.0
    orphaned: signal.Signals = signal.SIGKILL
