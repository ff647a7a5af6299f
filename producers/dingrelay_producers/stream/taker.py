"""Makes an event of the stream a job, within the time that DingTalk waits for the answer."""

import asyncio

from structlog.stdlib import get_logger

from dingrelay_producers.enqueuing.enqueuer import Enqueuer
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.events.metrics import EventMetrics
from dingrelay_producers.store import record
from dingrelay_producers.stream.frames import Frame, Worth
from dingrelay_tasks import event_payload
from dingrelay_tasks.contract import ContractError

WITHIN_SECONDS = 2.2
"""For an event to be in Redis: DingTalk waits 3 s for the answer (API §7.4)."""

_NOTHING = ("", "null")
"""Data of an event that has none."""

log = get_logger("dingrelay.events")


class Taker:
    """Takes events of apps.

    Args:
        enqueuer: accepts jobs; those that come at the same time share a round trip.
        metrics: counts them.
    """

    def __init__(self, enqueuer: Enqueuer, metrics: EventMetrics) -> None:
        self._enqueuer = enqueuer
        self._metrics = metrics

    async def take(self, app: str, frame: Frame) -> Worth:
        """What to answer: that it is taken once it is a job, else that it is to be sent again.

        One that can't be read would be sent again in vain, so it counts as taken.
        """
        try:
            # An event without data is valid: its type is enough.
            data = event_payload.decode(frame.data) if frame.data.strip() not in _NOTHING else {}
            robot = frame.topic == event_payload.ROBOT_MESSAGES
            session = event_payload.session_of(app, data) if robot else None
            of = event_payload.of_robot if robot else event_payload.of_frame
            event = of(app, frame.headers, data)
            draft = record.draft(event)
            async with asyncio.timeout(WITHIN_SECONDS):
                await self._enqueuer.room()
                if session is not None:
                    await self._enqueuer.keep_session(*session)
                (enqueued,) = await self._enqueuer.enqueue([draft])
        except ContractError as error:
            log.error("event_unreadable", app=app, field=error.field, problem=error.problem)  # noqa: TRY400
            self._metrics.unreadable(app)
            return "SUCCESS"
        except (ServiceUnavailable, TimeoutError):
            self._metrics.not_taken(app)
            return "LATER"
        self._metrics.taken(event, known=not enqueued.created)
        return "SUCCESS"
