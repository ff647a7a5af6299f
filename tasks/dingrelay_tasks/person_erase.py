"""person-erase: finishes the erasure of a person's data, once nothing of it is needed any more.

The caller of the erasure makes the first pass. Data of jobs under way, and data that prevents a second
delivery of a message, can't go yet. So this job repeats until nothing of that is left.
"""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import DIRECTORY_QUEUE, AppName, Contract, Json, Moment, UserId
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.outcomes import Wait

SOON = timedelta(minutes=1)
"""Until the pass after one that found something: it also finds what was just being written."""
LATEST = timedelta(hours=1)
"""Until the next pass where the remaining data has no known end."""


class PersonErase(Contract):
    """Erase what was kept of a person.

    Attributes:
        user: their userid.
        of_app: of this app only; None for all.
        since: when that was requested. Jobs and data from later are not touched.
        tombstone: what stands where their userid stood.
    """

    needs_app = False
    user: UserId
    of_app: AppName | None = None
    since: Moment
    tombstone: Annotated[str, Field(pattern=r"^erased-[0-9a-f]{16}$")]


@kind("person-erase", PersonErase, summary="{0.tombstone}", queue=DIRECTORY_QUEUE)
async def run(job: PersonErase, ctx: Context) -> Json:
    """Make one pass.

    Returns:
        The `tombstone`, once a pass found nothing any more.

    Raises:
        Wait: something is left, or a process that read it earlier may just be writing it.
    """
    changed, remaining = await ctx.erase_person(
        job.user, app=job.of_app, since=job.since, tombstone=job.tombstone
    )
    if remaining:
        pauses = [until - ctx.now() for until in remaining if until is not None]
        pause = min(max(min(pauses, default=LATEST), SOON), LATEST)
        raise Wait(pause, "something of the person is still needed")
    if changed:
        raise Wait(SOON, "what was just being written is looked for once more")
    return {"tombstone": job.tombstone}
