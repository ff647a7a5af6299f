"""user-sync: bring the directory up to what DingTalk tells of departments and users.

A walk is one parent job and one child job a department. A child reads its department, writes it
and enqueues the departments below, so that any worker takes any department and a crash costs one
department's calls at most. The parent waits until no department is pending, then closes the run.
"""

from datetime import timedelta
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from dingrelay_tasks.context import Context, Department, Json, Member, Progress
from dingrelay_tasks.contract import Contract, DepartmentId, Lane, Part, UserId
from dingrelay_tasks.outcomes import Refused, Wait

ROOT_DEPARTMENT = 1
"""The department that is the whole organisation (API §3.1)."""

DIRECTORY_QUEUE = "dingrelay.directory"

LOOK_AGAIN = timedelta(seconds=10)
"""How long a parent waits at most for the last child to wake it: a wake-up may be lost."""

_NEEDS = {"everything": None, "department": "department", "user": "user"}


class UserSync(Contract):
    """Bring the directory up to date with DingTalk.

    Attributes:
        scope: ``everything`` walks the organisation, ``department`` that department and all
            below, ``user`` reads one person. Only ``everything`` marks people as left; the walk of
            a department moves people in and out of the departments that it reads, since whoever
            it misses may well be elsewhere.
        department: the department of scope ``department``.
        user: the userid of scope ``user``.
        confirm_removals: mark people as left however many they are.
    """

    kind: ClassVar[str] = "user-sync"

    scope: Literal["everything", "department", "user"] = "everything"
    department: DepartmentId | None = None
    user: UserId | None = None
    lane: Lane = "bulk"
    confirm_removals: bool = False

    @model_validator(mode="after")
    def _scope_has_its_target(self) -> Self:
        for name, value in (("department", self.department), ("user", self.user)):
            if _NEEDS[self.scope] == name and value is None:
                raise ValueError(f"{name}: needed for scope {self.scope}")
            if _NEEDS[self.scope] != name and value is not None:
                raise ValueError(f"{name}: has no meaning for scope {self.scope}")
        return self

    @property
    def queue(self) -> str:
        """The directory has its own queue, whatever the lane."""
        return DIRECTORY_QUEUE

    def summary(self) -> str:
        """One short line for Flower and logs."""
        return f"{super().summary()} scope={self.scope}"


class UserSyncResult(Part):
    """What a user-sync did.

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

    kind: ClassVar[str] = "user-sync-department"

    lane: Lane = "bulk"
    run: str
    department: DepartmentId

    @property
    def queue(self) -> str:
        """The same queue as the parent's."""
        return DIRECTORY_QUEUE

    def summary(self) -> str:
        """One short line for Flower and logs."""
        return f"{super().summary()} department={self.department}"


async def run(job: UserSync, ctx: Context) -> Json:
    """Walk the organisation or a part of it, or read one user; a `UserSyncResult` as JSON.

    Raises:
        Wait: departments are still pending.
        Refused: the organisation or a department could not be read, or too many would be removed.
    """
    if job.user is not None:
        return _result(ctx.job_id, await _sync_user(job.user, ctx))
    await ctx.once("open", lambda: _open(job, ctx))
    if pending := await ctx.directory.pending(ctx.job_id):
        raise Wait(LOOK_AGAIN, f"{pending} departments pending")
    progress = await ctx.directory.progress(ctx.job_id)
    if progress.failed:
        raise Refused(
            "departments_failed",
            f"{len(progress.failed)} departments could not be read: {_some(progress.failed)}",
            "nobody was marked as left; see the dead jobs of kind user-sync-department, "
            "then enqueue the user-sync again",
        )
    closed = await ctx.directory.close_run(ctx.job_id, confirm_removals=job.confirm_removals)
    return _result(ctx.job_id, closed)


async def run_department(job: DepartmentSync, ctx: Context) -> Json:
    """Read and write one department, and enqueue the departments below it."""
    walked = await ctx.once("walk", lambda: _walk(job, ctx))
    await _spawn(job, walked["children"], ctx)
    await _wake_parent_after_the_last(job, ctx)
    return walked


async def abandon_department(job: DepartmentSync, ctx: Context) -> None:
    """The department's job ended dead: its run can no longer be complete."""
    await ctx.directory.fail(job.run, job.department)
    await _wake_parent_after_the_last(job, ctx)


async def _open(job: UserSync, ctx: Context) -> Json:
    """Start the walk. No department tells of the root, so it is read by itself."""
    number = ROOT_DEPARTMENT if job.department is None else job.department
    found = await ctx.contacts.department(number)
    if found is None and job.scope == "everything":
        raise Refused(
            "no_root_department",
            f"DingTalk knows no department {number}",
            "check that the app's contact scope is the whole organisation",
        )
    root = found or Department(number, {})
    await ctx.directory.open_run(ctx.job_id, scope=job.scope, root=root, calls=1)
    if found is None:
        await ctx.directory.vanish(ctx.job_id, number, calls=0)
    else:
        walk = DepartmentSync(app=job.app, lane=job.lane, run=ctx.job_id, department=number)
        await ctx.spawn([walk], keys=[str(number)])
    return {"root": number}


async def _walk(job: DepartmentSync, ctx: Context) -> Json:
    """One department: a call for the departments below it, a call for each page of members."""
    calls = 1
    children = await ctx.contacts.children(job.department)
    if children is None:
        return await _vanish(job, ctx, calls)
    members: list[Member] = []
    try:
        async for page in ctx.contacts.members(job.department):
            calls += 1
            members += page
    except LookupError:
        return await _vanish(job, ctx, calls + 1)
    below = await ctx.directory.fill(
        job.run, Department(job.department, {}), children=children, members=members, calls=calls
    )
    return {"users": len(members), "children": below, "calls": calls}


async def _vanish(job: DepartmentSync, ctx: Context, calls: int) -> Json:
    await ctx.directory.vanish(job.run, job.department, calls=calls)
    return {"users": 0, "children": [], "calls": calls}


async def _spawn(job: DepartmentSync, departments: list[int], ctx: Context) -> None:
    if not departments:
        return
    await ctx.spawn(
        [job.model_copy(update={"department": department}) for department in departments],
        keys=[str(department) for department in departments],
    )


async def _wake_parent_after_the_last(job: DepartmentSync, ctx: Context) -> None:
    if not await ctx.directory.pending(job.run):
        await ctx.wake(job.run)


async def _sync_user(userid: str, ctx: Context) -> Progress:
    member = await ctx.contacts.user(userid)
    if member is None:
        return await ctx.directory.drop_user(ctx.job_id, userid, calls=1)
    return await ctx.directory.put_user(ctx.job_id, member, calls=1)


def _result(run: str, progress: Progress) -> dict[str, Any]:
    return UserSyncResult(
        run=run,
        departments=progress.departments,
        users=progress.users,
        added=progress.added,
        changed=progress.changed,
        left=progress.left,
        calls=progress.calls,
    ).model_dump()


def _some(departments: list[int], most: int = 10) -> str:
    named = ", ".join(str(department) for department in departments[:most])
    return f"{named}, …" if len(departments) > most else named
