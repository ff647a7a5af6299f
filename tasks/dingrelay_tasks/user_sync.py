"""user-sync: update the directory from DingTalk's departments and users.

A walk is one parent job and one child job a department. A child reads its department, writes it
and enqueues the departments below, so that any worker takes any department and a crash costs one
department's calls at most, a limit or a failure none of them. The parent waits until no department
is pending, then closes the run.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal, Self, TypeVar

from pydantic import model_validator

from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import (
    DIRECTORY_QUEUE,
    Contract,
    ContractError,
    DepartmentId,
    Json,
    Lane,
    Part,
    UserId,
)
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.organisation import Department, Member, Progress
from dingrelay_tasks.outcomes import OutOfScope, Refused, Wait
from dingrelay_tasks.sentence import en

ROOT_DEPARTMENT = 1
"""The department that is the whole organisation (API §3.1)."""

LOOK_AGAIN = timedelta(seconds=10)
"""How long a parent waits at most for the last child to wake it: a wake-up may be lost."""

LOOKED_AT = 500
"""Children that a parent looks after at a time; one round trip."""

ASKED_AT_ONCE = 100
"""People or departments that one run of a parent asks for: some 5 s at 20 calls a second."""

READ_FOR = timedelta(minutes=10)
"""After this the members of a department are read from the first page on again: pages of another time do not fit."""

READ_TOO_EARLY = en("a department that the answer names was deleted after it was read")

OPEN = frozenset({"queued", "running", "snoozed", "retrying"})
"""States of a job that will still do something."""

_Id = TypeVar("_Id", int, str)
_Found = TypeVar("_Found")

_NEEDS = {"everything": None, "department": "department", "user": "user"}


class UserSync(Contract):
    """Synchronise the directory with DingTalk.

    Attributes:
        scope: ``everything`` walks the organisation, or the part of it that the app may see;
            ``department`` that department and all below, ``user`` reads one person. Only
            ``everything`` looks for people who left, and marks them after DingTalk said for each
            that it does not know them; the walk of a department moves people in and out of the
            departments that it reads, since the people it misses may well be elsewhere.
        department: the department of scope ``department``.
        user: the userid of scope ``user``.
        confirm_removals: mark people as left however many they are.
    """

    scope: Literal["everything", "department", "user"] = "everything"
    department: DepartmentId | None = None
    user: UserId | None = None
    lane: Lane = "bulk"
    confirm_removals: bool = False

    @model_validator(mode="after")
    def _scope_has_its_target(self) -> Self:
        for name, value in (("department", self.department), ("user", self.user)):
            if _NEEDS[self.scope] == name and value is None:
                raise ContractError(name, en("needed for scope {}", self.scope))
            if _NEEDS[self.scope] != name and value is not None:
                raise ContractError(name, en("has no meaning for scope {}", self.scope))
        return self


class UserSyncResult(Part):
    """Result of a user-sync.

    Attributes:
        run: the run in the directory; the same as the job's id.
        departments: departments read.
        users: people met, each counted once.
        added: people that were not there before, or had left.
        changed: people with a field that has another value than before.
        left: people marked as left.
        calls: calls to DingTalk.
    """

    run: str
    departments: int
    users: int
    added: int
    changed: int
    left: int
    calls: int


class DepartmentSync(Contract):
    """One department of a walk. Enqueued by `UserSync` and by the department above.

    Attributes:
        run: the walk; the id of its parent job.
        department: which department to read.
    """

    lane: Lane = "bulk"
    run: str
    department: DepartmentId


@kind(
    "user-sync",
    UserSync,
    summary="scope={0.scope}",
    queue=DIRECTORY_QUEUE,
    result=UserSyncResult,
    scope="syncs:write",
    operation="syncUsers",
    api="contacts.members",
    awaited=True,
)
async def run(job: UserSync, ctx: Context) -> Json:
    """Walk the organisation or a part of it, or read one user; a `UserSyncResult` as JSON.

    Raises:
        Wait: departments are still pending.
        Refused: the organisation or a department could not be read, or too many would be removed.
    """
    if job.user is not None:
        member = await ctx.contacts.user(job.user)
        return _result(ctx.job_id, await write_user(job.user, member, ctx))
    await ctx.once("open", lambda: _open(job, ctx))
    await wait_for_walks(job, ctx)
    await look_up_unmet(ctx, confirm_removals=job.confirm_removals)
    closed = await ctx.directory.close_run(ctx.job_id, confirm_removals=job.confirm_removals)
    return _result(ctx.job_id, closed)


async def abandon_department(job: DepartmentSync, ctx: Context, *, in_doubt: bool) -> None:
    """The department's job ended dead: its run can no longer be complete."""
    await ctx.directory.fail(job.run, job.department)
    await _wake_parent_after_the_last(job, ctx)


