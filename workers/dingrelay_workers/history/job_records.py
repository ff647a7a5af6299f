"""A person in the records of jobs.

No key there is indexed by person, since no job needs it: all keys are scanned, and a record is read where the
userid stands anywhere in it. Whether it names the person, the types of its contract say.

A record with the person is left alone while its job is open, and for some time after its end: the
limits of DingTalk's day and a recall need it. Then it is discarded; the job's line in the history stays.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import cast
from urllib.parse import quote

from redis.asyncio import Redis

from dingrelay_producers.store import keys, record
from dingrelay_producers.store.record import moment_of
from dingrelay_producers.store.script_functions import Key, Keys, script
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import json_object, recipients, steps_in
from dingrelay_tasks.contract import Json, batched
from dingrelay_tasks.event import Event
from dingrelay_tasks.kinds import KINDS, Kind, Steps
from dingrelay_tasks.person_erase import PersonErase
from dingrelay_tasks.person_fields import people_in
from dingrelay_tasks.sentence import en
from dingrelay_workers.history.models import UNRESOLVED
from dingrelay_workers.store.scans import pages_of_keys
from dingrelay_workers.subjects import NEEDED, DataSubject, Erasing, PersonalData, Rows, Stores

AT_ONCE = 50
"""Records that one script looks at: a record takes some microseconds, the largest one a millisecond."""
TOGETHER = 4
"""Scripts that leave in one round trip: Redis carries them out one behind the other."""


@script("dingrelay_workers.history")
def _find_person(*, records: Keys, names: Sequence[str], instances: Sequence[str]) -> None: ...


@script("dingrelay_workers.history")
def _rename_resolver(*, record: Key, before: bytes, after: str) -> None:
    """`before` and `after` are the resolution as the record has it and is to have it."""


_RESOLVED = b"resolved"
_IN_ERRORS = ("answer.body.**",)
"""Fields of an error with userids: DingTalk's own words."""


async def export(stores: Stores, subject: DataSubject) -> Rows:
    """Every job whose record names them."""
    return [
        {
            "job": job,
            "kind": _text(fields, b"kind"),
            "app": _text(fields, b"app"),
            "sender": _text(fields, b"sender"),
            "state": _text(fields, b"state"),
            "created_at": _moment(fields, b"created"),
            "asked": json_object(fields.get(b"payload", b"")),
            "result": json_object(fields.get(b"result", b"")),
        }
        async for job, fields in _records(stores.redis, subject)
    ]


async def erase(stores: Stores, erasing: Erasing) -> None:
    """Discard the records of ended jobs that are needed no more, and note which ones still are."""
    async for job, fields in _records(stores.redis, erasing):
        accepted = _moment(fields, b"created")
        if accepted is not None and accepted <= erasing.since:
            await _erase_record(stores.redis, job, fields, erasing)


async def _erase_record(
    redis: Redis, job: str, fields: Mapping[bytes, bytes], erasing: Erasing
) -> None:
    state, settled = _text(fields, b"state"), _moment(fields, b"settled")
    if settled is None or not State(state).ended:
        due = _moment(fields, b"due") if state in {State.SNOOZED, State.RETRYING} else None
        hint = en("it is carried out first; `dingrelay job cancel {}` prevents that", job)
        erasing.leave("jobs", job, en("the job is {}", state), due, hint=hint)
        return
    kind = KINDS.get(_text(fields, b"kind"))
    if kind is not None and kind.ephemeral:
        erasing.leave(
            "jobs", job, en("the program that made the job has not read yet how it ended")
        )
        return
    if settled + NEEDED > erasing.now:
        erasing.leave(
            "jobs",
            job,
            en("the job ended lately: the limits of the day and a recall go by its record"),
            settled + NEEDED,
        )
        return
    if erasing.user not in _people(fields) and not _is_about(fields, erasing):
        after = {**json_object(fields[_RESOLVED]), "by": erasing.tombstone}
        change = _rename_resolver(
            record=keys.job(job), before=fields[_RESOLVED], after=record.canonical_json(after)
        )
        erasing.changed["jobs"] += int(await run_async(redis, change))
        return
    # A requeued job has another life, and ends at another time.
    if await run_async(redis, record.discard(job, settled=_text(fields, b"settled"))):
        erasing.changed["jobs"] += 1
    else:
        erasing.leave("jobs", job, en("the job has just had another life"))


