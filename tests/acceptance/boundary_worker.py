"""A worker that dies at one boundary of its jobs, once all of them are there.

``BOUNDARY`` names the boundary, ``BOUNDARY_JOBS`` says how many jobs to wait for.
"""

import asyncio
import os
import signal
from typing import Any

from dingrelay_workers.app import app
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.dingtalk.transport import Transport
from dingrelay_workers.store.records import Records

__all__ = ["app"]

BOUNDARY = os.environ["BOUNDARY"]
JOBS = int(os.environ["BOUNDARY_JOBS"])

claim, settle = Records.claim, Records.settle
request = Transport.request


class Arrivals:
    count = 0


async def reach(boundary: str) -> None:
    """kill -9 if this is where the worker dies and the last job is there; the others wait."""
    if boundary != BOUNDARY:
        return
    Arrivals.count += 1
    if Arrivals.count == JOBS:
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.Event().wait()


async def claim_or_die(self: Records, *args: Any) -> Any:
    await reach("before the claim")
    answer = await claim(self, *args)
    await reach("after the claim")
    return answer


async def request_or_die(self: Transport, call: Request, *args: Any, **kwargs: Any) -> Any:
    if call.api.changes:
        await reach("before the call")
    answer = await request(self, call, *args, **kwargs)
    if call.api.changes:
        await reach("after the call")
    return answer


async def settle_or_die(self: Records, *args: Any, **kwargs: Any) -> Any:
    await reach("before the record")
    return await settle(self, *args, **kwargs)


for owner, name, or_die in (
    (Records, "claim", claim_or_die),
    (Records, "settle", settle_or_die),
    (Transport, "request", request_or_die),
):
    setattr(owner, name, or_die)
