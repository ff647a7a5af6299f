"""The organisation in the simulation: people come, go and move while it is synced, and the directory that comes of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from dingrelay_simulation.clock import CLOCK
from dingrelay_simulation.fleet import Fleet
from dingrelay_simulation.plan import Step
from dingrelay_tasks import UserSync
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.models import (
    ChangeEvent,
    ChangeRow,
    DepartmentRow,
    MembershipRow,
    RunRow,
    UserRow,
)


@dataclass(frozen=True)
class Leaving:
    """A person who has left, as the directory has it.

    Attributes:
        since, until: seconds from the beginning in which a sync found it.
    """

    user: str
    since: float
    until: float


@dataclass
class Directories:
    """The organisation, the directory, and who was away when.

    Attributes:
        synced: the sync that began once nothing changed any more; empty for none.
        true, stored: person → name and departments, department → name and parent.
        absences: person → times in which they were not there.
        left: what the directory found out about people who left.
    """

    synced: str = ""
    true: dict[Any, Any] = field(default_factory=dict[Any, Any])
    stored: dict[Any, Any] = field(default_factory=dict[Any, Any])
    absences: dict[str, list[tuple[float, float]]] = field(
        default_factory=dict[str, list[tuple[float, float]]]
    )
    left: list[Leaving] = field(default_factory=list[Leaving])


class Changes:
    """The changes of the organisation in a run."""

    names = frozenset({"organisation"})

    def __init__(
        self,
        fleet: Fleet,
        database: Database,
        note: Callable[..., None],
        send: Callable[[Step, Any], str],
    ) -> None:
        self._fleet = fleet
        self._database = database
        self._note = note
        self._send = send
        self._found = Directories()
        self._changed = False

    @property
    def _people(self) -> Any:
        return self._fleet.dingtalk.state.organisation

    def perform(self, step: Step) -> None:
        """Change it, where that can be done."""
        values = step.values
        self._changed = True
        try:
            self._change(values["verb"], values)
        except LookupError as error:
            self._note("unchanged", error)

    def _change(self, verb: str, values: dict[str, Any]) -> None:
        user, department = values["user"], values["department"]
        match verb:
            case "join" | "move":
                self._people.put_user(user, {"dept_id_list": [department]})
                if (times := self._found.absences.get(user)) and times[-1][1] == math.inf:
                    times[-1] = times[-1][0], CLOCK.now
            case "rename":
                self._people.put_user(user, {"name": f"{user} {values['number']}"})
            case "leave":
                self._people.delete_user(user)
                self._found.absences.setdefault(user, []).append((CLOCK.now, math.inf))
            case "add department":
                self._people.put_department(values["other"], {"parent_id": department})
            case "rename department":
                self._people.put_department(department, {"name": f"部门{values['number']}"})
            case _:
                self._people.delete_department(values["other"])

    async def mend(self) -> None:
        """Sync once more, now that nothing changes any more."""
        if self._changed:
            sync = UserSync.parse({"scope": "everything", "confirm_removals": True})
            self._found.synced = self._send(Step(CLOCK.now, "sync", {"number": -1}), sync)

    async def ended(self) -> bool:
        """Whether the last sync has ended."""
        return not self._found.synced or self._fleet.have_ended([self._found.synced])

    async def collect(self) -> dict[str, Any]:
        """The organisation, and the directory."""
        if self._changed:
            self._found.true = self._truth()
            await self._read()
        return {"directories": self._found}

    def _truth(self) -> dict[Any, Any]:
        known = self._people
        true: dict[Any, Any] = {
            user: (known.fields(person)["name"], sorted(person.departments))
            for user, person in known.people.items()
        }
        for department in known.departments.values():
            true[department.id] = department.name, department.parent_id or 0
        return true

    async def _read(self) -> None:
        redis = self._fleet.valkey.offset
        places: dict[str, list[int]] = {}
        stored = self._found.stored
        async with self._database.read() as connection:
            rows = await connection.execute(select(MembershipRow.userid, MembershipRow.department))
            for user, department in rows:
                places.setdefault(user, []).append(department)
            people = select(UserRow.userid, UserRow.name).where(UserRow.left_at.is_(None))
            for user, name in await connection.execute(people):
                stored[user] = name, sorted(places.get(user, ()))
            departments = select(DepartmentRow.id, DepartmentRow.name, DepartmentRow.parent)
            for number, name, parent in await connection.execute(
                departments.where(DepartmentRow.left_at.is_(None))
            ):
                stored[number] = name, parent or 0
            left = (
                select(ChangeRow.userid, RunRow.opened_at, ChangeRow.at)
                .join(RunRow, RunRow.number == ChangeRow.number)
                .where(ChangeRow.event == ChangeEvent.LEFT)
            )
            for user, opened, at in await connection.execute(left):
                since, until = (moment.timestamp() - CLOCK.epoch - redis for moment in (opened, at))
                self._found.left.append(Leaving(user, since, until))
