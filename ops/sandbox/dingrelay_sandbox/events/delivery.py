"""Sends each event on its way: where to, how, and what goes wrong with it."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from aiohttp import web

from dingrelay_sandbox.apps import App
from dingrelay_sandbox.events.event import Event
from dingrelay_sandbox.events.event_faults import EventFaultSpec
from dingrelay_sandbox.events.http_push import HttpPush
from dingrelay_sandbox.events.log import Delivery, Way
from dingrelay_sandbox.events.stream_gateway import StreamGateway
from dingrelay_sandbox.organisation import ROOT
from dingrelay_sandbox.state import SandboxState

CONTENT = ("text", "content")
"""Fields of a message to a robot that do not come once the month is used up."""


class Deliveries:
    """What is on its way now.

    Args:
        state: whose events they are.
    """

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self.http = HttpPush(state)
        self.stream = StreamGateway(state, self.start)
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: list[tuple[EventFaultSpec, Delivery]] = []

    async def open(self) -> None:
        """Deliver from now on."""
        await self.http.open()
        self._state.events.deliver = self.deliver

    async def close(self) -> None:
        """Give everything up."""
        self.reset()
        await self.http.close()

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
            delivery = Delivery(self._counted(app, event), app.app_key, way)
            self._state.events.begin(delivery)
            self._set_out(delivery)

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
            self._state.events.settle(delivery, "swallowed")
            return
        if spec := faults.draw("duplicate", delivery):
            for _ in range(spec.copies):
                copy = Delivery(delivery.event, delivery.app_key, delivery.way)
                self._state.events.begin(copy)
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
            await self.http.deliver(delivery)
        else:
            await self.stream.deliver(delivery)


DELIVERIES = web.AppKey("deliveries", Deliveries)
"""Where the application keeps them."""
