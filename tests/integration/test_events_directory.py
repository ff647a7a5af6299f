"""The directory under events: it follows the organisation, in whatever order reads are written."""

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dingrelay_sandbox.apis import contacts as apis
from dingrelay_sandbox.organisation import Organisation
from dingrelay_tasks import event, user_sync
from dingrelay_tasks.contract import Contract, Json
from dingrelay_tasks.event import Event
from dingrelay_tasks.organisation import Department, Member, Progress
from dingrelay_tasks.outcomes import Wait
from dingrelay_tasks.user_sync import DepartmentSync, UserSync
from dingrelay_workers.database.database import Database
from dingrelay_workers.dingtalk import contact_fields
from dingrelay_workers.directory import store
from dingrelay_workers.directory.models import DepartmentRow, MembershipRow, UserRow
from dingrelay_workers.directory.store import AppDirectory
from support.databases import on_sqlite
from support.examples import either
from support.rows import all_of

pytestmark = on_sqlite


AT_ONCE = 12
"""Jobs that run at the same time."""


class Simulation:
    """An organisation, its clock, and jobs whose reads and writes are mixed up at random."""

    def __init__(self, database: Database, seed: int) -> None:
        self.database = database
        self.rng = random.Random(seed)
        self.organisation = Organisation()
        self.organisation.seed(users=120, departments=14, seed=seed)
        self.clock = 1_000
        self.jobs: set[asyncio.Task[None]] = set()
        self.failed: list[BaseException] = []
        self.pending: list[Event] = []
        self.spawned: set[str] = set()
        self.numbers = iter(range(1_000_000))

    async def pause(self) -> None:
        """Let others go on, for a random while."""
        for _ in range(self.rng.choice((0, 0, 1, 3, 10, 30))):
            await asyncio.sleep(0)

    def tick(self) -> int:
        """Redis's time; no two moments are the same."""
        self.clock += 1
        return self.clock

    def send_event(self, event_type: str, **data: Any) -> None:
        """An event comes, at some time, and now and then twice."""
        self.tick()
        found = Event(event_type=event_type, event_id=f"e{next(self.numbers)}", data=data)
        self.pending += [found] * (2 if self.rng.random() < 0.1 else 1)

    def start(self, job: Contract, job_id: str, *, family: str = "") -> None:
        """Run a job beside the others."""
        task = asyncio.create_task(Job(self, job, job_id, family=family).finish())
        self.jobs.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self.jobs.discard(task)
        if failure := task.exception():
            self.failed.append(failure)

    async def drain(self) -> None:
        """Deliver what is pending in any order, and wait for all jobs."""
        self.deliver(len(self.pending))
        while self.jobs:
            await asyncio.wait(self.jobs)
        assert self.failed == []

    def deliver(self, most: int) -> None:
        for _ in range(min(most, len(self.pending))):
            found = self.pending.pop(self.rng.randrange(len(self.pending)))
            self.start(found, found.identity)


@dataclass
class Job:
    """One job: a `Context` whose claims, reads and writes take their time."""

    simulation: Simulation
    job: Contract
    job_id: str
    remembered: dict[str, Json] = field(default_factory=dict[str, Json])
    family: str = ""
    settle_delay: timedelta = timedelta(seconds=10)
    claimed_at: int = 0

    async def finish(self) -> None:
        """Run until it ends. Once in a while a run dies before it has said what it did."""
        while True:
            await self.simulation.pause()
            self.claimed_at = self.simulation.tick()
            before = dict(self.remembered)
            try:
                await self._run()
            except Wait:
                continue
            if self.simulation.rng.random() < 0.03:
                self.remembered = before
                continue
            return

    async def _run(self) -> None:
        ctx: Any = self
        if isinstance(self.job, Event):
            await event.run(self.job, ctx)
        elif isinstance(self.job, UserSync):
            await user_sync.run(self.job, ctx)
        elif isinstance(self.job, DepartmentSync):
            await user_sync.run_department(self.job, ctx)

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def once(
        self, step: str, act: Callable[[], Awaitable[Json]], *, again: bool = False
    ) -> Json:
        if step not in self.remembered:
            self.remembered[step] = json.loads(json.dumps(await act()))
        return self.remembered[step]

    def note_step(self, step: str, result: Json) -> None:
        self.remembered[step] = json.loads(json.dumps(result))

    async def step_result(self, step: str) -> Json | None:
        return self.remembered.get(step)

    async def spawn(self, children: Sequence[Contract], *, keys: Sequence[str]) -> None:
        family = self.family or self.job_id
        for child, key in zip(children, keys, strict=True):
            if (name := f"{family}/{key}") not in self.simulation.spawned:
                self.simulation.spawned.add(name)
                self.simulation.start(child, name, family=family)

    async def children(self, kind: str, keys: Sequence[str]) -> list[str | None]:
        family = self.family or self.job_id
        return ["queued" if f"{family}/{key}" in self.simulation.spawned else None for key in keys]

    async def wake(self, job_id: str) -> None:
        return

    @property
    def directory(self) -> Any:
        return SlowDirectory(self)

    @property
    def contacts(self) -> Any:
        return Contacts(self)


