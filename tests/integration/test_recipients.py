"""Recipients are checked before the call, as far as it is surely known."""

import asyncio
import itertools
import json
from collections.abc import Sequence
from typing import Any
from unittest.mock import AsyncMock

import pytest
from redis.asyncio import Redis

from conftest import wait_until_async
from dingrelay_producers import JobStatus, State
from dingrelay_producers.settings.sections import SyncSettings
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import MessageSend, UserSync
from dingrelay_tasks.campaign_chunk import CampaignChunk
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.message_recall import MessageRecall
from dingrelay_tasks.organisation import Member
from dingrelay_workers.campaigns.calls import CampaignCalls
from dingrelay_workers.campaigns.chunks import Release
from dingrelay_workers.campaigns.models import OutcomeKind
from dingrelay_workers.campaigns.queue import Found
from dingrelay_workers.dingtalk.contacts import ContactsV2
from dingrelay_workers.dingtalk.errors import Transient
from dingrelay_workers.dingtalk.lenient import MALFORMED
from support.directories import read
from support.jobs import message
from support.workers import OneWorker

SEND = "/topapi/message/corpconversation/asyncsend_v2"
TEXT = {"msgtype": "text", "text": {"content": "news"}}
USER = "/topapi/v2/user/get"
RANGE = "/v1.0/microApp/apps/1000001/scopes"
APP: Any = {"app_key": "sandbox-key", "app_secret": "sandbox-secret", "agent_id": "1000001"}


async def sync(worker: OneWorker, sandbox: SandboxAdmin, *users: str) -> None:
    """The directory knows these people, all in department 1, as a complete user-sync leaves it."""
    for user in users:
        sandbox.put_user(user)
    await fill(worker, users)


async def fill(worker: OneWorker, users: Sequence[str]) -> None:
    directory = worker.executor.resources.directory("default")
    await read(directory, {1: [Member(user, {"dept_id_list": [1]}) for user in users]})
    await directory.close_run("walk", confirm_removals=False)


@pytest.fixture
async def synced(worker: OneWorker, sandbox: SandboxAdmin) -> OneWorker:
    """A worker whose directory has u1 and u2."""
    await sync(worker, sandbox, "u1", "u2")
    return worker


