"""The pages of people: who got what."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from urllib.parse import quote

from aiohttp import web

from dingrelay_producers.client.history_documents import Message
from dingrelay_producers.language import tr, translated
from dingrelay_producers.spreadsheet import SPREADSHEET, csv_line
from dingrelay_producers.zone import local
from dingrelay_tasks.sentence import en
from dingrelay_workers.console.declared import at
from dingrelay_workers.console.job_filter import time_range
from dingrelay_workers.console.rendering import title_of
from dingrelay_workers.console.sentences import OUTCOMES, meaning
from dingrelay_workers.console.titles import titles_of
from dingrelay_workers.console.visit import PAGE, WRITERS, Visit
from dingrelay_workers.dingtalk.classify import hint_of
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.http import paging


@at("/people", scope="directory:read", menu=("people", 20, en("Who got it")))
async def people(visit: Visit) -> web.Response:
    """Find a person by name, userid or address."""
    text = visit.query("q")[:100]
    if not text:
        return visit.page("people.html", text="", people=[], more=0)
    result = await visit.service(HistoryService).search(text, app=None, limit=PAGE)
    if len(result.people) == 1:
        return visit.redirect(f"/people/{quote(result.people[0].userid, safe='')}")
    more = result.matches - len(result.people)
    return visit.page("people.html", text=text, people=result.people, more=more)


@at("/people/{user}", scope="jobs:read")
async def person(visit: Visit) -> web.Response:
    """Every message to a person."""
    user, (since, before) = visit.part("user"), _range(visit)
    person_history, behind = await visit.service(HistoryService).person(
        user, app=None, limit=PAGE, since=since, before=visit.after(datetime, str) or before
    )
    # A broadcast from the console names no system as its sender.
    by_people = {
        message.campaign
        for message in person_history.messages
        if message.campaign and not message.sender
    }
    writers = await WRITERS["campaign"](visit, by_people) if by_people else {}
    await visit.know(*(userid for userids in writers.values() for userid in userids))
    jobs = {message.job: message.name.partition(" ")[0] for message in person_history.messages}
    return visit.page(
        "person.html",
        user=user,
        known_as=person_history.known_as,
        messages=[
            (message, meaning(OUTCOMES, message.outcome), hint_of(message.reason))
            for message in person_history.messages
        ],
        senders={
            campaign: ", ".join(visit.name_of(userid) for userid in userids)
            for campaign, userids in writers.items()
        },
        titles=await titles_of(visit, jobs),
        since=visit.query("since"),
        until=visit.query("until"),
        cursor=paging.encode(*behind) if behind else "",
    )


@at("/people/{user}/messages.csv", scope="jobs:read")
async def messages_csv(visit: Visit) -> web.StreamResponse:
    """Every message to a person, in a time, as a file."""
    user = visit.part("user")
    since, before = _range(visit)
    history = visit.service(HistoryService)

    async def lines() -> AsyncIterator[bytes]:
        titles = (
            tr("at"),
            tr("what became of it"),
            tr("reason"),
            tr("message"),
            tr("sender"),
            tr("app"),
        )
        yield csv_line(titles).encode(SPREADSHEET)
        behind = before
        while True:
            person_history, behind = await history.person(
                user, app=None, limit=PAGE, since=since, before=behind
            )
            yield "".join(csv_line(_row(message)) for message in person_history.messages).encode()
            if behind is None:
                break

    return await visit.send_csv(lines(), tr("Messages to {user}", user=user))


def _row(message: Message) -> Sequence[object]:
    return (
        *(local(message.at)[:19], translated(meaning(OUTCOMES, message.outcome).words)),
        *(translated(message.reason), title_of(message.name) or message.job or message.campaign),
        *(message.sender, message.app),
    )


def _range(visit: Visit) -> tuple[datetime | None, tuple[datetime, str] | None]:
    """The time of the URL: since when, and before which place."""
    since, until = time_range(visit)
    return since, (until, "") if until else None
