"""A person in Redis: records of jobs, the day's limits, and answers that the gateway keeps.

No key there is indexed by person, since no job needs it: all keys are scanned. That costs Redis
some microseconds a record, in steps between which it serves others.

A record with the person is left alone while its job is open, and for some time after its end: the
limits of DingTalk's day and a recall need it. Then the tombstone takes the place of the userid, so
the job's outcome and counts stay known; and a job carried out again sends nothing to the person.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import WatchError

from dingrelay_producers.store import keys
from dingrelay_producers.store.record import canonical_json, moment_of
from dingrelay_producers.store.scripts import Script, run_async
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import STEP, json_object
from dingrelay_tasks import beijing
from dingrelay_tasks.contract import batched
from dingrelay_tasks.event import Event
from dingrelay_tasks.kinds import KINDS
from dingrelay_tasks.person_erase import PersonErase
from dingrelay_tasks.sentence import en
from dingrelay_workers.http.idempotency import LIFE
from dingrelay_workers.limiter.daily_limits import place
from dingrelay_workers.personal_data.subject import NEEDED, DataSubject, Erasing

SCANNED = 1_000
"""Keys that one step of a scan looks at."""
AT_ONCE = 50
"""Records that one script looks at: a record takes some microseconds, the largest one a millisecond."""

TOGETHER = 4
"""Scripts that leave in one round trip: Redis carries them out one behind the other."""

_FIND = Script.load("dingrelay_workers.personal_data", "find_person")
_STEP = STEP.encode()
_OF_JSON = (b"payload", b"result", b"error", b"intent")
_RESERVED = b"reserved"


async def export(redis: Redis, subject: DataSubject) -> dict[str, list[dict[str, Any]]]:
    """The person's data in Redis: jobs, the limits of days, and answers."""
    jobs = [
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
        async for job, fields in _records(redis, subject)
    ]
    limits = [
        {"day": day, "app": app, "what": what, "value": value}
        async for what, app, day, value, _ in _limits(redis, subject)
    ]
    answers = [{"answer": _json(body)} async for _, body, _ in _answers(redis, subject)]
    return {"jobs": jobs, "daily_limits": limits, "answers": answers}


async def erase(redis: Redis, erasing: Erasing) -> None:
    """Take the person out of records that are needed no more, and note which ones still are."""
    async for job, fields in _records(redis, erasing):
        accepted = _moment(fields, b"created")
        if accepted is not None and accepted <= erasing.since:
            await _erase_record(redis, job, fields, erasing)
    async for what, app, day, _, until in _limits(redis, erasing):
        if day <= beijing.day(erasing.since):
            erasing.leave(
                "daily_limits",
                f"{app} {what}",
                en("what keeps DingTalk's limits of {}", day),
                until,
            )
    async for name, _, until in _answers(redis, erasing):
        if until is None or until - timedelta(seconds=LIFE) <= erasing.since:
            erasing.leave(
                "answers",
                name,
                en("an answer that is given again to who repeats the request"),
                until,
            )


async def _erase_record(
    redis: Redis, job: str, fields: Mapping[bytes, bytes], erasing: Erasing
) -> None:
    state, settled = _text(fields, b"state"), _moment(fields, b"settled")
    if settled is None or not State(state).ended:
        due = _moment(fields, b"due") if state in {State.SNOOZED, State.RETRYING} else None
        erasing.leave("jobs", job, en("the job is {}", state), due)
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
    if await _change(redis, keys.job(job), fields, _values(fields, erasing)):
        erasing.changed["jobs"] += 1
    else:
        erasing.leave("jobs", job, en("the job has just had another life"))


async def _change(
    redis: Redis, record: str, fields: Mapping[bytes, bytes], values: Mapping[bytes, bytes | str]
) -> bool:
    """Write other values into the record of a job that has ended; False if it has had another life since."""
    ended = ("state", "settled")
    async with redis.pipeline() as pipe:
        await pipe.watch(record)
        if await pipe.hmget(record, *ended) != [fields[name.encode()] for name in ended]:
            return False
        pipe.multi()  # type: ignore[no-untyped-call]
        for name, value in values.items():
            if value:
                pipe.hset(record, name, value)
            else:
                pipe.hdel(record, name)
        try:
            await pipe.execute()
        except WatchError:
            return False
    return True


def _values(fields: Mapping[bytes, bytes], erasing: Erasing) -> dict[bytes, bytes | str]:
    """Changed fields of a record; an empty value removes one."""
    known = _objects(fields)
    values: dict[bytes, Any] = {name: erasing.without(value) for name, value in known.items()}
    kind = KINDS.get(_text(fields, b"kind"))
    if kind is not None and kind.forget is not None:
        by_name = {name.decode(errors="replace"): value for name, value in values.items()}
        steps = {name: by_name.pop(name) for name in list(by_name) if name.startswith(STEP)}
        steps = {name.removeprefix(STEP): value for name, value in steps.items()}
        kind.forget(by_name, steps, erasing.tombstone)
    changed: dict[bytes, bytes | str] = {
        name: canonical_json(value) for name, value in values.items() if value != known.get(name)
    }
    if _text(fields, b"sender") == erasing.user:
        changed[b"sender"] = erasing.tombstone
    summary = _text(fields, b"summary")
    if (line := erasing.without_in_line(summary)) != summary:
        changed[b"summary"] = line
    if any(each.encode() in fields.get(_RESERVED, b"") for each in erasing.spellings):
        changed[_RESERVED] = ""
    for name in fields:
        # A step that was made for each of an event's people.
        if name.startswith(_STEP) and name.decode(errors="replace").endswith(f":{erasing.user}"):
            changed[name] = ""
    return changed