async def age_range(redis: Redis) -> None:
    """Age the app's visible range, where one was read."""
    kept = await redis.get(keys.visible_range("default"))
    if kept is not None:
        aged = json.dumps({**json.loads(kept), "read": 1})
        await redis.set(keys.visible_range("default"), aged, keepttl=True)


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every chunk is one that SQL has released."""
    monkeypatch.setattr(CampaignCalls, "wants", AsyncMock(return_value=True))


async def sent(worker: OneWorker, job: MessageSend) -> JobStatus:
    job_id = await worker.send(job)
    await worker.finish(job_id)
    return await worker.status(job_id)


def outcome(status: JobStatus) -> tuple[Any, ...]:
    result = status.result
    return result["accepted"], result["unknown_user"], result["out_of_scope"]


async def test_no_directory_means_no_lookup(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    status = await sent(worker, message("u1", "stranger"))
    assert outcome(status) == (2, [], [])
    assert status.result["unverified"] == ["u1", "stranger"]
    assert sandbox.calls(api=USER) == sandbox.calls(api=RANGE) == []


async def test_the_end_of_the_first_sync_counts_at_once(worker: OneWorker, redis: Redis) -> None:
    """Also where another worker read the directory."""
    assert outcome(await sent(worker, message("stranger"))) == (1, [], [])
    await redis.set(keys.synced("default"), 1, px=keys.SYNCED_TTL_MS)
    status = await sent(worker, message("u1", "stranger", text="later"))
    assert "stranger" in status.result["unknown_user"], status.result


async def test_unknown_people_are_named(synced: OneWorker, sandbox: SandboxAdmin) -> None:
    status = await sent(synced, message("u1", "stranger", "u2"))
    assert status.state == State.DONE
    assert outcome(status) == (2, ["stranger"], [])
    assert [call["recipients"] for call in sandbox.calls(api=SEND)] == [2]


async def test_newcomers_are_looked_up(synced: OneWorker, sandbox: SandboxAdmin) -> None:
    sandbox.put_user("new")
    assert outcome(await sent(synced, message("new"))) == (1, [], [])
    assert outcome(await sent(synced, message("new", text="again"))) == (1, [], [])
    assert len(sandbox.calls(api=USER)) == 1
    assert len(sandbox.calls(api=RANGE)) == 1


async def test_rehired_people_are_sent_to(synced: OneWorker, sandbox: SandboxAdmin) -> None:
    directory = synced.executor.resources.directory("default")
    await directory.drop_user("event", "u2", calls=1)
    assert outcome(await sent(synced, message("u2"))) == (1, [], [])
    await directory.drop_user("event2", "u1", calls=1)
    sandbox.delete_user("u1")
    assert outcome(await sent(synced, message("u1", "u2", text="later"))) == (1, ["u1"], [])


@pytest.mark.parametrize("hidden", [False, True], ids=["readable", "hidden"])
async def test_people_who_do_not_see_the_app_are_named(
    worker: OneWorker, sandbox: SandboxAdmin, hidden: bool
) -> None:
    """Whether the app may read them or not."""
    sandbox.put_department(2, parent_id=1, name="sales")
    sandbox.put_department(3, parent_id=2, name="sales north")
    sandbox.put_department(4, parent_id=1, name="law")
    await sync(worker, sandbox, "u1", "u2", "u3", "u4")
    for user, place in (("u1", 2), ("u2", 3), ("u3", 4)):
        sandbox.put_user(user, dept_id_list=[place])
    scope = {"departments": [2]} if hidden else {"visible_departments": [2]}
    sandbox.add_app(**APP, **{"visible_users": ["u4"], "visible_departments": [2], **scope})
    status = await sent(worker, message("u1", "u2", "u3", "u4", "stranger"))
    assert outcome(status) == (3, ["stranger"], ["u3"])
    delivered = [len(sandbox.inbox(f"u{number}")["delivered"]) for number in range(1, 5)]
    assert delivered == [1, 1, 0, 1]


async def test_people_just_added_to_the_range_are_sent_to(
    synced: OneWorker, sandbox: SandboxAdmin, redis: Redis
) -> None:
    """No one is left out for a range that was read a minute ago or longer."""
    sandbox.add_app(**APP, visible_users=["u1"])
    assert outcome(await sent(synced, message("u1"))) == (1, [], [])
    sandbox.add_app(**APP, visible_users=["u1", "u2"])
    synced.executor.resources.recipient_checks.forget()
    await age_range(redis)
    assert outcome(await sent(synced, message("u2"))) == (1, [], [])
    assert len(sandbox.calls(api=RANGE)) == 2


async def test_nobody_reached_is_a_dead_job(synced: OneWorker, sandbox: SandboxAdmin) -> None:
    status = await sent(synced, message("stranger", "no-one", confirm=True))
    assert status.state == State.DEAD
    assert status.error.code == "nobody_reachable"
    assert outcome(status) == (0, ["stranger", "no-one"], [])
    assert sandbox.calls(api=SEND) == []


@pytest.mark.parametrize(
    ("kind", "code"),
    [("error", {"code": "-1"}), ("reset_before", {}), ("error", {"code": "60011"})],
    ids=["error", "hang", "forbidden"],
)
async def test_where_dingtalk_does_not_answer_they_are_sent_to_and_unverified(
    synced: OneWorker, sandbox: SandboxAdmin, kind: str, code: Any
) -> None:
    sandbox.add_fault(kind, api=USER, **code)
    status = await sent(synced, message("u1", "stranger"))
    assert outcome(status) == (2, [], [])
    assert status.result["unverified"] == ["stranger"]
    details = await asyncio.to_thread(synced.client.details, status.id)
    assert details.recipients == {"u1": "accepted", "stranger": "unverified"}


async def test_a_throttled_look_up_is_repeated(synced: OneWorker, sandbox: SandboxAdmin) -> None:
    sandbox.add_fault("throttle", api=USER, count=1)
    assert outcome(await sent(synced, message("u1", "stranger"))) == (1, ["stranger"], [])


async def test_no_range_checks_existence_only(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    await sync(worker, sandbox, "u1")
    sandbox.add_app(**APP, visible_users=["u1"])
    sandbox.put_user("u2")
    sandbox.add_fault("error", api=RANGE, code="Forbidden.AccessDenied.AccessTokenPermissionDenied")
    assert outcome(await sent(worker, message("u1", "u2", "stranger"))) == (2, ["stranger"], [])


async def test_a_database_that_is_away_holds_no_message_up(
    synced: OneWorker, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:

    async def hangs(*_: object) -> set[str]:
        await asyncio.Event().wait()
        raise AssertionError

    people = synced.executor.resources.known_people
    monkeypatch.setattr("dingrelay_workers.recipients.checks.DATABASE_TIMEOUT", 0.05)
    monkeypatch.setattr(people, "find", hangs)
    status = await sent(synced, message("u1", "stranger"))
    assert outcome(status) == (2, [], [])
    assert status.result["unverified"] == ["u1", "stranger"]


@pytest.mark.parametrize("worker_settings", [{"sync": SyncSettings(check_recipients=False)}])
async def test_the_check_can_be_off(synced: OneWorker) -> None:
    assert outcome(await sent(synced, message("u1", "stranger"))) == (2, [], [])


async def test_a_sync_of_one_person_does_not_begin_the_check(
    worker: OneWorker, sandbox: SandboxAdmin, redis: Redis
) -> None:
    sandbox.put_user("u1")
    one = await worker.send(UserSync(scope="user", user="u1"))
    assert await worker.run(one) == State.DONE
    assert not await redis.exists(keys.synced("default"))


async def test_a_campaign_names_the_people_that_it_leaves_out(
    worker: OneWorker, sandbox: SandboxAdmin, released: None
) -> None:
    sandbox.put_department(2, parent_id=1, name="sales")
    await sync(worker, sandbox, "u1", "u2")
    sandbox.put_user("u2", dept_id_list=[2])
    sandbox.add_app(**APP, visible_users=["u1"])
    chunk = {"campaign": "c", "number": 0, "users": ["u1", "u2", "stranger"], "message": TEXT}
    job_id = await worker.send(CampaignChunk.parse(chunk))
    assert await worker.run(job_id) == State.DONE
    result = (await worker.status(job_id)).result
    assert result is not None
    ending = Found(Release(0, 1), State.DONE, result, {}, touched=True).ending()
    assert ending.accepted == 1
    assert {kind: users for kind, users in ending.left_out.items() if users} == {
        OutcomeKind.UNKNOWN_USER: ["stranger"],
        OutcomeKind.OUT_OF_SCOPE: ["u2"],
    }


def limited(**rule: Any) -> Any:
    """A worker with these limits."""
    rules = {"*": {"calls": ""}, **{api.replace("_", "."): each for api, each in rule.items()}}
    return pytest.mark.parametrize("worker_settings", [{"rules": rules}], ids=["limited"])


@limited(contacts_user={"calls": "40/1s"})
async def test_the_limit_of_look_ups_leaves_nobody_unchecked(
    worker: OneWorker, sandbox: SandboxAdmin, released: None
) -> None:
    """Calls that wait for their own limit are no failure of DingTalk's."""
    await sync(worker, sandbox, *(f"u{number}" for number in range(14)))
    jobs: list[str] = []
    for number in range(14):
        users = [f"u{number}", *(f"stranger{number}-{each}" for each in range(5))]
        chunk = {"campaign": "c", "number": number, "users": users, "message": TEXT}
        jobs.append(await worker.send(CampaignChunk.parse({**chunk, "lane": "bulk"})))
    states = await asyncio.gather(*(worker.finish(job) for job in jobs))
    results = [(await worker.status(job)).result or {} for job in jobs]
    assert set(states) == {State.DONE}
    assert [result["call"]["recipients"] for result in results] == [1] * 14
    assert sum(len(result["unknown_user"]) for result in results) == 70


