"""missed-events: reads what DingTalk could not push over HTTP, while it still keeps it.

After two retries DingTalk keeps an event for 3 to 5 minutes (API §7.1). The receiver of its pushes
enqueues this job when it starts, and when it could not take a push: once at once, and once later.
"""

from collections.abc import Sequence
from functools import partial

from dingrelay_tasks import event_payload
from dingrelay_tasks.approval_event import APPROVAL_EVENTS
from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import EVENTS_QUEUE, ContractError, Deliverable, Json, Lane, Part
from dingrelay_tasks.event import Event, lacks_ids
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.user_sync import UserSync

MOST_PAGES = 100
"""Of up to 200 events: more than DingTalk pushes in five minutes on any edition."""
MOST_LOST = 2
"""Lost answers after which the rest is left to the second time that the list is read."""


class MissedEvents(Deliverable):
    """Read the events of an app that DingTalk could not push."""

    lane: Lane = "urgent"


class MissedEventsResult(Part):
    """What was found.

    Attributes:
        events: how many were accepted as jobs; those that were known already are among them.
        unreadable: how many could not be read, or don't say what they are about.
        walks: whether the organisation is walked: people or departments may be among the latter, or
            among what was lost.
        lost: answers that did not arrive, and took their events along.
        refused: DingTalk's code, if it lets the app have none; empty otherwise.
    """

    events: int = 0
    unreadable: int = 0
    walks: bool = False
    lost: int = 0
    refused: str = ""


class _AcceptedPage(MissedEventsResult):
    """What one answer brought. `more`: there may be others."""

    more: bool = False


@kind("missed-events", MissedEvents, queue=EVENTS_QUEUE, api="events.missed")
async def run(job: MissedEvents, ctx: Context) -> Json:
    """Accept each event as a job; a `MissedEventsResult` as JSON.

    What DingTalk has returned it forgets, so each page is in Redis before the next one is requested, and
    an answer that is lost has everything read that it may have been about.
    """
    found = MissedEventsResult()
    if ctx.intent is not None:
        # The worker vanished between the answer and the jobs that it leads to.
        await _read_anew(job, ctx, people=True, approvals=True)
        ctx.rule_out()
        found = MissedEventsResult(lost=1, walks=True)
    for number in range(MOST_PAGES):
        page = _AcceptedPage.model_validate(
            await ctx.once(f"page:{number}", partial(_take_page, job, ctx))
        )
        found = MissedEventsResult(
            events=found.events + page.events,
            unreadable=found.unreadable + page.unreadable,
            walks=found.walks or page.walks,
            lost=found.lost + page.lost,
            refused=page.refused,
        )
        if not page.more or found.lost >= MOST_LOST:
            break
    return found.model_dump()


async def _take_page(job: MissedEvents, ctx: Context) -> Json:
    """Read a page and accept its events; a `_AcceptedPage` as JSON."""
    page = await ctx.missed_events()
    incomplete: list[Event] = []
    complete: list[Event] = []
    for event in _read(job.app, page.entries):
        (incomplete if lacks_ids(event) else complete).append(event)
    await ctx.enqueue(complete)
    walks = page.lost or any(each.event_type not in APPROVAL_EVENTS for each in incomplete)
    looks = page.lost or any(each.event_type in APPROVAL_EVENTS for each in incomplete)
    await _read_anew(job, ctx, people=walks, approvals=looks)
    return _AcceptedPage(
        events=len(complete),
        unreadable=len(page.entries) - len(complete),
        walks=walks,
        lost=int(page.lost),
        refused=page.refused,
        more=page.more,
    ).model_dump()


async def _read_anew(job: MissedEvents, ctx: Context, *, people: bool, approvals: bool) -> None:
    """Have read what events that were lost may have been about."""
    if people:
        await ctx.spawn([UserSync(app=job.app)], keys=["walk"])
    if approvals:
        await ctx.approval_states.look_at_all(ctx.now())


def _read(app: str, entries: Sequence[Json]) -> list[Event]:
    events: list[Event] = []
    for entry in entries:
        try:
            events.append(event_payload.of_failed(app, entry))
        except ContractError:
            continue
    return events
