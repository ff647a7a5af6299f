"""The duties of leaders: work of which one worker of the fleet does all (`maintenance/leader.py`).

What they do needs SQLAlchemy, which takes as long to import as all the rest. Only the worker that leads loads it, in
a thread, so that it does not block jobs.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from pkgutil import resolve_name
from typing import Any, Literal

from dingrelay_workers.maintenance.leader import Duty, LeaderParts, Now, Work
from dingrelay_workers.nouns import NOUNS


def under_lease(lease: Literal["work", "notices"], parts: LeaderParts) -> list[Duty]:
    """The duties under a lease that the settings ask for: those of the nouns, and the clean-up after all of them."""
    duties = [
        Duty(duty.name, partial(_opened, partial(noun.load, duty.part), parts))
        for noun in NOUNS
        for duty in noun.duties
        if duty.lease == lease and duty.wanted(parts.settings)
    ]
    if lease == "work":
        clean_up = partial(resolve_name, "dingrelay_workers.maintenance.clean_up:CleanUp")
        duties.append(Duty("clean-up", partial(_opened, clean_up, parts)))
    return duties


async def _opened(load: Callable[[], Any], parts: LeaderParts, now: Now) -> Work:
    """The work of a duty, whose modules are loaded first."""
    make = await asyncio.to_thread(load)
    work: Work = make(parts, now)
    return work
