"""Work notifications about an approval: to those who may give it, and to those who wrote what it is about."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.language import CHINESE, language_of, spoken, tr
from dingrelay_producers.settings import Settings
from dingrelay_producers.time_spans import length
from dingrelay_producers.zone import local
from dingrelay_tasks.message_send import MessageSend
from dingrelay_workers.campaigns.models import CampaignRow
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.directory.service import find_people

BEGINNING = 120
"""Characters of a campaign's text that a card shows."""
_MARKS = re.compile(r"[\[\]<>`*_#!|~\\]|\s+")
"""Characters of Markdown, which the text of a campaign must not become on a card, and runs of blanks."""
_SUBMITTED, _DECIDED = "review", "decision"


async def to_reviewers(
    settings: Settings,
    connection: AsyncConnection,
    row: CampaignRow,
    reviewers: Sequence[str],
    by: str,
    at: datetime,
) -> MessageSend:
    """Says to reviewers who submitted a campaign, how its text begins, to how many people, when, and at what cost."""
    person = await _named(connection, row.app, by)
    with _of_reader(settings):
        lines = [
            f"**{_plain(row.name)}**",
            _beginning(row.message),
            tr("Submitted by {person}", person=person),
            *_facts(row),
        ]
        title = tr("A campaign waits for your approval")
        return _job(settings, row, reviewers, title, lines, f"{_SUBMITTED} {row.id} {at}")


async def to_writers(
    settings: Settings,
    connection: AsyncConnection,
    row: CampaignRow,
    submitted_by: str,
    decision: str,
    by: str,
    reason: str,
    at: datetime,
) -> MessageSend | None:
    """Says to the writers of a campaign, and to who submitted it, how its approval was decided; None if no directory has them."""
    writers = {submitted_by, *(row.writers or ())} - {by}
    present = UserRow.userid.in_(writers) & UserRow.left_at.is_(None)
    people = [
        person.userid
        for person in await find_people(connection, present, app=row.app, departments=0)
    ]
    if not people:
        return None
    person = await _named(connection, row.app, by)
    with _of_reader(settings):
        name = f"**{_plain(row.name)}**"
        if decision == "approved":
            title = tr("Your campaign is approved")
            lines = [name, tr("{person} approved it.", person=person), tr("You can send it now.")]
        else:
            title = tr("Your campaign was rejected")
            rejected = tr("{person} rejected it: {reason}", person=person, reason=_plain(reason))
            lines = [name, rejected]
        return _job(settings, row, people, title, lines, f"{_DECIDED} {row.id} {at}")


def _of_reader(settings: Settings) -> Any:
    """The language of the settings; without one, DingTalk's own."""
    return spoken(language_of(settings.language) or CHINESE)


async def _named(connection: AsyncConnection, app: str, user: str) -> str:
    """Name and department of a person; what there is of it."""
    people = await find_people(connection, UserRow.userid == user, app=app, departments=1)
    if not people or not people[0].name:
        return user
    department = "".join(people[0].departments)
    return f"{people[0].name} ({department})" if department else people[0].name


def _facts(row: CampaignRow) -> Iterator[str]:
    """People, time and cost."""
    yield tr("To {recipients:,} people", recipients=row.recipients)
    if row.start_at is not None:
        yield tr("Not before {moment}", moment=local(row.start_at)[:16])
    else:
        yield tr("As soon as it is sent")
    if row.checked:
        calls, minutes = row.checked["calls"], row.checked["minutes"]
        sending = length(max(1.0, minutes * 60))
        cost = tr("{calls:,} calls, about {sending} of sending", calls=calls, sending=sending)
        if share := row.checked.get("quota_share"):
            cost += tr("; {share:.1%} of the month's calls", share=share)
        yield cost


def _beginning(message: Mapping[str, Any]) -> str:
    """The beginning of the longest text of a message; its type where it has none."""
    text = _plain(max(_texts(message), key=len, default="")) or str(message.get("msgtype", ""))
    return text if len(text) <= BEGINNING else f"{text[:BEGINNING]}…"


def _texts(message: Mapping[str, Any]) -> Iterator[str]:
    for name, value in message.items():
        if isinstance(value, dict):
            yield from _texts(cast("dict[str, Any]", value))
        elif isinstance(value, str) and name in {"title", "text", "content", "markdown"}:
            yield value


def _plain(text: str) -> str:
    return " ".join(_MARKS.sub(" ", text).split())


def _job(
    settings: Settings,
    row: CampaignRow,
    users: Sequence[str],
    title: str,
    lines: Sequence[str],
    key: str,
) -> MessageSend:
    """The message; with a button to the campaign's page where the console has a URL."""
    text = "\n\n".join([f"### {title}", *lines])
    message: dict[str, object] = {"msgtype": "markdown"}
    message["markdown"] = {"title": title, "text": text}
    if url := settings.console_url.rstrip("/"):
        card = {"title": title, "markdown": text, "single_title": tr("Look at it")}
        card["single_url"] = f"{url}/campaigns/{row.id}"
        message = {"msgtype": "action_card", "action_card": card}
    where = {"app": row.app, "sender": "dingrelay", "lane": "urgent", "to": {"users": [*users]}}
    return MessageSend.parse({**where, "message": message, "idempotency_key": key})