@kind(
    "user-sync-department",
    DepartmentSync,
    summary="department={0.department}",
    queue=DIRECTORY_QUEUE,
    api="contacts.members",
    abandon=abandon_department,
    awaited=True,
)
async def run_department(job: DepartmentSync, ctx: Context) -> Json:
    """Read and write one department, and enqueue the departments below it."""
    walked = await ctx.once("walk", lambda: _walk(job, ctx))
    await _wake_parent_after_the_last(job, ctx)
    return walked


async def wait_for_walks(job: Contract, ctx: Context) -> None:
    """Go on once all departments of this job's run are read.

    Raises:
        Wait: some are still pending.
        Refused: some could not be read.
    """
    await _carry_on_unread(job, ctx)
    if pending := await ctx.directory.pending(ctx.job_id):
        raise Wait(LOOK_AGAIN, en("{} departments pending", pending))
    progress = await ctx.directory.progress(ctx.job_id)
    if progress.failed:
        raise Refused(
            "departments_failed",
            en(
                "{} departments were not read: {}",
                len(progress.failed),
                _spell_departments(progress.failed),
            ),
            "no person was marked as left; see why their jobs of kind user-sync-department ended "
            "(dead or cancelled), then enqueue the user-sync again",
        )


async def _open(job: UserSync, ctx: Context) -> Json:
    """Start the walk. No department lists a root, so each is read by itself."""
    if job.department is None:
        roots, people, calls = await _visible(ctx)
    else:
        department = await ctx.contacts.department(job.department)
        roots, people, calls = [department or Department(job.department, {})], [], 1
        if department is None:
            await ctx.directory.open_run(ctx.job_id, scope=job.scope, roots=roots, calls=calls)
            await ctx.directory.vanish(ctx.job_id, job.department, calls=0)
            return {"roots": []}
    await ctx.directory.open_run(ctx.job_id, scope=job.scope, roots=roots, calls=calls)
    if people:
        await ctx.directory.note_users(ctx.job_id, met=people, hidden=[], gone=[])
    await spawn_walks(job, ctx.job_id, [root.id for root in roots], ctx)
    return {"roots": [root.id for root in roots]}


async def _visible(ctx: Context) -> tuple[list[Department], list[Member], int]:
    """The app's visible scope: departments with all below them, people, and the number of calls that it took.

    Most apps see the root and so everything; for the others DingTalk lists their scope (API §3.1).

    Raises:
        Refused: it sees nothing.
    """
    try:
        root = await ctx.contacts.department(ROOT_DEPARTMENT)
    except OutOfScope:
        root = None
    if root is not None:
        return [root], [], 1
    visible_departments, visible_users = await ctx.contacts.scope()
    departments: list[Department] = []
    people: list[Member] = []
    await look_up_each(
        visible_departments, ctx.contacts.department, met=departments, hidden=[], gone=[]
    )
    await look_up_each(visible_users, ctx.contacts.user, met=people, hidden=[], gone=[])
    if not departments and not people:
        raise Refused(
            "nothing_visible",
            "the app sees no department and no person",
            "give the app a contacts scope in DingTalk's developer console",
        )
    return departments, people, 2 + len(visible_departments)


async def _carry_on_unread(job: Contract, ctx: Context) -> None:
    """Enqueue jobs of unread departments that have none, and mark those as failed whose job ended.

    A failover may lose a child that its parent has enqueued, and the same key enqueues once. A child
    that was cancelled runs no code any more, and one that died may not have reached the database to
    say so.
    """
    unread = await ctx.directory.unread(ctx.job_id, most=LOOKED_AT)
    states = await _states(unread, ctx)
    await spawn_walks(
        job, ctx.job_id, [department for department in unread if states[department] is None], ctx
    )
    ended = {
        department
        for department, state in states.items()
        if state is not None and state not in OPEN
    }
    if ended:
        # A job that was just done has written its department before.
        still_unread = await ctx.directory.unread(ctx.job_id, most=LOOKED_AT)
        for department in ended.intersection(still_unread):
            await ctx.directory.fail(ctx.job_id, department)


async def _states(departments: list[int], ctx: Context) -> dict[int, str | None]:
    """The states of the jobs that read these departments; None where there is no record."""
    if not departments:
        return {}
    states = await ctx.children(DepartmentSync.kind, [str(number) for number in departments])
    return dict(zip(departments, states, strict=True))


async def look_up_unmet(ctx: Context, *, confirm_removals: bool) -> None:
    """Query DingTalk for all users and departments that the job's run did not meet.

    Users who moved during the run, from a department that was not read yet to one that was, are in no
    list that it has read, and have not left. Nor have users of a department that was deleted.

    Raises:
        Wait: there is more to ask for.
        Refused: more people are gone than may leave at once.
    """
    users, departments = await ctx.directory.unmet(
        ctx.job_id, most=ASKED_AT_ONCE, confirm_removals=confirm_removals
    )
    if users:
        note = partial(ctx.directory.note_users, ctx.job_id)
        await _ask_for(users, ctx.contacts.user, note)
    elif departments:
        note = partial(ctx.directory.note_departments, ctx.job_id)
        await _ask_for(departments, ctx.contacts.department, note)
    else:
        return
    raise Wait(timedelta(0), "asks for those that the run did not meet")


