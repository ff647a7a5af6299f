"""Titles of messages, from the records of their jobs: summaries have none, since logs show them."""

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from dingrelay_producers.client.lanes import ALL, LaneName
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.language import tr, translated
from dingrelay_producers.store import keys, record, transitions
from dingrelay_producers.store.scripts import round_trip, run_async
from dingrelay_workers.console.sentences import KINDS
from dingrelay_workers.history.service import HistoryService

if TYPE_CHECKING:
    from dingrelay_workers.console.visit import Visit

MESSAGES = frozenset({"message-send", "robot-message"})
"""Kinds of jobs with a message."""
LONGEST = 20_000
"""Bytes of a job whose title is read: one to thousands of people is not taken apart for a list."""
_WITH_TITLE = ("markdown", "link", "action_card", "actionCard", "oa")


async def titles_of(visit: "Visit", jobs: Mapping[str, str]) -> dict[str, str]:
    """Titles of those messages that have one, by their records, or by the history where it keeps contents.

    A text has none: its first words may be all of it, such as a code to sign in.

    Args:
        visit: of the page.
        jobs: id → kind.
    """
    messages = [job_id for job_id, kind in jobs.items() if kind in MESSAGES]
    if not messages:
        return {}
    call = transitions.read_records(
        records=[keys.job(job_id) for job_id in messages],
        longest=LONGEST,
        with_payload=[True] * len(messages),
    )
    async with asking():
        answer = await run_async(visit.context.redis, call)
    payloads: dict[str, bytes | str | None] = {
        job_id: record.fields([pairs]).get(b"payload")
        for job_id, pairs in zip(messages, answer, strict=True)
    }
    if gone := [job_id for job_id, payload in payloads.items() if payload is None]:
        with suppress(ServiceUnavailable):
            payloads |= {
                job_id: content
                for job_id, (_, content) in (await visit.service(HistoryService).kept(gone)).items()
            }
    titles = {job_id: title_in(payload) for job_id, payload in payloads.items() if payload}
    return {job_id: title for job_id, title in titles.items() if title}


async def names_of_jobs(visit: "Visit", ids: Collection[str]) -> Mapping[str, str]:
    """Title of each of these jobs, or its kind in words; none of one that is forgotten."""
    redis, history = visit.context.redis, visit.service(HistoryService)
    async with asking():
        answers = await round_trip(redis, [("HGET", keys.job(job_id), "kind") for job_id in ids])
    kinds = {
        job_id: kind.decode()
        for job_id, kind in zip(ids, answers, strict=True)
        if isinstance(kind, bytes)
    }
    with suppress(ServiceUnavailable):
        kept = await history.kept([job_id for job_id in ids if job_id not in kinds])
        kinds |= {job_id: kind for job_id, (kind, _) in kept.items()}
    titles = await titles_of(visit, kinds)
    return {job_id: titles.get(job_id) or kind_words(kind) for job_id, kind in kinds.items()}


def kind_words(kind: str) -> str:
    """A kind of job for people."""
    return translated(KINDS.get(kind, kind))


def title_in(payload: bytes | str) -> str:
    """The title of the message that a job holds; empty for none, and where it can't be read."""
    try:
        message = _part(json.loads(payload), "message")
    except ValueError:
        return ""
    for name in _WITH_TITLE:
        body = _part(message, name)
        title = body.get("title") or _part(body, "body").get("title")
        if isinstance(title, str):
            return title.strip()
    return ""


def target_words(target: str) -> str:
    """A target of robots such as ``group:oncall``, in words."""
    kind, _, name = target.partition(":")
    match kind:
        case "group":
            return tr("group {name}", name=name)
        case "robot":
            return tr("robot {name}", name=name)
        case _:
            return target


def lane_words(name: str, only_app: str) -> str:
    """A lane such as ``hr:bulk``, or a sender in it, in words, without the app that goes without saying."""
    lane = LaneName.parse(name)
    sender = tr("sender {sender}", sender=lane.sender) if lane.sender else ""
    all_lanes = "" if sender else tr("all lanes")
    where = all_lanes if lane.lane == ALL else tr("lane {lane}", lane=lane.lane)
    return ", ".join(filter(None, (sender, where, lane.app if lane.app != only_app else "")))


def robots_in(result: Mapping[str, Any] | None) -> list[str]:
    """The robots that posted a message, by the result of its job."""
    posts = cast("list[Any]", (result or {}).get("posts") or [])
    return list(
        dict.fromkeys(str(post["robot"]) for post in posts if _part({"": post}, "").get("robot"))
    )


def _part(parent: object, name: str) -> dict[str, Any]:
    part = cast("dict[str, Any]", parent).get(name) if isinstance(parent, dict) else None
    return cast("dict[str, Any]", part) if isinstance(part, dict) else {}
