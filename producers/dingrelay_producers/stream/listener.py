"""Keeps an app connected to DingTalk, whatever happens to its connections."""

import asyncio
import random
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import get_args

import aiohttp
from prometheus_client import Counter, Gauge
from redis.asyncio import Redis
from structlog.stdlib import get_logger

from dingrelay_producers import logs, metrics_server, readiness
from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.enqueuing.connections import check_writes, open_redis
from dingrelay_producers.enqueuing.enqueuer import Enqueuer
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.events.receiver import EventMetrics
from dingrelay_producers.metrics_server import new_registry
from dingrelay_producers.readiness import Check
from dingrelay_producers.running import notify_ready
from dingrelay_producers.settings import Settings
from dingrelay_producers.settings.addresses import proxy_for
from dingrelay_producers.stream.connection import (
    CredentialsRefused,
    Ended,
    Frame,
    NoTicket,
    StreamConnection,
    Times,
    Worth,
    open_ticket,
)
from dingrelay_producers.tracing import export
from dingrelay_tasks import event_payload
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.sentence import en

WITHIN_SECONDS = 2.2
"""Time for an event to be in Redis: DingTalk waits 3 s for the answer (API §7.4)."""

_NOTHING = ("", "null")
"""Data of an event that has none."""

log = get_logger("dingrelay.events")


OUTCOMES = ("opened", "failed", "refused")
"""Results of attempts to open a connection."""


class StreamMetrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = new_registry()
        self.events = EventMetrics(self.registry, "stream")
        self._connections = Gauge(
            "dingrelay_stream_connections",
            "Connections to DingTalk's stream that are open.",
            ["app"],
            registry=self.registry,
        )
        self._connects = Counter(
            "dingrelay_stream_connects",
            "Tries to open a connection: opened, failed, or refused with the app's credentials.",
            ["app", "outcome"],
            registry=self.registry,
        )
        self._ends = Counter(
            "dingrelay_stream_ends",
            "Connections that ended, by how.",
            ["app", "how"],
            registry=self.registry,
        )

    def know(self, app: str) -> None:
        """There is such an app, without a connection so far."""
        self._connections.labels(app).set(0)
        self.events.know(app)
        for outcome in OUTCOMES:
            self._connects.labels(app, outcome)
        for how in get_args(Ended):
            self._ends.labels(app, how)

    def opened(self, app: str) -> None:
        """A connection is open."""
        self._connections.labels(app).inc()
        self._connects.labels(app, "opened").inc()

    def closed(self, app: str, how: str) -> None:
        """A connection is over."""
        self._connections.labels(app).dec()
        self._ends.labels(app, how).inc()

    def failed(self, app: str) -> None:
        """A connection could not be opened."""
        self._connects.labels(app, "failed").inc()

    def refused(self, app: str) -> None:
        """DingTalk refused the app."""
        self._connects.labels(app, "refused").inc()


