"""webhook-deliver: delivers one notice to one endpoint, with retries over three days.

What waits for its endpoint waits on the schedule and costs no attempt: for one of the few places that
an endpoint has, for its breaker to close, for its being resumed. So what ends a delivery are its own
failures only, at times when the endpoint takes others.
"""

import random
from datetime import timedelta
from typing import Annotated, ClassVar

from pydantic import Field

from dingrelay_tasks.context import Context, Json
from dingrelay_tasks.contract import WEBHOOKS_QUEUE, Contract, Moment
from dingrelay_tasks.outcomes import Refused, TryAgain

BASE = 5.0
"""Seconds before the second attempt at most."""
GROWTH = 4
"""By which the pauses grow: 5 s, 20 s, 80 s, 5 min, 21 min, 85 min, and then every 6 h at most."""
CAP = 6 * 3600.0
"""Seconds before any attempt at most: three days are then some thirty attempts."""
LONGEST_REST = timedelta(days=1)
"""An endpoint that wants to be left alone for longer is asked again all the same."""

EndpointId = Annotated[str, Field(pattern=r"^drw_[a-z0-9]{12}$")]


class WebhookDeliver(Contract):
    """One notice for one endpoint.

    Attributes:
        endpoint: where the notice goes.
        notice: number of the notice in SQL; its content is read there at each attempt.
        until: a failure after this moment is the last one.
        test: send a test notice, once.
    """

    kind: ClassVar[str] = "webhook-deliver"
    own_queue: ClassVar[str] = WEBHOOKS_QUEUE

    endpoint: EndpointId
    notice: Annotated[int, Field(ge=0)] = 0
    until: Moment
    test: bool = False

    def summary(self) -> str:
        """One short line for Flower and logs."""
        what = "test" if self.test else f"notice={self.notice}"
        return f"{super().summary()} endpoint={self.endpoint} {what}"


async def run(job: WebhookDeliver, ctx: Context) -> Json:
    """Deliver the notice.

    Returns:
        ``{"verdict", "code", "reason", "status"}`` of `Receipt`.

    Raises:
        TryAgain: the endpoint did not accept it.
        Refused: the endpoint has not accepted it for as long as it is tried.
    """
    if job.test:
        receipt = await ctx.webhooks.test(job.endpoint)
    else:
        receipt = await ctx.webhooks.deliver(job.endpoint, job.notice)
    if receipt.verdict == "failed" and not job.test:
        hint = "Repair the receiver, then requeue this job or replay the endpoint."
        if ctx.now() >= job.until:
            raise Refused(receipt.code, f"not accepted in time: {receipt.reason}", hint)
        pause = max(_pause(ctx.attempt), min(receipt.retry_after, LONGEST_REST))
        raise TryAgain(pause, receipt.code, receipt.reason, hint)
    return {
        "verdict": receipt.verdict,
        "code": receipt.code,
        "reason": receipt.reason,
        "status": receipt.status,
    }


def _pause(attempt: int) -> timedelta:
    """The pause after an attempt, from 1: exponential with full jitter.

    Deliveries that failed together do not come back together.
    """
    longest = min(CAP, BASE * GROWTH ** min(attempt - 1, 20))
    return timedelta(seconds=random.uniform(0, longest))
