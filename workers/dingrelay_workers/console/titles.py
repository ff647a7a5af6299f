"""Titles of messages, from the records of their jobs: summaries have none, since logs show them."""

import json
from collections.abc import Mapping
from typing import Any, cast

from redis.asyncio import Redis

from dingrelay_producers.client.lanes import ALL, LaneName
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.language import tr
from dingrelay_producers.store import keys, record, transitions
from dingrelay_producers.store.scripts import run_async

MESSAGES = frozenset({"message-send", "robot-message"})
"""Kinds of jobs with a message."""
LONGEST = 20_000
"""Bytes of a job whose title is read: one to thousands of people is not taken apart for a list."""
_WITH_TITLE = ("markdown", "link", "action_card", "actionCard", "oa")


async def titles_of(redis: Redis, jobs: Mapping[str, str]) -> dict[str, str]:
    """Titles of those messages that have one and whose records are there.

    A text has none: its first words may be all of it, such as a code to sign in.

    Args:
        redis: with the records.
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
        answer = await run_async(redis, call)
    titles = {
        job_id: title_in(record.fields([pairs]).get(b"payload", b""))
        for job_id, pairs in zip(messages, answer, strict=True)
    }
    return {job_id: title for job_id, title in titles.items() if title}


def title_in(payload: bytes) -> str:
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


def lane_words(name: str) -> str:
    """A lane such as ``hr:bulk``, or a sender in it, in words."""
    lane = LaneName.parse(name)
    match lane:
        case LaneName(sender=""):
            return (
                tr("all lanes of {app}", **lane._asdict())
                if lane.lane == ALL
                else tr("lane {lane} of {app}", **lane._asdict())
            )
        case LaneName(lane="all"):
            return tr("sender {sender} of {app}", **lane._asdict())
        case _:
            return tr("sender {sender} of {app} in the lane {lane}", **lane._asdict())


def robots_in(result: Mapping[str, Any] | None) -> list[str]:
    """The robots that posted a message, by the result of its job."""
    posts = cast("list[Any]", (result or {}).get("posts") or [])
    return list(
        dict.fromkeys(str(post["robot"]) for post in posts if _part({"": post}, "").get("robot"))
    )


def _part(parent: object, name: str) -> dict[str, Any]:
    part = cast("dict[str, Any]", parent).get(name) if isinstance(parent, dict) else None
    return cast("dict[str, Any]", part) if isinstance(part, dict) else {}
