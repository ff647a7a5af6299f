"""The routes of the admin API about events: who hears of them, what went wrong, what happens."""

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, Field, TypeAdapter

from dingrelay_sandbox.admin_answers import ROOT, answered
from dingrelay_sandbox.events.callbacks import SUCCESS, Callback
from dingrelay_sandbox.events.delivery import DELIVERIES
from dingrelay_sandbox.events.event import Event
from dingrelay_sandbox.events.event_faults import EventFaultSpec
from dingrelay_sandbox.events.log import EventLog
from dingrelay_sandbox.events.organisation_churn import Churn
from dingrelay_sandbox.events.stream_gateway import StreamAction
from dingrelay_sandbox.state import SandboxState

MOST_EVENTS = "1000"
MOST_AT_ONCE = 100_000
PACE_SECONDS = 0.01
"""Between two handfuls of events that happen so many a second."""
PerSecond = Annotated[float, Field(gt=0, le=100_000)]


class Registration(Callback, frozen=True):
    """A callback, and whether it is asked first."""

    check: bool = True


class Fired(BaseModel, extra="forbid"):
    """An event that happens by hand.

    Attributes:
        type: any.
        fields: its own fields; one named as a common one, such as ``EventTime``, replaces it.
        event_id: one that was there before, or another; made up where none is given.
        app: the only app that is told.
        age: seconds since it happened.
    """

    type: Annotated[str, Field(min_length=1)]
    fields: dict[str, Any] = Field(default_factory=dict[str, Any])
    event_id: Annotated[str, Field(min_length=1)] = Field(default_factory=lambda: uuid.uuid4().hex)
    app: str | None = None
    age: float = 0

    def event(self, now: float) -> Event:
        """The event, at a Unix time."""
        return Event(self.type, now - self.age, self.fields, self.event_id, app=self.app)


class Firing(BaseModel, extra="forbid"):
    """Events that happen, all at once or so many a second."""

    events: Annotated[list[Fired], Field(min_length=1, max_length=MOST_AT_ONCE)]
    per_second: PerSecond | None = None


class Changes(BaseModel, extra="forbid"):
    """So many changes of the organisation at random, all at once or so many a second."""

    count: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)]
    seed: int = 1
    per_second: PerSecond | None = None


class StreamAct(BaseModel, extra="forbid"):
    """What happens to the connections that are open now.

    Attributes:
        action: ``drop`` ends them without a word; ``disconnect`` says so first, and sends no event
            any more; ``silence`` leaves TCP alone, and nothing else; ``die`` drops them and feeds
            them on for a while.
        app: only those of this app.
        connection: only this one.
        lossy: whether what a dead connection was fed is never told again.
    """

    action: StreamAction
    app: str | None = None
    connection: int | None = None
    lossy: bool = False


_object = TypeAdapter(dict[str, Any])


def event_routes(state: SandboxState) -> list[web.RouteDef]:
    """All routes about events."""
    routes = _Events(state)
    return [
        web.get(f"{ROOT}/callbacks", answered(routes.callbacks)),
        web.put(f"{ROOT}/callbacks", answered(routes.put_callback)),
        web.delete(f"{ROOT}/callbacks/{{app}}", answered(routes.delete_callback)),
        web.get(f"{ROOT}/delivery", answered(routes.times)),
        web.post(f"{ROOT}/delivery", answered(routes.change_times)),
        web.get(f"{ROOT}/events", answered(routes.events)),
        web.post(f"{ROOT}/events", answered(routes.fire)),
        web.get(f"{ROOT}/events/summary", answered(routes.summary)),
        web.get(f"{ROOT}/events/{{id}}", answered(routes.event)),
        web.post(f"{ROOT}/events/{{id}}/resend", answered(routes.resend)),
        web.get(f"{ROOT}/event-faults", answered(routes.faults)),
        web.post(f"{ROOT}/event-faults", answered(routes.add_fault)),
        web.delete(f"{ROOT}/event-faults", answered(routes.clear_faults)),
        web.delete(f"{ROOT}/event-faults/{{id}}", answered(routes.delete_fault)),
        web.get(f"{ROOT}/streams", answered(routes.streams)),
        web.post(f"{ROOT}/streams/act", answered(routes.act)),
        web.post(f"{ROOT}/changes", answered(routes.change)),
    ]


