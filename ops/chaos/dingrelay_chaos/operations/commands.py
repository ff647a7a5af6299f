"""What is asked of a job that there is."""

from dataclasses import dataclass
from typing import Literal

from dingrelay_chaos.operations.operation import answered
from dingrelay_chaos.requests import Command
from dingrelay_chaos.system import System

JobVerb = Literal["cancel", "requeue", "discard", "resolve"]


@dataclass(frozen=True, slots=True)
class JobCommand:
    """What is asked of a job that there is."""

    verb: JobVerb
    target: int

    def run(self, system: System, step: int) -> None:
        """Ask for it."""
        job = system.requests.job_of(self.target)
        if not job:
            return
        at = system.now()
        if self.verb == "resolve":
            answer = answered(lambda: system.resolve(job))
        else:
            answer = answered(lambda: getattr(system.client, self.verb)(job))
        system.requests.commands.append(Command(step, at, self.verb, job, answer))
