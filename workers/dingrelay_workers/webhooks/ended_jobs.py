"""Notices of jobs that ended: `job.…`, and `dingtalk.…` for events of DingTalk."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from redis.asyncio import Redis
from structlog.stdlib import get_logger

from dingrelay_producers.errors import UnreadableRecord
from dingrelay_producers.store.record import moment_of
from dingrelay_producers.store.status import JobStatus, json_object
from dingrelay_producers.tracing import spans
from dingrelay_tasks.event_payload import ROBOT_MESSAGE
from dingrelay_tasks.kinds import KINDS
from dingrelay_tasks.robot_names import ROBOTS
from dingrelay_tasks.sentence import en
from dingrelay_workers.outbox import notice_types
from dingrelay_workers.outbox.endings import EndedRecord, Ending, read_records
from dingrelay_workers.outbox.notice import Notice, Subject, id_of

EVENT = "event"
"""Kind of the jobs that carry DingTalk's events."""
Wanted = Callable[[Subject], bool]
"""Whether anybody takes such a notice."""

log = get_logger("dingrelay.webhooks")


async def notices_of(redis: Redis, endings: Sequence[Ending], wanted: Wanted) -> list[Notice]:
    """The notices of ended jobs; none of dingrelay's internal jobs."""
    wanted_endings = [ending for ending in endings if _may_be_wanted(ending, wanted)]
    records = await read_records(
        redis, wanted_endings, with_payload=lambda ending: ending.kind == EVENT
    )
    notices = (notice for record in records if (notice := _notice(record)) is not None)
    return [notice for notice in notices if wanted(notice.subject)]


def _notice(record: EndedRecord) -> Notice | None:
    """The notice of one job, without its record where JSON cannot hold that.

    It must not hold up the others.
    """
    ending = record.ending
    make = _event if ending.kind == EVENT else _job
    try:
        notice = make(record)
        if notice is not None:
            json.dumps(dict(notice.data), allow_nan=False)
    except (ValueError, RecursionError) as error:
        log.warning("ended_job_unreadable", id=ending.id, reason=type(error).__name__)
        return None if ending.kind == EVENT else _job(EndedRecord(ending, {}, record.omitted))
    return notice


def _may_be_wanted(ending: Ending, wanted: Wanted) -> bool:
    if ending.kind == EVENT:
        return True  # its type is in its record
    kind = KINDS.get(ending.kind)
    name = f"job.{ending.state}"
    if kind is None or not kind.is_reported or not notice_types.is_type(name):
        return False
    if ending.app == ROBOTS:
        return True  # its target is in its record
    return wanted(Subject(name, ending.app, ending.sender, ending.kind))


def _job(record: EndedRecord) -> Notice:
    ending = record.ending
    at = moment_of(ending.at)
    document = _document(record, at)
    return Notice(
        id=id_of("job", ending.id, ending.state, str(ending.at)),
        type=f"job.{ending.state}",
        app=ending.app,
        at=at,
        data=document,
        sender=ending.sender,
        kind=ending.kind,
        target=document.get("target", ""),
        trace=_trace(record),
    )


def _document(record: EndedRecord, at: datetime) -> dict[str, Any]:
    """The job as JSON, as it was when it ended; fields that its record lacks are left out."""
    ending = record.ending
    summary: dict[str, Any] = {
        "id": ending.id,
        "kind": ending.kind,
        "app": ending.app,
        "sender": ending.sender,
        "state": ending.state,
        "settled_at": at.isoformat().replace("+00:00", "Z"),
    }
    try:
        document = JobStatus.from_record(ending.id, record.fields).to_json()
    except UnreadableRecord:
        return summary
    for candidate in (document.get("error") or {}).get("candidates", ()):
        candidate.pop("title", None)  # names a person; the job has it for those who may read it
    return {**document, "result_omitted": True} if "result" in record.omitted else document


def _event(record: EndedRecord) -> Notice | None:
    """An event, however its job ended: what follows from it here is another matter."""
    ending = record.ending
    if "payload" in record.omitted:
        log.warning("event_too_large", id=ending.id)
        return None
    job = json_object(record.fields.get(b"payload", b""))
    event_type = str(job.get("event_type", ""))
    passed_on = event_type != ROBOT_MESSAGE
    name = notice_types.DINGTALK + event_type if passed_on else event_type
    if not notice_types.is_type(name):
        log.warning(
            "event_notice_skipped",
            id=ending.id,
            reason=en("its type is no name, or its record is gone"),
        )
        return None
    return Notice(
        # Without its state: it is sent once, also if a person has its job carried out again.
        id=id_of("event", ending.id),
        type=name,
        app=ending.app,
        at=_born(job.get("born_at"), ending.at),
        data={
            "event_id": job.get("event_id", ""),
            "corp_id": job.get("corp_id", ""),
            "event": job.get("data", {}),
        },
        kind=EVENT,
        trace=_trace(record),
    )


def _trace(record: EndedRecord) -> str:
    """The trace that the job belonged to."""
    parent, _, state = record.fields.get(b"trace", b"").decode(errors="replace").partition(" ")
    return spans.read(parent, state)


def _born(sent_at: object, ended: int) -> datetime:
    """When an event happened; when its job ended, if DingTalk did not say."""
    moment = sent_at if isinstance(sent_at, int) and 0 < sent_at < 2**43 else ended
    return moment_of(moment)