class _Events:
    def __init__(self, state: SandboxState) -> None:
        self._state = state

    async def callbacks(self, _: web.Request) -> object:
        return [each.model_dump(mode="json") for each in self._state.callbacks.all()]

    async def put_callback(self, request: web.Request) -> None:
        wanted = Registration.model_validate_json(await request.read())
        self._state.app(wanted.app_key)
        callback = Callback.model_validate(wanted.model_dump(exclude={"check"}))
        if wanted.check:
            outcome = await request.app[DELIVERIES].http.check(callback)
            if outcome != SUCCESS:
                raise ValueError(f"url: check_url was answered with: {outcome}")
        self._state.callbacks.put(callback)

    async def delete_callback(self, request: web.Request) -> None:
        self._state.callbacks.delete(request.match_info["app"])

    async def times(self, _: web.Request) -> object:
        return self._state.delivery_times.model_dump(mode="json")

    async def change_times(self, request: web.Request) -> object:
        patch = _object.validate_json(await request.read())
        self._state.delivery_times = self._state.delivery_times.changed(patch)
        return await self.times(request)

    async def events(self, request: web.Request) -> object:
        query = request.query
        return self._state.events.reports(
            since=float(query.get("since", "0")),
            kind=query.get("type", ""),
            state=query.get("state", ""),
            limit=int(query.get("limit", MOST_EVENTS)),
        )

    async def summary(self, _: web.Request) -> object:
        return self._state.events.summary()

    async def event(self, request: web.Request) -> object:
        return self._state.events.report(request.match_info["id"])

    async def fire(self, request: web.Request) -> object:
        wanted = Firing.model_validate_json(await request.read())
        fired = iter(wanted.events)

        def happen() -> None:
            self._state.events.add(next(fired).event(self._state.clock()))

        self._pace(request, happen, len(wanted.events), wanted.per_second)
        return {"ids": [each.event_id for each in wanted.events]}

    async def resend(self, request: web.Request) -> None:
        self._state.events.add(self._state.events.find(request.match_info["id"]))

    async def faults(self, _: web.Request) -> object:
        return self._state.event_faults.report()

    async def add_fault(self, request: web.Request) -> object:
        spec = EventFaultSpec.model_validate_json(await request.read())
        return {"id": self._state.event_faults.add(spec)}

    async def clear_faults(self, _: web.Request) -> object:
        return {"ended": self._state.event_faults.delete()}

    async def delete_fault(self, request: web.Request) -> object:
        return {"ended": self._state.event_faults.delete(int(request.match_info["id"]))}

    async def streams(self, request: web.Request) -> object:
        return request.app[DELIVERIES].stream.report()

    async def act(self, request: web.Request) -> object:
        wanted = StreamAct.model_validate_json(await request.read())
        stream = request.app[DELIVERIES].stream
        met = stream.act(
            wanted.action, app_key=wanted.app, number=wanted.connection, lossy=wanted.lossy
        )
        return {"met": met}

    async def change(self, request: web.Request) -> None:
        wanted = Changes.model_validate_json(await request.read())
        churn = Churn(self._state.organisation, wanted.seed)
        self._pace(request, churn.step, wanted.count, wanted.per_second)

    def _pace(
        self,
        request: web.Request,
        act: Callable[[], object],
        count: int,
        per_second: float | None,
    ) -> None:
        """Act so often: now, or in the background, so many times a second."""
        if per_second is None:
            for _ in range(count):
                act()
            return
        self._state.events.planned += count
        request.app[DELIVERIES].start(_paced(self._state.events, act, count, per_second))


async def _paced(
    events: EventLog, act: Callable[[], object], count: int, per_second: float
) -> None:
    began, done = time.monotonic(), 0
    while done < count:
        due = min(count, int((time.monotonic() - began) * per_second) + 1)
        for _ in range(due - done):
            act()
            events.planned -= 1
        done = due
        await asyncio.sleep(PACE_SECONDS)
