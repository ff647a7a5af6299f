"""Wake-ups: published to a test, and as a worker receives them."""

import uuid
from collections.abc import Iterable
from typing import Any

from dingrelay_producers.store.record import Wakeup
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.store.wakeup import ReceivedWakeup


def received(wakeup: Wakeup) -> ReceivedWakeup:
    """A published wake-up, with a nonce of its own each time."""
    return ReceivedWakeup(
        id=wakeup.id,
        kind=KINDS[wakeup.kind],
        job={"app": wakeup.app, "lane": wakeup.lane},
        queue=wakeup.queue,
        woken=wakeup.at,
        nonce=uuid.uuid4().hex,
    )


class Published:
    """Stands for a `Publisher`, and keeps what would be published."""

    def __init__(self) -> None:
        self.wakeups: list[Wakeup] = []

    def publish(self, wakeups: Iterable[Wakeup]) -> list[Any]:
        self.wakeups += wakeups
        return []

    async def publish_on_loop(self, wakeups: Iterable[Wakeup]) -> list[Any]:
        return self.publish(wakeups)

    async def aclose(self) -> None:
        pass

    def close(self) -> None:
        pass