@dataclass
class SlowDirectory:
    """The directory, which is written to a while after it was decided to."""

    job: Job

    @property
    def read_at(self) -> int:
        return self.job.claimed_at

    def __getattr__(self, name: str) -> Any:
        database, read_at = self.job.simulation.database, self.job.claimed_at
        method = getattr(AppDirectory(database, "default", read_at=read_at), name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self.job.simulation.pause()
            return await method(*args, **kwargs)

        return call


@dataclass
class Contacts:
    """DingTalk: the request is under way for a while, and so is the answer."""

    job: Job

    async def user(self, userid: str) -> Member | None:
        async with self._there() as organisation:
            person = organisation.people.get(userid)
            return person and contact_fields.member(apis.person_fields(organisation, person))

    async def department(self, number: int) -> Department | None:
        async with self._there() as organisation:
            row = organisation.departments.get(number)
            return row and contact_fields.department(apis.department_fields(organisation, row))

    async def children(self, number: int) -> list[Department] | None:
        async with self._there() as organisation:
            if number not in organisation.departments:
                return None
            return [
                Department(child.id, {"name": child.name, "parent_id": child.parent_id})
                for child in organisation.children(number)
            ]

    async def members(
        self, number: int, cursor: int = 0
    ) -> AsyncIterator[tuple[list[Member], int | None]]:
        async with self._there() as organisation:
            if number not in organisation.departments:
                raise LookupError(number)
            found = [
                apis.member_fields(organisation, organisation.people[user], number, (), old=False)
                for user in organisation.members(number)
            ]
        yield [contact_fields.member(each) for each in found], None

    @asynccontextmanager
    async def _there(self) -> AsyncGenerator[Organisation]:
        """The request has arrived; when the block ends, so has the answer."""
        await self.job.simulation.pause()
        yield self.job.simulation.organisation
        await self.job.simulation.pause()


def change(simulation: Simulation) -> None:
    """One change of the organisation, with DingTalk's events of it."""
    heads = _heads(simulation.organisation)
    with suppress(LookupError):  # nothing is below itself, and only what is empty is dissolved
        _change(
            simulation,
            sorted(simulation.organisation.people),
            sorted(simulation.organisation.departments),
        )
    # Who heads a department is a matter of the department.
    for number, head in _heads(simulation.organisation).items():
        if number in heads and heads[number] != head:
            simulation.send_event("org_dept_modify", deptId=[number])


def _change(simulation: Simulation, people: Sequence[str], places: Sequence[int]) -> None:
    organisation, rng = simulation.organisation, simulation.rng
    userid, number = rng.choice(people), rng.choice(places)
    match rng.choice(
        ["join", "edit", "edit", "move", "move", "leave", "found", "rename", "shift", "dissolve"]
    ):
        case "join":
            userid = f"n{next(simulation.numbers)}"
            organisation.put_user(userid, {"name": userid, "dept_id_list": _some(rng, places)})
            simulation.send_event("user_add_org", userId=[userid], timeStamp="1")
        case "edit":
            some = rng.sample(people, rng.randint(1, 2))
            for each in some:
                name = rng.choice(["title", "manager_userid", "email"])
                organisation.put_user(each, {name: f"{name} {next(simulation.numbers)}"})
            simulation.send_event("user_modify_org", userId=some)
        case "move":
            organisation.put_user(userid, {"dept_id_list": _some(rng, places)})
            simulation.send_event("user_modify_org", UserId=[userid])
        case "leave" if len(people) > 20:
            organisation.delete_user(userid)
            simulation.send_event("user_leave_org", userId=[userid])
        case "found":
            number = 10_000 + next(simulation.numbers)
            organisation.put_department(number, {"parent_id": rng.choice(places)})
            simulation.send_event("org_dept_create", deptId=[number])
        case "rename":
            organisation.put_department(number, {"name": f"name {next(simulation.numbers)}"})
            simulation.send_event("org_dept_modify", deptId=[str(number)])
        case "shift":
            organisation.put_department(number, {"parent_id": rng.choice(places)})
            simulation.send_event("org_dept_modify", deptId=[number])
        case "dissolve":
            organisation.delete_department(number)
            simulation.send_event("org_dept_remove", deptId=number)
        case _:
            return


def _some(rng: random.Random, places: Sequence[int]) -> list[int]:
    return sorted(set(rng.choices(places, k=rng.choice((1, 1, 2)))))


def _heads(organisation: Organisation) -> dict[int, str | None]:
    return {
        number: next(iter(organisation.members(number)), None)
        for number in organisation.departments
    }


async def differences(simulation: Simulation) -> list[str]:
    """Differences between the directory and the organisation."""
    organisation = simulation.organisation
    departments = {
        row["id"]: (row["name"], row["parent"])
        for row in await all_of(simulation.database, DepartmentRow)
        if row["left_at"] is None
    }
    fields = {
        row["userid"]: row["fields"]
        for row in await all_of(simulation.database, UserRow)
        if row["left_at"] is None
    }
    memberships = {
        (row["department"], row["userid"]): row["leader"]
        for row in await all_of(simulation.database, MembershipRow)
    }
    known = {each.id: (each.name, each.parent_id) for each in organisation.departments.values()}
    found = [f"departments {_unlike(departments, known)}"] if departments != known else []
    people = {}
    for userid, person in organisation.people.items():
        answer = contact_fields.member(apis.person_fields(organisation, person)).fields
        people[userid] = {
            name: answer.get(name) for name in ("name", "title", "manager_userid", "email")
        } | {"dept_id_list": sorted(answer["dept_id_list"])}
    seen = {
        userid: {name: values.get(name) for name in next(iter(people.values()))}
        for userid, values in fields.items()
    }
    found += [f"people {_unlike(seen, people)}"] if seen != people else []
    places = {
        (place, userid): apis.leads(organisation, person, place)
        for userid, person in organisation.people.items()
        for place in person.departments
    }
    found += [f"memberships {_unlike(memberships, places)}"] if memberships != places else []
    return found


def _unlike(have: dict[Any, Any], want: dict[Any, Any]) -> dict[Any, Any]:
    keys = [key for key in {**have, **want} if have.get(key) != want.get(key)]
    return {key: (have.get(key), want.get(key)) for key in keys[:5]}


async def walk(simulation: Simulation, name: str) -> Progress:
    """A walk of everything, alone; what it found."""
    simulation.start(UserSync(), name)
    await simulation.drain()
    return await AppDirectory(simulation.database, "default").progress(name)


async def follow(simulation: Simulation, changes: int) -> None:
    await walk(simulation, "first")
    assert await differences(simulation) == []
    for number in range(changes):
        change(simulation)
        if simulation.rng.random() < 0.4:
            simulation.deliver(simulation.rng.randint(1, 8))
        if number == changes // 2:
            # One that overlaps with all of this must not bring anything back.
            simulation.start(UserSync(), "overlapping")
        while len(simulation.jobs) > AT_ONCE:
            await asyncio.wait(simulation.jobs, return_when=asyncio.FIRST_COMPLETED)
        await simulation.pause()
    await simulation.drain()
    assert await differences(simulation) == []
    found = await walk(simulation, "last")
    assert (found.added, found.changed, found.left) == (0, 0, 0)


@pytest.mark.parametrize("seed", either([2], list(range(2, 22))))
async def test_events_alone_converge_to_the_organisation(
    database: Database, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "REMOVAL_SHARE", 1.0)
    await follow(Simulation(database, seed), changes=either(40, 100))