async def _ask_for(
    ids: Sequence[_Id],
    ask: Callable[[_Id], Awaitable[_Found | None]],
    note: Callable[..., Awaitable[object]],
) -> None:
    """Query DingTalk for each id; record which are met, hidden and unknown."""
    met: list[_Found] = []
    hidden: list[_Id] = []
    missing: list[_Id] = []
    try:
        await look_up_each(ids, ask, met=met, hidden=hidden, gone=missing)
    finally:
        # An interruption, such as a limit, costs none of the answers.
        await note(met=met, hidden=hidden, gone=missing)


async def look_up_each(
    ids: Iterable[_Id],
    ask: Callable[[_Id], Awaitable[_Found | None]],
    *,
    met: list[_Found],
    hidden: list[_Id],
    gone: list[_Id],
) -> None:
    """Query DingTalk for each id, and add what it finds to one of these lists."""
    for entry_id in ids:
        try:
            entry = await ask(entry_id)
        except OutOfScope:
            hidden.append(entry_id)
            continue
        if entry is None:
            gone.append(entry_id)
        else:
            met.append(entry)


async def _walk(job: DepartmentSync, ctx: Context) -> Json:
    """One department: a call for the departments below it, a call for each page of members.

    Each answer is written at once, and a later attempt goes on behind it.
    """
    read = await ctx.step_result("read")
    if read is None or ctx.now() - datetime.fromisoformat(read["begun"]) > READ_FOR:
        read = await _read_children(job, ctx)
    if read is None:
        return await _vanish(job, ctx, 1)
    await spawn_walks(job, job.run, read["children"], ctx)
    return await _read_members(job, ctx, read)


async def _read_members(job: DepartmentSync, ctx: Context, read: Json) -> Json:
    """Write the pages of members that follow on what was read; the result of the department's job."""
    calls: int = read["calls"]
    try:
        async for page, cursor in ctx.contacts.members(job.department, read["cursor"]):
            calls += 1
            await ctx.directory.fill(
                job.run,
                Department(job.department, {}),
                children=None,
                members=page,
                calls=calls,
                since=read["since"],
                complete=cursor is None,
            )
            users = read["users"] + len(page)
            read = {**read, "cursor": cursor, "users": users, "calls": calls}
            ctx.note_step("read", read)
    except LookupError:
        return await _vanish(job, ctx, calls + 1)
    return {name: read[name] for name in ("users", "children", "calls")}


async def _read_children(job: DepartmentSync, ctx: Context) -> Json | None:
    """Write the departments below; what was read by then, None if the department does not exist."""
    begun = ctx.now()
    children = await ctx.contacts.children(job.department)
    if children is None:
        return None
    below = await ctx.directory.fill(
        job.run,
        Department(job.department, {}),
        children=children,
        members=[],
        calls=1,
        complete=False,
    )
    read = {"begun": begun.isoformat(), "since": ctx.directory.read_at, "children": below}
    read |= {"cursor": 0, "users": 0, "calls": 1}
    ctx.note_step("read", read)
    return read


async def _vanish(job: DepartmentSync, ctx: Context, calls: int) -> Json:
    await ctx.directory.vanish(job.run, job.department, calls=calls)
    return {"users": 0, "children": [], "calls": calls}


async def spawn_walks(parent: Contract, run: str, departments: Sequence[int], ctx: Context) -> None:
    """Have departments of a run read, with all below them, in the app and lane of a job of it."""
    if not departments:
        return
    walks = [
        DepartmentSync(app=parent.app, lane=parent.lane, run=run, department=department)
        for department in departments
    ]
    await ctx.spawn(walks, keys=[str(department) for department in departments])


async def _wake_parent_after_the_last(job: DepartmentSync, ctx: Context) -> None:
    if not await ctx.directory.pending(job.run):
        await ctx.wake(job.run)


async def write_user(userid: str, member: Member | None, ctx: Context) -> Progress:
    """Write the answer about a user, and find out whether what it left out was cleared.

    Raises:
        Wait: the answer is older than what is known of a department that it names.
    """
    if member is None:
        return await ctx.directory.drop_user(ctx.job_id, userid, calls=1)
    written = await ctx.directory.put_user(ctx.job_id, member, calls=1)
    for other in written.witnesses:
        with suppress(OutOfScope):
            if witness := await ctx.contacts.user(other):
                shown = await ctx.directory.put_user(ctx.job_id, witness, calls=1)
                written = replace(shown, outdated=written.outdated)
    if written.outdated:
        raise Wait(timedelta(0), READ_TOO_EARLY)
    return written


def _result(run: str, progress: Progress) -> dict[str, Any]:
    fields = UserSyncResult.model_fields.keys() - {"run"}
    counts = {name: getattr(progress, name) for name in fields}
    return UserSyncResult(run=run, **counts).model_dump()


def _spell_departments(departments: list[int], most: int = 10) -> str:
    numbers = ", ".join(str(department) for department in departments[:most])
    return f"{numbers}, …" if len(departments) > most else numbers
