"""User-syncs, and changes of the organisation at DingTalk."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from dingrelay_chaos.operations.operation import enqueue
from dingrelay_chaos.requests import Absence, SyncRequest
from dingrelay_chaos.system import System
from dingrelay_sandbox.admin import SandboxError
from dingrelay_tasks import UserSync


@dataclass(frozen=True, slots=True)
class Sync:
    """A user-sync."""

    scope: Literal["everything", "department", "user"]
    target: str = ""

    def run(self, system: System, step: int) -> None:
        """Enqueue it."""
        request = SyncRequest(step, system.now())
        system.requests.syncs.append(request)
        job: dict[str, Any] = {"scope": self.scope, "confirm_removals": True}
        if self.scope != "everything":
            job[self.scope] = int(self.target) if self.scope == "department" else self.target
        enqueue(system, UserSync.parse(job), request)


@dataclass(frozen=True, slots=True)
class Organise:
    """A change of the organisation, at DingTalk."""

    user: str
    departments: tuple[int, ...]
    """Where the person is now; nowhere: they leave."""

    def run(self, system: System, step: int) -> None:
        """Change it. A department that is not there just now is nobody's place."""
        with system.organising:
            there = {person["userid"] for person in system.sandbox.organisation()["users"]}
            if not self.departments:
                if self.user in there:
                    system.requests.absences.append(Absence(self.user, system.now()))
                    system.sandbox.delete_user(self.user)
                return
            changes = {"dept_id_list": list(self.departments), "name": f"{self.user} #{step}"}
            with suppress(SandboxError):
                system.sandbox.put_user(self.user, **changes, **system.addresses[self.user])
                for each in system.requests.absences:
                    if each.user == self.user:
                        each.until = min(each.until, system.now())


@dataclass(frozen=True, slots=True)
class Reorganise:
    """A department comes, gets another name or parent, or goes."""

    department: int
    parent: int | None
    """The department above it; None: it is dissolved."""

    def run(self, system: System, step: int) -> None:
        """Change it. What DingTalk refuses stays as it is."""
        with system.organising, suppress(SandboxError):
            if self.parent is None:
                system.sandbox.delete_department(self.department)
            else:
                name = f"部门 {self.department} #{step}"
                system.sandbox.put_department(self.department, name=name, parent_id=self.parent)
