"""The Redis and the broker, as a client uses them."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dingrelay_producers.actor import current_actor
from dingrelay_producers.client import job_details
from dingrelay_producers.client.in_threads import run
from dingrelay_producers.client.verbs import (
    Accept,
    Admit,
    Audit,
    FindApproval,
    Remember,
    Step,
    Steps,
)
from dingrelay_producers.errors import NotInstalled, QueueFull, ServiceUnavailable
from dingrelay_producers.installed import service
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.store.connections import open_sync
from dingrelay_producers.store.flows import run_flow, run_step
from dingrelay_producers.store.record import Draft, Enqueued
from dingrelay_producers.store.scripts import Call
from dingrelay_producers.store.send_span import sending
from dingrelay_producers.store.served_names import ServedNames
from dingrelay_producers.store.transitions import WrittenJob
from dingrelay_producers.tls_trouble import cause
from dingrelay_tasks.sentence import en

_R = TypeVar("_R")
_ROOM: Mapping[str, QueueFull] = {}
"""Programs may enqueue any number of jobs."""
TIMEOUT = 5
"""Seconds for a connection or an answer."""


class ClientConnection:
    """Opened on first use, in the process that uses it. Safe to share between threads.

    Every method that calls Redis raises `ServiceUnavailable` if it cannot be reached.

    Args:
        settings: where they are.
        fence: a lease's key and value: jobs are accepted only while it has that value.
    """

    def __init__(self, settings: Settings, *, fence: tuple[str, str] | None = None) -> None:
        self.settings = settings
        self._fence = fence
        self._pid = 0
        self._open: tuple[Redis, Publisher] | None = None
        self._served = ServedNames()

    def redis_call(self, use: Callable[[Redis], Any]) -> Any:
        """Redis's answer."""
        try:
            return use(self._opened()[0])
        except (RedisConnectionError, RedisTimeoutError) as error:
            where, unshown = self.settings.redis_address.where, self.settings.redis_address.unshown
            raise _away(
                en("Redis at {} cannot be reached ({})", where, cause(error, unshown=unshown))
            ) from None
        except RedisError as error:
            # Redis's answer, such as "DB index is out of range", holds no part of the URL.
            words = f" ({error})"[:100] if isinstance(error, ResponseError) else ""
            raise _away(f"{type(error).__name__}{words}") from error

    def run(self, call: Call) -> Any:
        """The script's answer."""
        return self.redis_call(lambda redis: scripts.run(redis, call))

    def served(self, names: Collection[tuple[str, str]]) -> ServedNames:
        """The names that workers serve, new enough to check these; one round trip a minute."""
        if self._served.is_outdated(names):
            self._served.begin()
            self._served.keep(self.redis_call(lambda redis: redis.hkeys(keys.SERVED)))
        return self._served

    def enqueue(self, drafts: Sequence[Draft], jobs: Sequence[WrittenJob]) -> list[Enqueued]:
        """Write the records of these jobs, which are `written`; what became of each, in order.

        Raises:
            ServiceUnavailable: as well where the lease of the fence was over.
        """
        calls = record.enqueue_all(jobs, self._fence)
        answers = self.redis_call(lambda redis: scripts.run_many(redis, calls))
        verdicts = [*record.each_answer(calls, answers)]
        if any(verdict == b"fenced" for verdict, _ in verdicts):
            raise ServiceUnavailable("this took longer than its lease")
        return list(map(record.enqueued, drafts, verdicts))

    def written(self, drafts: Iterable[Draft]) -> list[WrittenJob]:
        """These jobs as arguments of the script that accepts them.

        Raises:
            ContractError: one of them is too large.
        """
        envelope = self._opened()[1].envelope
        return [record.written(draft, envelope(draft)) for draft in drafts]

    def wake(self, answers: Iterable[Enqueued]) -> None:
        """Publish the wake-ups of what was written, where they are still to be published."""
        if wakeups := [answer.wakeup for answer in answers if answer.wakeup]:
            untaken = self._opened()[1].publish(wakeups)
            if untaken:
                # The jobs are accepted: without the mark they wait for the scheduler's grace.
                with suppress(ServiceUnavailable):
                    self.redis_call(
                        lambda redis: scripts.run_many(redis, record.unpublished(untaken))
                    )

    def accept(self, drafts: Sequence[Draft]) -> list[Enqueued]:
        """Write the records of these jobs, and publish their wake-ups."""
        with sending(drafts):
            answers = self.enqueue(drafts, self.written(drafts))
        self.wake(answers)
        return answers

    def carry_out(self, steps: Steps[_R]) -> _R:
        """Run the body of a verb; its document."""
        return run_flow(steps, self._make)

    def _make(self, step: Step) -> Any:
        match step:
            case Admit(names):
                return self.served(names), _ROOM
            case Accept(drafts):
                return self.accept(drafts)
            case Audit():
                return self._note(step)
            case Remember(job):
                return None if self.history is None else run(self.history.details(job))
            case FindApproval(app, instance):
                return run(service("ApprovalService", self.settings).get(app, instance))
            case calls:
                return self.redis_call(lambda redis: run_step(redis, calls))

    def _note(self, change: Audit) -> None:
        """Write a change into the audit. Without a database the change is made all the same: Redis has the jobs."""
        try:
            run(service("AuditService", self.settings).note(**change._asdict()))
        except NotInstalled:  # such an install has no database
            return
        except ServiceUnavailable as error:
            current_actor().on_unaudited(str(error))

    @property
    def history(self) -> Any:
        """Jobs that ended; None where its packages are not installed."""
        try:
            return service("HistoryService", self.settings)
        except NotInstalled:
            return None

    def whole_id(self, beginning: str) -> str:
        """The id of the one job that begins so; as `Client.whole_id`."""
        return job_details.whole_id(self.redis_call, lambda: self.history, beginning)

    def close(self) -> None:
        """Close; the next use opens it again."""
        if self._open and self._pid == os.getpid():
            redis, publisher = self._open
            redis.close()
            publisher.close()
        self._open = None

    def _opened(self) -> tuple[Redis, Publisher]:
        # A socket that two processes write to carries both their bytes: never share over a fork.
        if self._open is None or self._pid != os.getpid():
            redis = open_sync(
                self.settings.redis_address,
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
                health_check_interval=10,
            )
            self._open = redis, Publisher(self.settings)
            self._pid = os.getpid()
        return self._open


def _away(problem: str) -> ServiceUnavailable:
    return ServiceUnavailable(en("{}: {}", "DINGRELAY_REDIS_URL", problem))
