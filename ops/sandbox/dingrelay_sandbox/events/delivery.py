"""Sends each event on its way: where to, how, with which retries, and what goes wrong with it (API §7.1)."""

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from typing import Any

import aiohttp
from yarl import URL

from dingrelay_sandbox.apps import App
from dingrelay_sandbox.events.callbacks import CHECK, SUCCESS, Callback
from dingrelay_sandbox.events.event import Event
from dingrelay_sandbox.events.event_faults import EventFaultSpec
from dingrelay_sandbox.events.log import Delivery, Way
from dingrelay_sandbox.events.stream_gateway import StreamGateway
from dingrelay_sandbox.organisation import ROOT
from dingrelay_sandbox.state import SandboxState

MOST_AT_ONCE = 256
"""Pushes under way; more wait, and their time does not run."""
LARGEST_ANSWER = 65_536
"""Bytes of an answer that are read; a right one has some 300."""
HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}


CONTENT = ("text", "content")
"""Fields of a message to a robot that do not come once the month is used up."""


class Deliveries:
    """Deliveries under way.

    Args:
        state: whose events they are.
    """

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._session: aiohttp.ClientSession | None = None
        self._room = asyncio.Semaphore(MOST_AT_ONCE)
        self.stream = StreamGateway(state, self.start)
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: list[tuple[EventFaultSpec, Delivery]] = []

    async def open(self) -> None:
        """Deliver from now on."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
        )
        self._state.events.deliver = self.deliver

    async def close(self) -> None:
        """Give everything up."""
        self.reset()
        if self._session is not None:
            await self._session.close()

    def reset(self) -> None:
        """Forget what is on its way, and end all streams."""
        self.stream.reset()
        self._held.clear()
        for task in list(self._tasks):
            task.cancel()

    def deliver(self, event: Event) -> None:
        """Send an event to all apps that have asked for it and may see it."""
        for app in list(self._state.apps.values()):
            way = self._way(app, event)
            if way is None:
                continue
            counted = self._counted(app, event)
            self._set_out(Delivery(self._state.events, counted, app.app_key, way))

    def _counted(self, app: App, event: Event) -> Event:
        """The event, counted for the month; beyond that a message to a robot has no content (API §12.14)."""
        if event.departments is not None:  # of contacts
            return event
        room = self._state.limiter.push(app.organisation, self._state.clock())
        if room or not event.is_callback:
            return event
        fields = {name: each for name, each in event.fields.items() if name not in CONTENT}
        return replace(event, fields={**fields, "errorCode": "20001", "errorMessage": "over quota"})

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that a reset ends."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _way(self, app: App, event: Event) -> Way | None:
        """How an app gets an event; None: not at all."""
        if event.app not in {None, app.app_key} or not self._may_know(app, event):
            return None
        pushing = self._state.callbacks.of(app.app_key)
        if pushing is not None:
            return "http" if pushing.wants(event) else None
        return "stream" if self._state.tickets.wants_events(app.app_key) else None

    def _may_know(self, app: App, event: Event) -> bool:
        if event.departments is None or ROOT in app.departments or event.user in app.users:
            return True
        scope = self._state.scopes.of(app)
        return any(scope.department(place) for place in event.departments)

    def _set_out(self, delivery: Delivery) -> None:
        """Let faults meet a delivery, and send it on its way."""
        faults = self._state.event_faults
        if faults.draw("swallow", delivery):
            delivery.settle("swallowed")
            return
        if spec := faults.draw("duplicate", delivery):
            for _ in range(spec.copies):
                copy = Delivery(delivery.log, delivery.event, delivery.app_key, delivery.way)
                self.start(self._later(copy, faults.pause(spec)))
        if spec := faults.draw("reorder", delivery):
            self._hold(delivery, spec)
        elif spec := faults.draw("delay", delivery):
            self.start(self._later(delivery, faults.pause(spec)))
        else:
            self.start(self._send(delivery))

    def _hold(self, delivery: Delivery, spec: EventFaultSpec) -> None:
        """Keep a delivery until there are enough to mix, or for as long as the fault says."""
        self._held.append((spec, delivery))
        held = [each for fault, each in self._held if fault is spec]
        if len(held) >= spec.window:
            self._let_go(spec)
        elif len(held) == 1:
            self.start(self._let_go_later(spec, delivery))

    def _let_go(self, spec: EventFaultSpec) -> None:
        held = [each for fault, each in self._held if fault is spec]
        self._held = [(fault, each) for fault, each in self._held if fault is not spec]
        self._state.event_faults.mix(held)
        for delivery in held:
            self.start(self._send(delivery))

    async def _let_go_later(self, spec: EventFaultSpec, first: Delivery) -> None:
        await asyncio.sleep(spec.max_ms / 1_000)
        if any(each is first for _, each in self._held):
            self._let_go(spec)

    async def _later(self, delivery: Delivery, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._send(delivery)

    async def _send(self, delivery: Delivery) -> None:
        if delivery.way == "http":
            await self._push(delivery)
        else:
            await self.stream.deliver(delivery)

    async def check(self, callback: Callback) -> str:
        """Ask whether a URL is a callback: ``success``, or what is wrong with it."""
        return await self._post(callback, CHECK)

    async def _push(self, delivery: Delivery) -> None:
        """Push an event until it is taken, or no more is tried."""
        state = self._state
        waits = iter(state.delivery_times.retries)
        while True:
            callback = state.callbacks.of(delivery.app_key)
            app = state.apps.get(delivery.app_key)
            if callback is None or app is None:
                delivery.settle("failed")
                return
            at, began = state.clock(), time.monotonic()
            content = delivery.event.pushed(app.organisation, callback.casing)
            outcome = await self._post(callback, content)
            delivery.attempt(outcome, at=at, took=time.monotonic() - began)
            if outcome == SUCCESS:
                delivery.settle("delivered")
                return
            wait = next(waits, None)
            if wait is None:
                break
            await asyncio.sleep(state.delivery_times.scaled(wait))
        until = time.monotonic() + state.delivery_times.failed_kept
        state.callbacks.fail(delivery.app_key, delivery.event, until=until)
        delivery.settle("failed")

    async def _post(self, callback: Callback, content: Mapping[str, Any]) -> str:
        assert self._session is not None, "opened when the server starts"
        async with self._room:
            query, content_sealed = callback.push(content, self._state.clock())
            url = URL(callback.url).update_query(query)
            timeout = aiohttp.ClientTimeout(total=self._state.delivery_times.push_timeout)
            try:
                async with self._session.post(
                    url,
                    data=content_sealed,
                    headers=HEADERS,
                    timeout=timeout,
                    allow_redirects=False,
                ) as answer:
                    body = await answer.content.read(LARGEST_ANSWER)
                    while len(body) < LARGEST_ANSWER and (
                        more := await answer.content.read(LARGEST_ANSWER - len(body))
                    ):
                        body += more
                    return callback.verdict(answer.status, body)
            except TimeoutError:
                return "timeout"
            except aiohttp.ClientConnectorError:
                return "refused"
            except (aiohttp.ClientError, OSError) as error:
                return f"cut: {type(error).__name__}"
