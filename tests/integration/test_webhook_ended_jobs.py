"""Webhooks of jobs that ended, whatever became of their records since."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.event import Event
from dingrelay_workers.outbox import endings
from dingrelay_workers.outbox.endings import Ending, Endings
from dingrelay_workers.outbox.notice import Notice, Subject
from dingrelay_workers.store.records import Records, Usage
from dingrelay_workers.webhooks.ended_jobs import notices_of
from support.jobs import a_draft, claimed, enqueue, queued

ERROR = {"class": "permanent", "code": "1", "message": "m", "hint": ""}


def everything(subject: Subject) -> bool:
    return True


async def settle(records: Records, draft: Draft, state: State = State.DONE, **settled: Any) -> None:
    await records.settle(await claimed(records, draft), state, usage=Usage(), **settled)


async def end(records: Records, state: State = State.DONE, **settled: Any) -> str:
    draft = await queued(records.redis, sender="crm")
    await settle(records, draft, state, **settled)
    return draft.id


async def written(records: Records, wanted: Any = everything) -> list[Notice]:
    page = await Endings(records.redis, "tests").read(100)
    return await notices_of(records.redis, page.endings, wanted)


async def test_the_notice_of_a_job_holds_its_record(records: Records) -> None:
    job = await end(records, result={"accepted": 1})
    (notice,) = await written(records)
    assert (notice.type, notice.app, notice.sender) == ("job.done", "default", "crm")
    assert notice.kind == "message-send"
    status = JobStatus.from_record(job, await records.redis.hgetall(keys.job(job)))
    assert notice.data == status.to_json()
    assert notice.at == status.settled_at
    assert (await written(records))[0].id == notice.id


async def test_each_end_of_a_job_is_another_notice(records: Records) -> None:
    job = await end(records, State.DEAD, error=ERROR)
    await scripts.run_async(records.redis, record.requeue(job))
    (notice,) = await written(records)
    # It is under way again: what it died of is not known any more.
    assert (notice.type, notice.data["state"], notice.data["error"]) == ("job.dead", "dead", None)
    await settle(records, a_draft(sender="crm")._replace(id=job), result={"n": 1})
    first, second = await written(records)
    assert (first.data["state"], second.data["state"]) == ("dead", "done")
    assert (first.data["result"], second.data["result"]) == (None, {"n": 1})
    assert first.id != second.id


async def test_the_notice_of_a_job_without_a_record_holds_what_is_known(records: Records) -> None:
    job = await end(records)
    await records.redis.delete(keys.job(job))
    (notice,) = await written(records)
    assert notice.type == "job.done"
    known = [notice.data[name] for name in ("id", "state", "sender")]
    assert known == [job, "done", "crm"]


async def test_a_result_that_is_too_long_is_left_out_and_marked_so(records: Records) -> None:
    await end(records, result={"answer": "x" * endings.LONGEST})
    (notice,) = await written(records)
    assert notice.data["result_omitted"] is True
    assert notice.data["result"] is None


@pytest.mark.parametrize(
    "result", ['{"n": NaN}', '{"n": ' + "[" * 5_000 + "]" * 5_000 + "}", "[1]", "{", "\udcff"]
)
async def test_an_unserialisable_record_blocks_no_other(records: Records, result: str) -> None:
    job = await end(records, result={})
    broken = result.encode("utf-8", "surrogateescape")
    await records.redis.hset(keys.job(job), "result", broken)
    sound = await end(records)
    notices = await written(records)
    assert [notice.data["id"] for notice in notices] == [job, sound]
    for notice in notices:
        json.dumps(notice.data, allow_nan=False)


async def test_a_record_of_thousands_of_steps_is_read_whole(records: Records) -> None:
    job = await end(records)
    steps = {f"step:user:{number}": "{}" for number in range(9_000)}
    await records.redis.hset(keys.job(job), mapping=steps)
    page = await Endings(records.redis, "tests").read(100)
    (read,) = await endings.read_records(records.redis, page.endings, with_payload=lambda _: True)
    assert read.fields == await records.redis.hgetall(keys.job(job))
    assert len(read.fields) > len(steps)
    shown = record.fields(await scripts.run_async(records.redis, record.read(job)))
    assert shown == {name: value for name, value in read.fields.items() if name != b"payload"}


async def test_only_what_somebody_takes_is_read(records: Records) -> None:
    await end(records)
    assert await written(records, lambda subject: subject.type == "job.dead") == []


async def test_jobs_of_an_application_are_notices_and_our_own_are_none(redis: Redis) -> None:
    theirs = ["message-send", "approval-decide", "approval-look"]
    kinds = [*theirs, "approval-follow", "campaign-recall", "of-a-newer-release"]
    ends = [Ending(f"j-{kind}", kind, "default", "", "done", 1) for kind in kinds]
    assert [notice.kind for notice in await notices_of(redis, ends, everything)] == theirs


async def test_an_events_notice_is_dingtalks_own(records: Records) -> None:
    data, born_at = {"userId": ["u1"]}, 1_767_225_600_000
    event = Event(event_type="user_add_org", event_id="e1", corp_id="c", born_at=born_at, data=data)
    draft = record.draft(event)
    await enqueue(records.redis, draft)
    await settle(records, draft, State.DEAD, error=ERROR)
    (notice,) = await written(records)
    assert notice.type == "dingtalk.user_add_org"
    assert notice.at == datetime(2026, 1, 1, tzinfo=UTC)
    assert notice.data == {"event_id": "e1", "corp_id": "c", "event": {"userId": ["u1"]}}
    await scripts.run_async(records.redis, record.requeue(draft.id))
    await settle(records, draft, result={})
    first, second = await written(records)
    assert first.id == second.id


async def test_an_event_of_a_strange_type_keeps_no_other_waiting(records: Records) -> None:
    draft = record.draft(Event(event_type="no name/at all"))
    await enqueue(records.redis, draft)
    await settle(records, draft, result={})
    await end(records)
    assert [notice.type for notice in await written(records)] == ["job.done"]
