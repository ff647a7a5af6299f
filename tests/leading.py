"""Leaders that look when a test has them look."""

import asyncio

from dingrelay_workers.maintenance.leader import Leader


async def lead_once(leader: Leader) -> None:
    """Let a worker look at its lease, and do once what is due then."""
    await leader.look()
    async with asyncio.timeout(20):
        while any(duty.busy or duty.news.is_set() for duty in leader._duties):  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.001)
