"""Publishes wake-ups as Celery messages, by name and without the worker's code."""

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

from celery import Celery

from dingrelay_producers.celery_config import PRODUCER_TIMEOUT, celery_config
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.record import Wakeup
from dingrelay_tasks.names import TASK_PREFIX

WOKEN_HEADER = "dingrelay-woken"
"""Message header: when the wake-up was decided on, in milliseconds of Redis's clock."""

BATCH = 500
"""Messages that travel to the broker in one round trip."""

ONE_MORE_TRY = {"max_retries": 1, "interval_start": 0}
"""Enough to replace a connection that broke while nobody used it."""

AWAY_PAUSE = 5.0
"""Seconds for which a broker that failed is not asked again: each try may cost its time-out."""

log = logging.getLogger("dingrelay")


class Publisher:
    """Publishes wake-ups; safe to share between threads.

    It carries no payload: the record is the truth, and a wake-up that outlives it must not bring
    the job back. One that can't be published is no loss: the scheduler wakes the job.
    So a broker that failed is left alone for a moment, and `send` costs no time-out.
    """

    def __init__(self, settings: Settings, celery: Celery | None = None) -> None:
        if celery is None:
            celery = Celery("dingrelay-producer", set_as_current=False)
            celery.config_from_object(celery_config(settings, timeout=PRODUCER_TIMEOUT))
        self._celery = celery
        self._away_until = 0.0

    def publish(self, wakeups: Iterable[Wakeup]) -> int:
        """Publish in batches; how many were handed to the broker."""
        batch: list[Wakeup] = []
        published = 0
        for wakeup in wakeups:
            batch.append(wakeup)
            if len(batch) == BATCH:
                published += self._publish_batch(batch)
                batch = []
        return published + self._publish_batch(batch)

    def _publish_batch(self, batch: Sequence[Wakeup]) -> int:
        if not batch or time.monotonic() < self._away_until:
            return 0
        try:
            with self._celery.producer_or_acquire() as producer:
                if len(batch) == 1:
                    self._send(batch[0], producer)
                else:
                    with producer.batch(max_size=BATCH):
                        for wakeup in batch:
                            self._send(wakeup, producer)
        except Exception as error:  # noqa: BLE001 - each transport raises errors of its own
            self._away_until = time.monotonic() + AWAY_PAUSE
            log.warning(
                "wake-ups not published, the scheduler will: count=%d reason=%s",
                len(batch),
                type(error).__name__,
            )
            return 0
        return len(batch)

    def _send(self, wakeup: Wakeup, producer: Any) -> None:
        self._celery.send_task(
            TASK_PREFIX + wakeup.kind,
            kwargs={"job": {"app": wakeup.app, "lane": wakeup.lane}},
            task_id=wakeup.id,
            queue=wakeup.queue,
            argsrepr="",
            kwargsrepr=wakeup.summary,
            headers={WOKEN_HEADER: wakeup.at},
            producer=producer,
            retry=True,
            retry_policy=ONE_MORE_TRY,
        )

    def close(self) -> None:
        """Give the broker's connections back."""
        self._celery.close()
