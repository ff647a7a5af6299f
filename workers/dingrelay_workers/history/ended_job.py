"""Reads the history's columns from the record of an ended job."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dingrelay_producers.store.status import json_object, recipients
from dingrelay_workers.dingtalk import lenient
from dingrelay_workers.history.store import EndedJob
from dingrelay_workers.outbox.ended_records import EndedRecord

MOST_RECIPIENTS = 1_000
"""People of one job who are listed one by one."""
_ID = "_id"
"""How the fields of results end that hold DingTalk's ids: task_id, request_id, instance_id …"""


def ended_job(record: EndedRecord, *, content: bool) -> EndedJob:
    """The rows of a job.

    What its record does not tell, or not in a readable way, is left out: one job must not keep all
    others from being kept.

    Args:
        record: as it was when the job ended.
        content: whether what the job asked for is kept.
    """
    ending = record.ending
    read = _Reader(record.fields)
    error = read.json("error")
    job = read.json("payload")
    ended = _moment(ending.at)
    row: dict[str, Any] = {
        "job": ending.id,
        "kind": ending.kind,
        "app": ending.app,
        "sender": ending.sender,
        "key": _text(job.get("idempotency_key"), 256),
        "lane": read.text("lane")[:16],
        "state": ending.state,
        "created_at": read.moment("created") or ended,
        "started_at": read.moment("started"),
        "ended_at": ended,
        "attempts": read.number("attempts"),
        "throttles": read.number("throttles"),
        "error_class": _text(error.get("class"), 32),
        "error_code": _text(error.get("code"), 128),
        "ids": _ids(read.json("result")),
        "summary": read.text("summary"),
        "content": read.text("payload") or None if content else None,
    }
    by_user = recipients(ending.kind, ending.state, job, record.fields)
    if len(by_user) > MOST_RECIPIENTS:
        by_user = {}
    return EndedJob(
        row, {_text(user, 128): was for user, was in by_user.items() if _is_userid(user)}
    )


def _is_userid(value: object) -> bool:
    """A malformed job may name anything; a text that no database takes is no userid."""
    return isinstance(value, str) and lenient.text(value) == value


def _ids(result: Mapping[str, Any]) -> list[str]:
    calls: Any = result.get("calls")
    answers: list[Any] = [result, *(calls if isinstance(calls, list) else [])]
    return [
        str(value)
        for each in answers
        if isinstance(each, dict)
        for name, value in each.items()
        if name.endswith(_ID) and value
    ]


class _Reader:
    """The fields of a record; what can't be read is as if it were not there."""

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self._fields = fields

    def text(self, name: str) -> str:
        # PostgreSQL takes no NUL in texts.
        return self._fields.get(name.encode(), b"").decode(errors="replace").replace("\0", "")

    def number(self, name: str) -> int:
        try:
            return int(self._fields.get(name.encode(), b"0"))
        except ValueError:
            return 0

    def moment(self, name: str) -> datetime | None:
        milliseconds = self.number(name)
        return _moment(milliseconds) if milliseconds else None

    def json(self, name: str) -> dict[str, Any]:
        return json_object(self._fields.get(name.encode(), b""))


def _text(value: object, longest: int) -> str:
    return lenient.text(value)[:longest] if isinstance(value, str) else ""


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