async def _records(
    redis: Redis, subject: DataSubject
) -> AsyncIterator[tuple[str, Mapping[bytes, bytes]]]:
    """Every job whose record names the person, with the record."""
    prefix = keys.job("")
    async for page in pages_of_keys(redis, prefix):
        for key in await _candidates(redis, page, subject):
            fields = cast("dict[bytes, bytes]", await redis.hgetall(key))
            if _names(fields, subject):
                yield key.decode().removeprefix(prefix), fields


async def _candidates(redis: Redis, records: Sequence[str], subject: DataSubject) -> list[bytes]:
    """The records that may name the person: all others need not be read."""
    user = subject.user
    spelled = {json.dumps(user, ensure_ascii=plain)[1:-1] for plain in (False, True)}
    names = {user, quote(user, safe=""), *spelled}
    instances = list(subject.instances)
    candidates: list[bytes] = []
    for together in batched(batched(records, AT_ONCE), TOGETHER):
        calls = [
            run_async(redis, _find_person(records=batch, names=list(names), instances=instances))
            for batch in together
        ]
        for answer in await asyncio.gather(*calls):
            candidates += answer
    return candidates


def _names(fields: Mapping[bytes, bytes], subject: DataSubject) -> bool:
    """Whether a record is about the person, or was resolved by them. That of their erasure names them, too: see there."""
    kind, app = _text(fields, b"kind"), _text(fields, b"app")
    if kind not in KINDS or kind == PersonErase.kind or not subject.covers(app):
        return False
    resolved_by = people_in(json_object(fields.get(_RESOLVED, b"")), ["by"])
    return subject.user in _people(fields) | resolved_by or _is_about(fields, subject)


def _people(fields: Mapping[bytes, bytes]) -> set[str]:
    """The people of a job: in its contract, its result, its steps and DingTalk's own words."""
    kind, job, steps = KINDS[_text(fields, b"kind")], _job(fields), steps_in(fields)
    result = json_object(fields.get(b"result", b"")) or _result_so_far(kind, steps)
    by_user = recipients(kind.name, _text(fields, b"state"), job, fields)
    people = {user for user, outcome in by_user.items() if outcome != UNRESOLVED}
    people |= people_in(json_object(fields.get(b"error", b"")), _IN_ERRORS)
    return people | kind.people(job, result, steps)


def _is_about(fields: Mapping[bytes, bytes], subject: DataSubject) -> bool:
    """Whether it is an event of their approvals, whose titles name them."""
    event = _text(fields, b"kind") == Event.kind
    people = people_in(_job(fields), ["data.processInstanceId"]) if event else set[str]()
    return not subject.instances.isdisjoint(people)


def _job(fields: Mapping[bytes, bytes]) -> Json:
    return json_object(fields.get(b"payload", b""))


def _result_so_far(kind: Kind, steps: Steps) -> Json:
    try:
        return (kind.so_far and kind.so_far(steps)) or {}
    except (KeyError, TypeError, AttributeError, ValueError):
        return {}  # another release wrote the steps


def _text(fields: Mapping[bytes, bytes], name: bytes) -> str:
    return fields.get(name, b"").decode(errors="replace")


def _moment(fields: Mapping[bytes, bytes], name: bytes) -> datetime | None:
    text = _text(fields, name)
    return moment_of(text) if text.isdecimal() and int(text) else None


PERSONAL_DATA = PersonalData(
    place="jobs", title=en("jobs"), keys=("job", "digest"), export=export, erase=erase
)