class Listener:
    """The stream of one app.

    There is one connection; while DingTalk ends it, and says so before, there are two: the next one
    is open before the old one is left. Each has a ticket of its own.

    Args:
        settings: where DingTalk is.
        apps: the apps' keys and secrets.
        app: whose events.
        session: opens connections.
        enqueuer: accepts jobs; those that come at the same time share a round trip.
        metrics: counts the connections and the events.
    """

    def __init__(
        self,
        settings: Settings,
        apps: CurrentApps,
        app: str,
        session: aiohttp.ClientSession,
        enqueuer: Enqueuer,
        metrics: StreamMetrics,
        *,
        times: Times | None = None,
    ) -> None:
        self.app = app
        self._settings = settings
        self._apps = apps
        self._session = session
        self._enqueuer = enqueuer
        self._metrics = metrics
        self._times = times or Times()
        self._running: set[asyncio.Task[object]] = set()
        self._failures = 0
        metrics.know(app)

    @property
    def is_connected(self) -> bool:
        """Whether a connection is open."""
        return bool(self._running)

    async def run(self) -> None:
        """Stay connected until cancelled; then what was taken is answered, and all is closed."""
        try:
            while True:
                connection = await self._connect()
                if connection is not None:
                    await connection.leaving.wait()
                    # One that does not last counts as one that failed, or it would be tried at once.
                    lasted = connection.received_at - connection.opened_at >= self._times.lasting
                    self._failures = 0 if lasted else self._failures + 1
                if self._failures:
                    await asyncio.sleep(self._pause())
        finally:
            for task in self._running:
                task.cancel()
            if self._running:
                await asyncio.wait(self._running)

    async def _connect(self) -> StreamConnection | None:
        """The next connection, which is being read; None if there is none to be had just now."""
        credentials = self._apps.credentials(self.app)
        try:
            app = self._apps.app(self.app)
            robot = any(
                robot_settings.app == self.app for robot_settings in self._settings.robots.values()
            )
            ticket = await open_ticket(self._session, self._settings, app, robot=robot)
            connection = await StreamConnection.open(
                self._session, ticket, self._take_event, self._times, self.app
            )
        except CredentialsRefused as error:
            self._metrics.refused(self.app)
            log.error("stream_refused", app=self.app, reason=str(error), hint=HINT)  # noqa: TRY400
            # A new secret is tried at once: until then there is no connection at all.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._times.refused * random.uniform(0.9, 1.1)):
                    await self._apps.renewal(self.app, credentials)
            return None
        except NoTicket as error:
            self._failed(str(error))
            return None
        # TimeoutError is an OSError; an endpoint that is no URL brings a ValueError.
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The error's own text holds the URL, and with it the ticket.
            self._failed(type(error).__name__)
            return None
        task = asyncio.create_task(self._read_until_ended(connection))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return connection

    async def _read_until_ended(self, connection: StreamConnection) -> None:
        self._metrics.opened(self.app)
        log.info("stream_connected", app=self.app)
        try:
            await connection.run()
        finally:
            self._metrics.closed(self.app, connection.ended or "error")
            log.info("stream_ended", app=self.app, how=connection.ended)

    async def _take_event(self, frame: Frame) -> Worth:
        """The answer to an event: taken once it is a job, else to be sent again.

        One that can't be read would be sent again in vain, so it counts as taken.
        """
        app, events = self.app, self._metrics.events
        try:
            # An event without data is valid: its type is enough.
            data = event_payload.decode(frame.data) if frame.data.strip() not in _NOTHING else {}
            robot = frame.topic == event_payload.ROBOT_MESSAGES
            session = event_payload.session_of(app, data) if robot else None
            read_event = event_payload.of_robot if robot else event_payload.of_frame
            event = read_event(app, frame.headers, data)
            await self._enqueuer.take_event(event, events, session=session, within=WITHIN_SECONDS)
        except ContractError as error:
            log.error("event_unreadable", app=app, field=error.field, problem=error.problem)  # noqa: TRY400
            events.unreadable(app)
            return "SUCCESS"
        except ServiceUnavailable:
            return "LATER"
        return "SUCCESS"

    def _failed(self, reason: str) -> None:
        self._failures += 1
        self._metrics.failed(self.app)
        log.warning("stream_failed", app=self.app, reason=reason, tries=self._failures)

    def _pause(self) -> float:
        doubled = self._times.first_pause * 2.0 ** min(self._failures - 1, 16)
        return min(doubled, self._times.longest_pause) * random.uniform(0.5, 1)


HINT = en(
    "check the app's key and secret, and that it is published with event subscription in stream mode"
)


if sys.platform == "win32":
    from asyncio import run as run_loop
else:
    from uvloop import run as run_loop

CONNECT_SECONDS = 10.0


def run(settings: Settings, apps: Sequence[str]) -> None:
    """Listen until SIGTERM or SIGINT; events that were taken are answered."""
    logs.configure(settings)
    proxy_for(settings.api_url)
    export.start("dingrelay-events")
    try:
        run_loop(_listen(settings, apps))
    finally:
        export.stop()


async def _listen(settings: Settings, apps: Sequence[str]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await listen(settings, apps, StreamMetrics(), stopping)


def _checks(redis: Redis, listeners: Sequence[Listener]) -> dict[str, Check]:
    """The servers that events need: Redis, and DingTalk's stream."""

    async def check_redis() -> None:
        await check_writes(redis)

    async def check_stream() -> None:
        apps = [listener.app for listener in listeners if not listener.is_connected]
        if apps:
            raise ServiceUnavailable(en("not connected: {}", ", ".join(apps)))

    return {"redis": check_redis, "stream": check_stream}


async def listen(
    settings: Settings, apps: Sequence[str], metrics: StreamMetrics, stopping: asyncio.Event
) -> None:
    """Keep all apps connected until it is time to stop."""
    redis = open_redis(settings)
    enqueuer = Enqueuer(settings, redis)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
    async with aiohttp.ClientSession(
        timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        current = CurrentApps(settings)
        listeners = [Listener(settings, current, app, session, enqueuer, metrics) for app in apps]
        metrics_server.serve(
            settings.metrics_port,
            asyncio.get_running_loop(),
            metrics.registry,
            partial(readiness.away, _checks(redis, listeners)),
        )
        notify_ready()
        log.info("events_ready", apps=list(apps))
        running = [asyncio.create_task(listener.run()) for listener in listeners]
        if current.has_files:
            running.append(asyncio.create_task(current.watch()))
        waiting = asyncio.create_task(stopping.wait())
        # Any of them ends by a bug only; then the process ends, and its supervisor starts another.
        await asyncio.wait([waiting, *running], return_when=asyncio.FIRST_COMPLETED)
        for task in (waiting, *running):
            task.cancel()
        outcomes = await asyncio.gather(*running, return_exceptions=True)
    await enqueuer.aclose()
    await redis.aclose()
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
