"""User-syncs, and changes of the organisation at DingTalk."""

from dataclasses import dataclass
from typing import Any, Literal

from dingrelay_chaos.asked import SyncAsked
from dingrelay_chaos.operations.operation import enqueue
from dingrelay_chaos.system import System
from dingrelay_tasks import UserSync


@dataclass(frozen=True, slots=True)
class Sync:
    """A user-sync."""

    scope: Literal["everything", "department", "user"]
    target: str = ""

    def run(self, system: System, step: int) -> None:
        """Enqueue it."""
        asked = SyncAsked(step, system.now())
        system.asked.syncs.append(asked)
        job: dict[str, Any] = {"scope": self.scope, "confirm_removals": True}
        if self.scope != "everything":
            job[self.scope] = int(self.target) if self.scope == "department" else self.target
        enqueue(system, UserSync.parse(job), asked)


@dataclass(frozen=True, slots=True)
class Organise:
    """A change of the organisation, at DingTalk."""

    user: str
    departments: tuple[int, ...]
    """Where the person is now; nowhere: they leave."""

    def run(self, system: System, step: int) -> None:
        """Change it."""
        if self.departments:
            name = f"{self.user} #{step}"
            system.sandbox.put_user(self.user, dept_id_list=list(self.departments), name=name)
        elif self.user in {person["userid"] for person in system.sandbox.organisation()["users"]}:
            system.asked.absent.add(self.user)
            system.sandbox.delete_user(self.user)
