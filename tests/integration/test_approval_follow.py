"""An approval is followed until it has ended: one worker, a real Valkey and the sandbox."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import RowMapping, select, update

from dingrelay_producers import State
from dingrelay_producers.settings import LOOKS
from dingrelay_producers.store import keys, record
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ApprovalCreate, approval_follow
from dingrelay_tasks.approval_decide import ApprovalDecide
from dingrelay_tasks.approval_follow import ApprovalLook
from dingrelay_tasks.context import ApprovalChange
from dingrelay_tasks.event import Event
from dingrelay_workers.approvals.models import ApprovalRow
from dingrelay_workers.approvals.states import JobApprovalStates
from dingrelay_workers.approvals.store import ApprovalStore
from dingrelay_workers.database.database import Database
from dingrelay_workers.outbox.models import DeliveryRow, NoticeRow
from dingrelay_workers.outbox.notice import Notice
from one_worker import OneWorker, OpenWorker
from subscriptions import subscribe

READ = "/v1.0/workflow/processInstances"
EXECUTE = f"{READ}/execute"


AT_ONCE: Any = {"approvals": {"looks": [0.001]}}
"""DingTalk is asked whenever an approval is looked at."""


@pytest.fixture
async def asking(open_worker: OpenWorker) -> AsyncIterator[OneWorker]:
    """A worker that asks DingTalk at each look at an approval."""
    async with open_worker(**AT_ONCE) as worker:
        yield worker


async def created(worker: OneWorker) -> str:
    """Create an approval that u2 decides; its id."""
    job = ApprovalCreate.parse(
        {
            "process_code": "PROC-ANY",
            "originator": "u1",
            "form": {"事由": "出差"},
            "approvers": [{"action": "AND", "users": ["u2"]}],
        }
    )
    job_id = await worker.send(job)
    assert await worker.finish(job_id) == State.DONE
    result = (await worker.status(job_id)).result
    return str(result["instance_id"])


def follower(instance: str) -> str:
    return record.keyed_id("default", "approval-follow", instance)


async def row_of(worker: OneWorker, instance: str) -> RowMapping:
    store = ApprovalStore(worker.database, "default")
    row = await store.find(instance)
    assert row is not None
    return row


def reads(sandbox: SandboxAdmin) -> int:
    """How often DingTalk was asked for the one approval, which was created on the same path."""
    return sum(call["api"] == READ for call in sandbox.calls()) - 1


async def test_nothing_is_asked_before_it_is_due(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    instance = await created(worker)
    assert await worker.run(follower(instance)) == State.SNOOZED
    row = await row_of(worker, instance)
    assert (row["state"], row["template"], row["originator"]) == ("running", "PROC-ANY", "u1")
    assert (row["look_at"] - row["known_at"]).total_seconds() == LOOKS[0]
    assert reads(sandbox) == 0


@pytest.mark.parametrize("generation", ["v1.0", "topapi"])
async def test_a_decision_without_an_event_is_found_by_looking(
    open_worker: OpenWorker, sandbox: SandboxAdmin, generation: str
) -> None:
    api = {"DINGTALK_APPROVAL_API": generation, **AT_ONCE}
    async with open_worker(**api) as worker:
        instance = await created(worker)
        assert await worker.run(follower(instance)) == State.SNOOZED
        assert (await row_of(worker, instance))["state"] == "running"
        await asyncio.to_thread(sandbox.advance, instance, "agree")
        assert await worker.run(follower(instance)) == State.DONE
        row = await row_of(worker, instance)
        assert (row["state"], row["source"], row["looks"]) == ("approved", "look", 2)
        assert row["business_id"]
        assert row["link"].startswith("https://")
        store = ApprovalStore(worker.database, "default")
        [task] = (await store.tasks([instance]))[instance]
        assert (task["user"], task["state"]) == ("u2", "agreed")
        status = await worker.status(follower(instance))
        assert status.result == {"state": "approved", "looks": 2}


@pytest.mark.parametrize("dialect", ["v1.0", "topapi"])
async def test_a_deleted_approval_is_reported_so(
    open_worker: OpenWorker, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch, dialect: str
) -> None:
    settings = {**AT_ONCE, "DINGTALK_APPROVAL_API": dialect}
    async with open_worker(**settings) as asking:
        instance = await created(asking)
        await asyncio.to_thread(sandbox.delete_approval, instance)
        # It may only not be readable yet, or be denied by mistake.
        for _ in range(2):
            assert await asking.run(follower(instance)) == State.SNOOZED
            assert (await row_of(asking, instance))["state"] == "running"
        monkeypatch.setattr(approval_follow, "DENIED_AGAIN_AFTER", timedelta(0))
        assert await asking.run(follower(instance)) == State.DONE
        assert (await row_of(asking, instance))["state"] == "deleted"


async def test_one_denial_does_not_delete_an_approval_and_its_end_revives_a_deleted_one(
    asking: OneWorker, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = await created(asking)
    denied = {"api": READ, "code": "processInstanceNotExist", "status": 400}
    monkeypatch.setattr(approval_follow, "DENIED_AGAIN_AFTER", timedelta(seconds=1))
    sandbox.add_fault("error", **denied, count=1)
    for _ in range(2):
        assert await asking.run(follower(instance)) == State.SNOOZED
    row = await row_of(asking, instance)
    assert (row["state"], row["looks"]) == ("running", 1)
    # A denial of the next look is the first one again.
    sandbox.add_fault("error", **denied, count=20)
    assert await asking.run(follower(instance)) == State.SNOOZED
    assert await asking.finish(follower(instance)) == State.DONE
    assert (await row_of(asking, instance))["state"] == "deleted"
    await instance_event(asking, instance, type="finish", result="agree")
    assert (await row_of(asking, instance))["state"] == "approved"


async def test_a_contradicted_end_is_looked_up(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    instance = await created(worker)
    assert await worker.run(follower(instance)) == State.SNOOZED
    (waiting,) = sandbox.approvals()[-1]["tasks"]
    await task_event(worker, instance, type="start", taskId=str(waiting["id"]), staffId="u2")
    await instance_event(worker, instance, type="finish", result="agree")
    waits, state = list[float](), State.SNOOZED
    while (row := await row_of(worker, instance))["look_at"] is not None:
        waits.append((row["look_at"] - row["changed_at"]).total_seconds())
        # The time passes until the look-up is due.
        passed = row["look_at"] - datetime.now(UTC) + timedelta(seconds=1)
        moved = {"look_at": row["look_at"] - passed, "changed_at": row["changed_at"] - passed}
        async with worker.database.write("tests") as connection:
            await connection.execute(update(ApprovalRow).values(moved))
        state = await worker.run(follower(instance))
        due = (await worker.status(follower(instance))).due_at
        assert state == State.DONE or (due and due - datetime.now(UTC) > timedelta(minutes=5))
    # The first look-up reports the link, which is a change.
    assert [round(wait / 60) for wait in waits] == [10, 30, 150, 510]
    assert reads(sandbox) == len(LOOKS)
    assert (row["state"], state) == ("approved", State.DONE)


async def test_failing_looks_spend_no_attempt(asking: OneWorker, sandbox: SandboxAdmin) -> None:
    instance = await created(asking)
    sandbox.add_fault("error", api=READ, code="systemError", count=3)
    for _ in range(3):
        assert await asking.run(follower(instance)) == State.SNOOZED
    assert (await asking.status(follower(instance))).attempts == 0
    await asyncio.to_thread(sandbox.advance, instance, "refuse")
    assert await asking.finish(follower(instance)) == State.DONE
    assert (await row_of(asking, instance))["state"] == "refused"


async def test_looks_keep_to_their_share(open_worker: OpenWorker, sandbox: SandboxAdmin) -> None:
    limits: dict[str, Any] = {
        "quota": {"edition": "100"},
        "approvals": {"look_share": 0.02, "looks": [0.001]},
    }
    async with open_worker(**limits) as worker:
        instance = await created(worker)
        # What DingTalk does not answer is not charged.
        sandbox.add_fault("http", api=READ, status=503, count=3)
        for _ in range(3):
            assert await worker.run(follower(instance)) == State.SNOOZED
        sandbox.clear_faults()
        unanswered = reads(sandbox)
        for _ in range(5):
            assert await worker.run(follower(instance)) == State.SNOOZED
        assert reads(sandbox) - unanswered == 2


async def instance_event(worker: OneWorker, instance: str, **fields: Any) -> bool:
    """Whether an event is about an approval that is followed."""
    return await send_event("bpms_instance_change", worker, instance, **fields)


async def task_event(worker: OneWorker, instance: str, **fields: Any) -> bool:
    """The same of an event of a task."""
    return await send_event("bpms_task_change", worker, instance, **fields)


async def send_event(event_type: str, worker: OneWorker, instance: str, **fields: Any) -> bool:
    data = {"processInstanceId": instance, "processCode": "PROC-ANY", **fields}
    event = Event(event_type=event_type, event_id=uuid.uuid4().hex, data=data)
    job_id = await worker.send(event)
    assert await worker.finish(job_id) == State.DONE
    result = (await worker.status(job_id)).result
    return bool(result["follows"] == "approval")


async def test_an_event_replaces_the_look(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    instance = await created(worker)
    # It comes before the job that follows the approval has made its row.
    assert await instance_event(worker, instance, type="start", title="Trip")
    assert await worker.run(follower(instance)) == State.SNOOZED
    row = await row_of(worker, instance)
    assert (row["title"], row["originator"], row["job"] != "") == ("Trip", "u1", True)
    assert await instance_event(worker, instance, type="finish", result="agree")
    due = await worker.redis.hget(keys.job(follower(instance)), "due")
    assert due is not None
    assert int(due) <= (await row_of(worker, instance))["changed_at"].timestamp() * 1000 + 60_000
    assert await worker.run(follower(instance)) == State.DONE
    row = await row_of(worker, instance)
    assert (row["state"], row["source"], reads(sandbox)) == ("approved", "event", 0)


async def test_an_unknown_decider_is_looked_up(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    instance = await created(worker)
    assert await worker.run(follower(instance)) == State.SNOOZED
    (waiting,) = sandbox.approvals()[-1]["tasks"]
    await task_event(worker, instance, type="start", taskId=str(waiting["id"]), staffId="u2")
    await asyncio.to_thread(sandbox.advance, instance, "agree")
    assert await instance_event(worker, instance, type="finish", result="agree")
    assert await worker.run(follower(instance)) == State.SNOOZED
    row = await row_of(worker, instance)
    assert (row["state"], row["look_at"] - row["finished_at"]) == (
        "approved",
        timedelta(seconds=LOOKS[0]),
    )
    store = ApprovalStore(worker.database, "default")
    due = row["look_at"] - timedelta(days=1)
    async with worker.database.write("tests") as connection:
        await connection.execute(update(ApprovalRow).values(look_at=due))
    assert await worker.run(follower(instance)) == State.DONE
    (task,) = (await store.tasks([instance]))[instance]
    assert (task["state"], reads(sandbox)) == ("agreed", 1)


async def test_an_early_event_waits_for_the_job(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    instance = await created(worker)
    owner = await worker.redis.getdel(keys.approval_owner(instance))
    data = {"processInstanceId": instance, "type": "finish", "result": "agree"}
    event = Event(event_type="bpms_instance_change", event_id="early", data=data)
    job_id = await worker.send(event)
    assert await worker.run(job_id) == State.SNOOZED
    await worker.redis.set(keys.approval_owner(instance), owner or b"", ex=60)
    assert await worker.run(job_id) == State.DONE
    assert await worker.run(follower(instance)) == State.DONE
    assert ((await row_of(worker, instance))["state"], reads(sandbox)) == ("approved", 0)


async def test_a_much_earlier_event_causes_a_look(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    instance = await created(worker)
    # As if the answer to the creation were still to come.
    owner = await worker.redis.getdel(keys.approval_owner(instance))
    assert not await instance_event(worker, instance, type="finish", result="agree")
    await worker.redis.set(keys.approval_owner(instance), owner or b"", ex=60)
    await asyncio.to_thread(sandbox.advance, instance, "agree")
    assert await worker.run(follower(instance)) == State.DONE
    assert reads(sandbox) == 1


@pytest.mark.parametrize(
    ("follow", "followed"),
    [("own", False), ("none", False), ("all", True), (["PROC-ANY"], True), (["PROC-X"], False)],
)
async def test_a_setting_chooses_the_approvals_that_are_followed(
    open_worker: OpenWorker, redis: Redis, follow: Any, followed: bool
) -> None:
    settings = {"approvals": {"follow": follow}}
    async with open_worker(**settings) as worker:
        assert await instance_event(worker, "somebodys", type="start") == followed
        assert await redis.exists(keys.job(follower("somebodys"))) == followed
        instance = await created(worker)
        assert await redis.exists(keys.job(follower(instance))) == (follow != "none")


async def test_an_event_makes_an_unfollowed_approval_followed(worker: OneWorker) -> None:
    """Such as one that a person named, where the client died before it enqueued the job."""
    instance = await created(worker)
    await worker.redis.delete(keys.job(follower(instance)))
    assert await instance_event(worker, instance, type="start", title="Trip")
    owner = await worker.redis.get(keys.approval_owner(instance))
    assert (await row_of(worker, instance))["job"] == owner.decode().partition(" ")[2]
    assert await worker.run(follower(instance)) == State.SNOOZED


def states_of_hr(worker: OneWorker, store: Callable[[], ApprovalStore]) -> JobApprovalStates:
    """What an event of another app changes, and wakes nothing."""

    async def nothing(_: object) -> None:
        raise AssertionError("nothing is enqueued or woken")

    settings = worker.executor.resources.settings
    chosen: Any = {"settings": settings, "redis": worker.redis, "enqueue": nothing, "wake": nothing}
    return JobApprovalStates("hr", job_id="event-of-hr", sender="", store=store, **chosen)


async def test_another_apps_approval_is_not_followed(worker: OneWorker) -> None:
    instance = await created(worker)
    store = ApprovalStore(worker.database, "hr")
    states = states_of_hr(worker, lambda: store)
    change = ApprovalChange(instance=instance, source="event", state="approved")
    assert await states.record(change, at=datetime.now(UTC)) is None
    assert await store.find(instance) is None


ALL: Any = {"approvals": {"follow": "all"}}


async def notices_of(database: Database, *types: str) -> list[Notice]:
    """The notices of some types, in order."""
    query = select(NoticeRow.__table__).where(NoticeRow.type.in_(types)).order_by(NoticeRow.number)
    async with database.read() as connection:
        return [Notice.of(row) for row in (await connection.execute(query)).mappings()]


async def test_a_late_job_names_its_approval(open_worker: OpenWorker, redis: Redis) -> None:
    async with open_worker(**ALL) as worker:
        resources = worker.executor.resources
        database = resources.database
        await subscribe(database)
        await subscribe(database, id="drw_crm", senders=["crm"])
        instance = await created(worker)
        mark = await redis.getdel(keys.approval_owner(instance))
        assert isinstance(mark, bytes)
        job = mark.decode().partition(" ")[2]
        await redis.hset(keys.job(job), "sender", "crm")
        await redis.delete(keys.job(follower(instance)))
        # Its answer is lost, and nothing says yet whose approval it is.
        await task_event(worker, instance, type="finish", result="agree", taskId="7", staffId="u2")
        await instance_event(worker, instance, type="finish", result="agree")
        assert await worker.run(follower(instance)) == State.DONE
        assert (await row_of(worker, instance))["job"] == ""
        await redis.set(keys.approval_owner(instance), mark, ex=60)
        states = resources.approval_states("default", job_id=job, sender="crm")
        for _ in range(2):
            await states.follow(instance, at=datetime.now(UTC))
        row = await row_of(worker, instance)
        assert (row["job"], row["sender"], row["originator"]) == (job, "crm", "u1")
        (end,) = await notices_of(database, "approval.approved")
        assert (end.sender, end.kind, end.data["job"]) == ("crm", "approval-create", job)
        taking = select(DeliveryRow.endpoint).join(
            NoticeRow, NoticeRow.number == DeliveryRow.notice
        )
        async with database.read() as connection:
            takers = await connection.scalars(taking.where(NoticeRow.id == end.id))
            assert set(takers) == {"drw_test", "drw_crm"}


async def test_two_apps_report_an_approval_once(open_worker: OpenWorker, redis: Redis) -> None:
    async with open_worker(**ALL) as worker:
        resources = worker.executor.resources
        database = resources.database
        await subscribe(database)
        instance = await created(worker)
        hr, now = resources.approval_states("hr", job_id="e", sender=""), datetime.now(UTC)
        table = ApprovalStore(database, "hr")

        def change(instance: str, **fields: Any) -> ApprovalChange:
            return ApprovalChange(instance=instance, source="event", **fields)

        # While the answer is lost the events of both apps look alike.
        mark = await redis.getdel(keys.approval_owner(instance))
        assert await hr.record(change(instance, state="running"), at=now)
        assert await table.find(instance)
        await redis.set(keys.approval_owner(instance), mark or b"", ex=60)
        assert await hr.record(change(instance, state="approved"), at=now) is None
        assert await table.find(instance) is None
        await instance_event(worker, instance, type="finish", result="agree")
        (end,) = await notices_of(database, "approval.approved")
        assert (end.app, end.data["job"]) == ("default", (await row_of(worker, instance))["job"])
        # One that people created belongs to each app that hears of it, and has one id.
        for app in ("default", "hr"):
            states = resources.approval_states(app, job_id="e", sender="")
            assert await states.record(change("a person's", state="refused"), at=now)
        assert len(await notices_of(database, "approval.refused")) == 1


async def test_a_named_approval_has_template_and_originator(worker: OneWorker) -> None:
    instance = await created(worker)
    mark = await worker.redis.getdel(keys.approval_owner(instance))
    assert isinstance(mark, bytes)
    job = mark.decode().partition(" ")[2]
    await worker.redis.delete(keys.job(follower(instance)), keys.job_approval(job))
    await worker.redis.hset(keys.job(job), "state", "unknown")
    assert await asyncio.to_thread(worker.client.resolve, job, instance=instance)
    assert await worker.run(follower(instance)) == State.SNOOZED
    row = await row_of(worker, instance)
    assert (row["job"], row["template"], row["originator"]) == (job, "PROC-ANY", "u1")


async def test_an_event_before_its_row_causes_a_look(worker: OneWorker) -> None:
    store, away = ApprovalStore(worker.database, "hr"), list[str]()

    def found() -> ApprovalStore:
        if away:
            raise OSError(away.pop())
        return store

    states = states_of_hr(worker, found)
    now = datetime.now(UTC)
    change = ApprovalChange(instance="i", source="event", state="approved")
    assert await states.record(change, at=now) is None
    away.append("the database")
    with pytest.raises(OSError, match="the database"):
        await states.open("i", at=now)
    await states.open("i", at=now)
    made = await store.find("i")
    assert made["look_at"] <= now
    assert not await worker.redis.exists(keys.approval_missed("hr", "i"))


async def test_each_change_is_one_notice(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    database = worker.database
    await subscribe(database)
    instance = await created(worker)
    task = {"taskId": "71", "staffId": "u2"}
    for _ in range(2):
        await instance_event(worker, instance, type="start")
        await task_event(worker, instance, type="start", **task)
        await task_event(worker, instance, type="finish", result="refuse", **task)
        await instance_event(worker, instance, type="finish", result="refuse")
    notices = await notices_of(
        database, "approval.task", "approval.approved", "approval.refused", "approval.terminated"
    )
    published = [
        (notice.type, notice.data.get("task", {}).get("state"))
        for notice in notices
        if notice.type.startswith("approval.")
    ]
    assert published == [
        ("approval.task", "running"),
        ("approval.task", "refused"),
        ("approval.refused", None),
    ]
    assert {notice.data["instance"] for notice in notices} == {instance}
    assert len({notice.id for notice in notices}) == len(notices)


@pytest.mark.parametrize("kind", [ApprovalDecide, ApprovalLook])
async def test_an_approval_that_somebody_waits_for_is_read_at_once(
    worker: OneWorker, sandbox: SandboxAdmin, kind: type[ApprovalDecide | ApprovalLook]
) -> None:
    instance = await created(worker)
    sandbox.add_fault("http", api=READ, status=503, count=1)
    fields = {"user": "u2", "decision": "agree"} if kind is ApprovalDecide else {}
    job_id = await worker.send(kind.model_validate({"instance": instance, **fields}))
    assert await worker.run(job_id) == State.RETRYING
    due = (await worker.status(job_id)).due_at
    assert due is not None
    assert due - datetime.now(UTC) < timedelta(minutes=1)
    assert await worker.finish(job_id) == State.DONE


@pytest.mark.parametrize("fault", ["reset_before", "reset_after", "lost_answer"])
async def test_a_decision_whose_answer_was_lost_is_taken_once(
    open_worker: OpenWorker, sandbox: SandboxAdmin, fault: str
) -> None:
    async with open_worker(settle_delay=0.2) as worker:
        instance = await created(worker)
        await worker.run(follower(instance))
        sandbox.add_fault(fault, api=EXECUTE, count=1)
        decide = ApprovalDecide(instance=instance, user="u2", decision="agree")
        job_id = await worker.send(decide)
        assert not (await worker.run(job_id)).ended
        assert await worker.finish(job_id) == State.DONE
        [report] = sandbox.approvals()
        assert [task["result"] for task in report["tasks"]] == ["AGREE"]
        assert report["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("action", "state"), [("agree", "done"), ("refuse", "dead"), ("terminate", "dead")]
)
async def test_a_decision_that_was_lost_is_not_taken_for_what_others_did_meanwhile(
    open_worker: OpenWorker, sandbox: SandboxAdmin, action: str, state: str
) -> None:
    sandbox.set_limits(calls="", terminate_after_seconds=0)
    async with open_worker(settle_delay=0.2) as worker:
        instance = await created(worker)
        await worker.run(follower(instance))
        sandbox.add_fault("reset_before", api=EXECUTE, count=1)
        job_id = await worker.send(ApprovalDecide(instance=instance, user="u2", decision="agree"))
        assert not (await worker.run(job_id)).ended
        user = "u1" if action == "terminate" else "u2"
        await asyncio.to_thread(sandbox.act, instance, action, user)
        assert await worker.finish(job_id) == state
        status = await worker.status(job_id)
        if state == "done":
            assert status.result
            assert status.result["task"]
        else:
            assert status.error
            assert status.error.code == "decided_otherwise"


@pytest.mark.parametrize(("generation", "state"), [("v1.0", "done"), ("topapi", "dead")])
async def test_the_originator_chooses_who_decides_where_the_template_asks_for_it(
    open_worker: OpenWorker, sandbox: SandboxAdmin, generation: str, state: str
) -> None:
    sandbox.add_template("PROC-CHOSEN", approvers=["u2"], target_select=["manual_1"])
    job = ApprovalCreate.parse(
        {
            "process_code": "PROC-CHOSEN",
            "originator": "u1",
            "form": {"事由": "出差"},
            "target_actioners": [{"key": "manual_1", "users": ["u7"]}],
        }
    )
    api = {"DINGTALK_APPROVAL_API": generation}
    async with open_worker(**api) as worker:
        assert await worker.finish(await worker.send(job)) == state
    users = [task["user"] for made in sandbox.approvals() for task in made["tasks"]]
    assert users == (["u7"] if state == "done" else [])
