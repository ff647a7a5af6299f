"""missed-events: reads what DingTalk could not push over HTTP, while it still keeps it.

After two retries DingTalk keeps an event for 3 to 5 minutes (API §7.1). The receiver of its pushes
enqueues this job when it starts, and when it could not take a push: once at once, and once later.
"""

from collections.abc import Sequence
from functools import partial

from dingrelay_tasks import event_payload
from dingrelay_tasks.approval_event import APPROVAL_EVENTS
from dingrelay_tasks.context import Context
from dingrelay_tasks.contract import EVENTS_QUEUE, ContractError, Deliverable, Json, Lane
from dingrelay_tasks.event import Event, lacks_ids
from dingrelay_tasks.kinds import kind
from dingrelay_tasks.user_sync import UserSync

MOST_PAGES = 100
"""Most pages of a query, of up to 200 events each: more than DingTalk pushes in five minutes on any edition."""
MOST_LOST = 2
"""Lost answers after which the rest is left to the second time that the list is read."""


class MissedEvents(Deliverable):
    """Read the events of an app that DingTalk could not push."""

    lane: Lane = "urgent"


@kind("missed-events", MissedEvents, queue=EVENTS_QUEUE, api="events.missed")
async def run(job: MissedEvents, ctx: Context) -> Json:
    """Accept each event as a job.

    What DingTalk has returned it forgets, so each page is in Redis before the next one is requested, and
    an answer that is lost has everything read that it may have been about.

    Returns:
        How many events were accepted as jobs, those that were known already among them (`events`); how
        many could not be read, or don't say what they are about (`unreadable`); whether the organisation is
        walked, since people or departments may be among the latter, or among what was lost (`walks`);
        answers that did not arrive, and took their events along (`lost`); and DingTalk's code, if it lets
        the app have none (`refused`).
    """
    counts: Json = {"events": 0, "unreadable": 0, "walks": False, "lost": 0, "refused": ""}
    if ctx.intent is not None:
        # The worker vanished between the answer and the jobs that it leads to.
        await _read_again(job, ctx, people=True, approvals=True)
        ctx.confirm_not_executed()
        counts |= {"lost": 1, "walks": True}
    for number in range(MOST_PAGES):
        page = await ctx.once(f"page:{number}", partial(_take_page, job, ctx))
        for name in ("events", "unreadable", "lost"):
            counts[name] += page[name]
        counts |= {"walks": counts["walks"] or page["walks"], "refused": page["refused"]}
        if not page["more"] or counts["lost"] >= MOST_LOST:
            break
    return counts


async def _take_page(job: MissedEvents, ctx: Context) -> Json:
    """Read a page and accept its events; what it adds to the result, and whether there may be `more`."""
    page = await ctx.missed_events()
    incomplete: list[Event] = []
    complete: list[Event] = []
    for event in _read_entries(job.app, page.entries):
        (incomplete if lacks_ids(event) else complete).append(event)
    await ctx.enqueue(complete)
    walks = page.lost or any(event.event_type not in APPROVAL_EVENTS for event in incomplete)
    looks = page.lost or any(event.event_type in APPROVAL_EVENTS for event in incomplete)
    await _read_again(job, ctx, people=walks, approvals=looks)
    return {
        "events": len(complete),
        "unreadable": len(page.entries) - len(complete),
        "walks": walks,
        "lost": int(page.lost),
        "refused": page.refused,
        "more": page.more,
    }


async def _read_again(job: MissedEvents, ctx: Context, *, people: bool, approvals: bool) -> None:
    """Have read what events that were lost may have been about."""
    if people:
        await ctx.spawn([UserSync(app=job.app)], keys=["walk"])
    if approvals:
        await ctx.approval_states.look_up_all(ctx.now())


def _read_entries(app: str, entries: Sequence[Json]) -> list[Event]:
    events: list[Event] = []
    for entry in entries:
        try:
            events.append(event_payload.of_failed(app, entry))
        except ContractError:
            continue
    return events