async def test_shared_calls_leave_out_their_own(synced: OneWorker, sandbox: SandboxAdmin) -> None:
    to = (("u1", "stranger"), ("u2", "no-one"), ("nothing",))
    jobs = [await synced.send(message(*users)) for users in to]
    await asyncio.gather(*(synced.run(job) for job in jobs))
    for job, users in zip(jobs, to, strict=True):
        await synced.finish(job)
        assert outcome(await synced.status(job)) == (len(users) - 1, [users[-1]], [])
    assert sum(call["recipients"] for call in sandbox.calls(api=SEND)) == 2


# Else the minute's limit of recipients would spread them over 11 s.
@limited(message_send={"recipients": ""})
async def test_a_thousand_known_people_cost_no_call(
    worker: OneWorker, sandbox: SandboxAdmin
) -> None:
    people = [f"p{number}" for number in range(1_000)]
    await fill(worker, people)
    assert outcome(await sent(worker, message(*people)))[0] == 1_000
    assert sandbox.calls(api=USER) == []


async def test_an_id_prefix_recalls(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    sent_to = await worker.send(message("u1", "u2"))
    with pytest.raises(ContractError, match="job: is queued: cancel it, or recall it once it has"):
        await asyncio.to_thread(worker.client.recall, sent_to)
    assert await worker.run(sent_to) == State.DONE

    def recall() -> str:
        return worker.client.recall(worker.client.whole_id(sent_to[:8])).id

    job_id = await asyncio.to_thread(recall)
    assert await asyncio.to_thread(recall) == job_id
    assert await worker.finish(job_id) == State.DONE
    assert [entry["recalled"] for entry in sandbox.inbox("u1")["delivered"]] == [True]


async def test_a_recall_names_lost_calls(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    """DingTalk drops the repeat of a call whose answer was lost, and only the repeat has a task id."""
    for user in ("u1", "u2"):
        sandbox.put_user(user)
    sandbox.add_fault("lost_answer", api=SEND, count=1)
    sent_to = await worker.send(message("u1", "u2"))
    assert await worker.finish(sent_to) == State.DONE
    job_id = (await asyncio.to_thread(worker.client.recall, sent_to)).id
    assert await worker.finish(job_id) == State.DEAD
    status = await worker.status(job_id)
    assert "2 people have it by a call whose answer was lost" in str(status.error)
    assert (status.result["recalled"], status.result["kept"]) == ([], ["u1", "u2"])
    assert [entry["recalled"] for entry in sandbox.inbox("u1")["delivered"]] == [False]


async def test_others_of_a_call_are_not_recalled(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    sent_to = await worker.send(message("u1"))
    assert await worker.run(sent_to) == State.DONE
    result = (await worker.status(sent_to)).result
    # As if the call had carried another job as well.
    calls = [{"task_id": result["calls"][0]["task_id"], "named": True}]
    other = {"message": "other", "calls": calls, "users": ["u2"]}
    job_id = await worker.send(MessageRecall.parse(other))
    assert await worker.finish(job_id) == State.DEAD
    status = await worker.status(job_id)
    assert status.error.code == "nothing_recalled"
    assert [entry["recalled"] for entry in sandbox.inbox("u1")["delivered"]] == [False]


async def test_a_requeued_message_reaches_them(synced: OneWorker, sandbox: SandboxAdmin) -> None:
    job_id = await synced.send(message("new", "stranger"))
    assert await synced.finish(job_id) == State.DEAD
    sandbox.put_user("new")
    synced.executor.resources.recipient_checks.forget()
    assert await asyncio.to_thread(synced.client.requeue, job_id)
    assert await synced.finish(job_id) == State.DONE
    assert outcome(await synced.status(job_id)) == (1, ["stranger"], [])
    assert len(sandbox.inbox("new")["delivered"]) == 1


async def test_an_old_message_is_not_recalled(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    sent_to = await worker.send(message("u1"))
    assert await worker.run(sent_to) == State.DONE
    progress = "/topapi/message/corpconversation/getsendprogress"
    sandbox.add_fault("error", api=progress, code="400002", message="too old")
    job_id = (await asyncio.to_thread(worker.client.recall, sent_to)).id
    assert await worker.finish(job_id) == State.DEAD
    error = (await worker.status(job_id)).error
    assert (error.code, "1 too old" in str(error)) == ("nothing_recalled", True)


async def test_people_in_departments_that_the_app_may_not_read_are_sent_to(
    worker: OneWorker, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DingTalk may tell of a person only the departments that the app may read."""
    sandbox.put_department(2, parent_id=1, name="sales")
    sandbox.put_department(3, parent_id=1, name="law")
    await sync(worker, sandbox, "u1")
    sandbox.put_user("u1", dept_id_list=[2, 3])
    sandbox.add_app(**APP, departments=[2], visible_departments=[3])
    found = AsyncMock(return_value=Member("u1", {"dept_id_list": [2]}))
    monkeypatch.setattr(ContactsV2, "user", found)
    assert outcome(await sent(worker, message("u1"))) == (1, [], [])


async def test_the_range_is_read_so_often_a_day_unless_that_saves_a_call(
    worker: OneWorker, sandbox: SandboxAdmin, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dingrelay_workers.recipients.visible_ranges.MOST_READINGS", 2)
    await sync(worker, sandbox, "u1", "u2")
    sandbox.add_app(**APP, visible_users=["u1"])

    async def later(*users: str, text: str) -> tuple[Any, ...]:
        await age_range(redis)
        worker.executor.resources.recipient_checks.forget()
        return outcome(await sent(worker, message(*users, text=text)))

    assert await later("u1", "u2", text="1") == (1, [], ["u2"])
    assert await later("u1", "u2", text="2") == (1, [], ["u2"])
    assert await later("u1", "u2", text="3") == (2, [], [])
    assert len(sandbox.calls(api=RANGE)) == 2
    assert await later("u2", text="4") == (0, [], ["u2"])
    assert len(sandbox.calls(api=RANGE)) == 3
    assert 0 < await redis.pttl(keys.visible_range_readings("default")) <= 86_400_000


async def test_a_reading_that_was_throttled_is_not_counted(
    synced: OneWorker, sandbox: SandboxAdmin, redis: Redis
) -> None:
    sandbox.add_app(**APP, visible_users=["u1"])
    sandbox.add_fault("throttle", api=RANGE, count=1)
    assert outcome(await sent(synced, message("u1", "u2"))) == (1, [], ["u2"])
    assert await redis.get(keys.visible_range_readings("default")) == b"1"


async def test_a_range_of_another_shape_is_not_asked_for_each_minute(
    worker: OneWorker, sandbox: SandboxAdmin, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    malformed = AsyncMock(side_effect=Transient(MALFORMED, "result is missing"))
    monkeypatch.setattr("dingrelay_workers.recipients.visible_ranges.visible_range", malformed)
    await sync(worker, sandbox, "u1")
    assert outcome(await sent(worker, message("u1", "stranger"))) == (1, ["stranger"], [])
    assert await redis.pttl(keys.visible_range("default")) > 60_000


async def test_a_timeout_stops_lookups(synced: OneWorker, sandbox: SandboxAdmin) -> None:
    sandbox.add_fault("error", api=USER, code="60011")
    people = [f"p{number}" for number in range(50)]
    assert outcome(await sent(synced, message(*people))) == (50, [], [])
    assert len(sandbox.calls(api=USER)) <= 1


async def test_people_are_outside_no_longer_than_the_range_is_fresh(
    worker: OneWorker, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dingrelay_workers.recipients.visible_ranges.FRESH_MS", 300)
    await sync(worker, sandbox, "u1", "u2")
    sandbox.add_app(**APP, visible_users=["u1"])
    assert outcome(await sent(worker, message("u1", "u2"))) == (1, [], ["u2"])
    sandbox.add_app(**APP, visible_users=["u1", "u2"])
    texts = itertools.count()

    async def reached() -> bool:
        return outcome(await sent(worker, message("u2", text=f"{next(texts)}"))) == (1, [], [])

    await wait_until_async(reached)


async def test_a_requeue_sends_to_all_again(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    job_id = await worker.send(message("late", confirm=True))
    assert await worker.finish(job_id) == State.DEAD
    error = (await worker.status(job_id)).error
    assert error.code == "nobody_reached"
    sandbox.put_user("late")
    assert await asyncio.to_thread(worker.client.requeue, job_id)
    assert await worker.finish(job_id) == State.DONE
    details = await asyncio.to_thread(worker.client.details, job_id)
    assert details.recipients == {"late": "accepted"}
    assert (details.status.result or {})["invalid"] == []
    assert len(sandbox.inbox("late")["delivered"]) == 1
    assert len(sandbox.calls(api=SEND)) == 2
