"""One job as a person looks it up: by the beginning of its id, with the people it is for."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis import Redis

from dingrelay_producers.client.history_documents import JobDetails
from dingrelay_producers.client.in_threads import run
from dingrelay_producers.errors import InvalidArgument, ServiceUnavailable
from dingrelay_producers.store import keys
from dingrelay_producers.store.status import JobStatus, json_object, recipients
from dingrelay_tasks.contract import Contract, ContractError
from dingrelay_tasks.kinds import DEFAULT_KIND
from dingrelay_tasks.robot_names import ROBOT_MESSAGE
from dingrelay_tasks.sentence import en

SHORTEST = 4
"""Characters of an id that are taken for its beginning."""
NAMED = 5
"""Jobs that are named where several ids begin so."""
LOOKED_AT = 5_000
"""Ids that Redis compares in one step."""
_BEGINNING = re.compile(r"[0-9A-Za-z_-]+")


def whole_id(
    use: Callable[[Callable[[Redis], Any]], Any], open_history: Callable[[], Any], text: str
) -> str:
    """The id of the one job that is meant.

    Args:
        use: asks Redis.
        open_history: opens the history, which takes long to load; None where it is not installed.
        text: an id, or its beginning, with or without ``…`` behind it.

    Raises:
        InvalidArgument: several ids begin so.
        ServiceUnavailable: Redis can't be used.
    """
    id_ = text.strip()
    beginning = id_.removesuffix("…").removesuffix("...")
    if use(lambda redis: redis.exists(keys.job(id_))):
        return id_
    if len(beginning) < SHORTEST or not _BEGINNING.fullmatch(beginning):
        return id_
    matching_ids: set[str] = use(lambda redis: _beginning(redis, beginning))
    if len(matching_ids) <= 1 and (history := open_history()) is not None:
        try:
            matching_ids |= set(run(history.beginning(beginning, NAMED)))
        except ServiceUnavailable:
            if not matching_ids:
                raise
    if len(matching_ids) > 1:
        raise several(sorted(matching_ids), beginning)
    return next(iter(matching_ids), id_)


def several(ids: Sequence[str], beginning: str) -> InvalidArgument:
    """The error of a beginning that several ids have; some are named."""
    examples = ", ".join(ids[:NAMED])
    return InvalidArgument(
        "job_id", en("the beginning of one id; there are {}", examples), beginning
    )


def details_of(job_id: str, fields: Mapping[bytes, bytes]) -> JobDetails | None:
    """A job by its record; None if there is none.

    Raises:
        UnreadableRecord: a field of it is not what this release writes.
    """
    if b"state" not in fields:
        return None
    status = JobStatus.from_record(job_id, fields)
    job = json_object(fields.get(b"payload", b""))
    by_user = recipients(status.kind, status.state, job, fields)
    return JobDetails(status, _key(job), by_user)


def recall_of(details: JobDetails) -> Contract:
    """The job that takes back a message.

    Raises:
        ContractError: it has made no call that could be.
    """
    status = details.status
    if status.kind == ROBOT_MESSAGE:
        return _robot_recall(status)
    if status.kind != DEFAULT_KIND:
        raise ContractError("job", en("is of kind {}, and no message", status.kind))
    if not status.state.ended:
        raise ContractError(
            "job", en("is {}: cancel it, or recall it once it has ended", status.state)
        )
    calls: list[dict[str, Any]] = (status.result or {}).get("calls", [])
    if not calls:
        raise ContractError("job", "has made no call that is known, so nothing can be recalled")
    names_users = not _goes_alone(status.result or {})
    sent = [
        {"task_id": call["task_id"], "named": names_users, "repeated": call.get("repeated", False)}
        for call in calls
    ]
    # Users that were left out may be in the same call by another job, whose message they got first.
    sent_to = ("accepted", "unverified")
    people = (user for user, outcome in details.recipients.items() if outcome in sent_to)
    fields = {"message": status.id, "calls": sent, "users": sorted(people) if names_users else []}
    unknown = sum(outcome == "unknown" for outcome in details.recipients.values())
    more = {"app": status.app, "lane": status.lane, "unknown": unknown}
    from dingrelay_tasks.message_recall import MessageRecall

    return MessageRecall.parse({**fields, **more})


def _robot_recall(status: JobStatus) -> Contract:
    result = status.result or {}
    posts = [post for post in result.get("posts", []) if post["query_key"]]
    if result.get("digest"):
        raise ContractError("job", "is in one message with others, which stays")
    if not posts:
        raise ContractError("job", "has posted nothing that can be recalled")
    from dingrelay_tasks.robot_recall import RobotRecall

    return RobotRecall.parse({"message": status.id, "posts": posts, "lane": status.lane})


def _goes_alone(result: Mapping[str, Any]) -> bool:
    """Whether a message surely shares none of its calls: it is for departments or everyone, or for many.

    One for fewer may share each of several calls, where a limit of the app's makes them small.
    """
    from dingrelay_tasks.message_result import LEFT_OUT
    from dingrelay_tasks.message_send import USERS_PER_CALL

    if not all(call["recipients"] for call in result["calls"]):
        return True
    left_out = sum(len(result.get(reason, ())) for reason in (*LEFT_OUT, "unresolved"))
    return bool(result["accepted"] + left_out > USERS_PER_CALL)


def _beginning(redis: Redis, beginning: str) -> set[str]:
    """The ids of the newest and of the dead jobs that begin so."""
    ids: set[str] = set()
    for index in (keys.RECENT, keys.DEAD):
        for job, _ in redis.zscan_iter(index, match=f"{beginning}*", count=LOOKED_AT):
            ids.add(job.decode(errors="replace"))
    return ids


def _key(job: Mapping[str, Any]) -> str:
    key = job.get("idempotency_key")
    return key if isinstance(key, str) else ""
