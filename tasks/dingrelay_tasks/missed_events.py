"""missed-events: reads what DingTalk could not push over HTTP, while it still keeps it.

After two retries DingTalk keeps an event for 3 to 5 minutes (API §7.1). Whoever takes its pushes
enqueues this job when it comes up, and when it could not take one: once at once, and once later.
"""

from collections.abc import Sequence
from typing import ClassVar

from dingrelay_tasks import event_payload
from dingrelay_tasks.context import Context, Json
from dingrelay_tasks.contract import EVENTS_QUEUE, ContractError, Deliverable, Lane, Part
from dingrelay_tasks.event import Event, lacks_ids
from dingrelay_tasks.user_sync import UserSync

MOST_PAGES = 100
"""Of up to 200 events: more than DingTalk pushes in five minutes on any edition."""


class MissedEvents(Deliverable):
    """Read the events of an app that DingTalk could not push."""

    kind: ClassVar[str] = "missed-events"
    own_queue: ClassVar[str] = EVENTS_QUEUE

    lane: Lane = "urgent"


class MissedEventsResult(Part):
    """What was found.

    Attributes:
        events: how many were accepted as jobs; those that were known already are among them.
        unreadable: how many could not be read, or don't say who they are about.
        walks: whether the organisation is walked, since people or departments are among the latter.
        refused: DingTalk's code, if it lets the app have none; empty otherwise.
    """

    events: int = 0
    unreadable: int = 0
    walks: bool = False
    refused: str = ""


async def run(job: MissedEvents, ctx: Context) -> Json:
    """Accept each event as a job; a `MissedEventsResult` as JSON.

    What DingTalk has told it forgets, so each page is in Redis before the next one is asked for.
    """
    accepted = unreadable = 0
    walks = False
    for _ in range(MOST_PAGES):
        page = await ctx.events.missed()
        if page.refused:
            return MissedEventsResult(refused=page.refused).model_dump()
        events = _read(job.app, page.entries)
        whole = [each for each in events if not lacks_ids(each)]
        await ctx.enqueue(whole)
        if len(whole) < len(events):
            walks = True
            await ctx.spawn([UserSync(app=job.app)], keys=["walk"])
        accepted += len(whole)
        unreadable += len(page.entries) - len(whole)
        if not page.more:
            break
    return MissedEventsResult(events=accepted, unreadable=unreadable, walks=walks).model_dump()


def _read(app: str, entries: Sequence[Json]) -> list[Event]:
    events: list[Event] = []
    for entry in entries:
        try:
            events.append(event_payload.of_failed(app, entry))
        except ContractError:
            continue
    return events
