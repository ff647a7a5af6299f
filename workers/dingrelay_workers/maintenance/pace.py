"""The pace of a worker's background work: what looks at Redis again and again does so at the same moments.

Scripts that are called at the same time share a round trip (`store/scripts.py`), so that the leaders' looks and the
scheduler's cost a worker that has nothing to do one round trip, and not three.
"""

import asyncio
import time


async def in_step(since: float, period: float) -> None:
    """Sleep until whole periods have passed since a moment of the monotonic clock: for a period at most."""
    await asyncio.sleep(period - (time.monotonic() - since) % period)