def _objects(fields: Mapping[bytes, bytes]) -> dict[bytes, dict[str, Any]]:
    """The fields of a record that hold JSON, as far as it can be read."""
    return {
        name: found
        for name, value in fields.items()
        if (name in _OF_JSON or name.startswith(_STEP)) and (found := json_object(value))
    }


async def _records(
    redis: Redis, subject: DataSubject
) -> AsyncIterator[tuple[str, Mapping[bytes, bytes]]]:
    """Every job whose record names the person, with the record."""
    prefix = keys.job("")
    async for page in _keys(redis, prefix):
        for found in await _found(redis, page, subject):
            fields = cast("dict[bytes, bytes]", await redis.hgetall(found))
            if _names(fields, subject):
                yield found.decode().removeprefix(prefix), fields


async def _found(redis: Redis, records: Sequence[str], subject: DataSubject) -> list[bytes]:
    """The records that may name the person."""
    found: list[bytes] = []
    names = subject.spellings | {subject.user}
    texts: list[str | int] = [len(names), *names, *subject.instances]
    for together in batched(batched(records, AT_ONCE), TOGETHER):
        calls = [run_async(redis, _FIND.call(some, texts)) for some in together]
        for answer in await asyncio.gather(*calls):
            found += answer
    return found


def _names(fields: Mapping[bytes, bytes], subject: DataSubject) -> bool:
    """Whether a record is about the person. That of their erasure names them, too: see there."""
    kind, app = _text(fields, b"kind"), _text(fields, b"app")
    if kind == PersonErase.kind or subject.app not in {None, app}:
        return False
    if _text(fields, b"sender") == subject.user:
        return True
    known = _objects(fields)
    if kind == Event.kind and subject.is_in_event(known.get(b"payload", {}).get("data")):
        return True
    return any(subject.is_in(value) for value in known.values())


async def _limits(
    redis: Redis, subject: DataSubject
) -> AsyncIterator[tuple[str, str, str, str, datetime | None]]:
    """The person's daily counts: what, app, day, value, and until when."""
    shard, digest = place(subject.user)
    # Received contents are kept only as digests of content and person together.
    for what, field, end in (("content", subject.user, ""), ("received", str(digest), f":{shard}")):
        prefix = f"{keys.PREFIX}{what}:"
        async for found in _keys(redis, prefix, end):
            page = [key for key in found if not key.endswith(f":had{end}")]
            pipe = redis.pipeline(transaction=False)
            for key in page:
                pipe.hget(key, field)
            for key, value in zip(page, await pipe.execute(), strict=True):
                app, day = key.removeprefix(prefix).split(":")[:2]
                if value is not None and subject.app in {None, app}:
                    yield what, app, day, value.decode(), await _until(redis, key)


async def _answers(
    redis: Redis, subject: DataSubject
) -> AsyncIterator[tuple[str, str, datetime | None]]:
    """The gateway's answers that name the person: a name, the body, and until when."""
    async for page in _keys(redis, keys.idempotency("", "")[:-1]):
        pipe = redis.pipeline(transaction=False)
        for key in page:
            pipe.hget(key, "body")
        for key, body in zip(page, await pipe.execute(), strict=True):
            if body and subject.is_in(_json(body)):
                name = key.rpartition(":")[2]
                yield name, body.decode(errors="replace"), await _until(redis, key)


async def _keys(redis: Redis, prefix: str, end: str = "") -> AsyncIterator[Sequence[str]]:
    """Scan the keys with this prefix and end, in pages; keys added during it may be missing."""
    cursor = 0
    while True:
        cursor, page = await redis.scan(cursor, match=f"{prefix}*{end}", count=SCANNED)
        if page:
            yield [cast("bytes", key).decode() for key in page]
        if cursor == 0:
            return


async def _until(redis: Redis, key: str) -> datetime | None:
    """When a key goes by itself."""
    left = await redis.pttl(key)
    return await now(redis) + timedelta(milliseconds=left) if left > 0 else None


async def now(redis: Redis) -> datetime:
    """Redis's time."""
    seconds, micros = await redis.time()
    return datetime.fromtimestamp(seconds + micros / 1e6, UTC)


def _text(fields: Mapping[bytes, bytes], name: bytes) -> str:
    return fields.get(name, b"").decode(errors="replace")


def _moment(fields: Mapping[bytes, bytes], name: bytes) -> datetime | None:
    text = _text(fields, name)
    return moment_of(text) if text.isdecimal() and int(text) else None


def _json(text: bytes | str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
