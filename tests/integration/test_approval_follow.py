"""An approval is followed until it has ended: one worker, a real Valkey and the sandbox."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import RowMapping, select

from dingrelay_producers import JobStatus, State
from dingrelay_producers.settings.sections import LOOKS
from dingrelay_producers.store import keys, record
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ApprovalCreate, approval_follow
from dingrelay_tasks.approval_decide import ApprovalDecide
from dingrelay_tasks.approval_follow import ApprovalLook
from dingrelay_tasks.context import ApprovalChange
from dingrelay_tasks.event import Event
from dingrelay_workers.approvals.models import ApprovalRow, ApprovalTaskRow
from dingrelay_workers.approvals.states import JobApprovalStates
from dingrelay_workers.approvals.store import ApprovalStore
from dingrelay_workers.database.database import Database
from dingrelay_workers.outbox.models import DeliveryRow, NoticeRow
from dingrelay_workers.outbox.notice import Notice
from support.rows import all_of, change
from support.webhooks import subscribe
from support.workers import OneWorker, OpenWorker

READ = "/v1.0/workflow/processInstances"
EXECUTE = f"{READ}/execute"


AT_ONCE: Any = {"approvals": {"looks": [0.001]}}
"""DingTalk is asked whenever an approval is looked at."""
SHARE: Any = {"quota": {"edition": "100"}, "approvals": {"look_share": 0.02, "looks": [0.001]}}
EACH_API = [
    pytest.param({"DINGTALK_APPROVAL_API": api, **AT_ONCE}, id=api) for api in ("v1.0", "topapi")
]
asking = pytest.mark.parametrize("worker_settings", [AT_ONCE], ids=["asking"])


def follow(which: Any) -> Any:
    """The settings of a worker that follows these approvals."""
    return {"approvals": {"follow": which}}


class Followed:
    """An approval that u2 decides, and the worker that follows it."""

    def __init__(self, worker: OneWorker, instance: str) -> None:
        self.worker = worker
        self.id = instance
        self.follower = record.keyed_id("default", "approval-follow", instance)
        self.store = ApprovalStore(worker.database, "default")

    async def run(self) -> State:
        """One run of the job that follows it."""
        return await self.worker.run(self.follower)

    async def finish(self) -> State:
        return await self.worker.finish(self.follower)

    async def status(self) -> JobStatus:
        return await self.worker.status(self.follower)

    async def agree(self) -> str:
        """The job of u2's decision."""
        job = ApprovalDecide(instance=self.id, user="u2", decision="agree")
        return await self.worker.send(job)

    async def row(self) -> RowMapping:
        row = await self.store.find(self.id)
        assert row is not None
        return row

    async def tasks(self) -> Any:
        own = ApprovalTaskRow.instance == self.id
        found = await all_of(self.worker.database, ApprovalTaskRow, own)
        return sorted(found, key=itemgetter("task"))

    async def event(self, *, of: str = "instance", **fields: Any) -> bool:
        """Whether an event is about an approval that is followed."""
        data = {"processInstanceId": self.id, "processCode": "PROC-ANY", **fields}
        kind, event_id = f"bpms_{of}_change", uuid.uuid4().hex
        job = await self.worker.send(Event(event_type=kind, event_id=event_id, data=data))
        assert await self.worker.finish(job) == State.DONE
        return bool((await self.worker.status(job)).result["follows"] == "approval")

    async def hide_owner(self) -> bytes:
        """Forget the job that created it, as before its answer came; `show_owner` undoes it."""
        mark = await self.worker.redis.getdel(keys.approval_owner(self.id))
        assert isinstance(mark, bytes)
        return mark

    async def show_owner(self, mark: bytes) -> None:
        await self.worker.redis.set(keys.approval_owner(self.id), mark, ex=60)


async def created(worker: OneWorker) -> Followed:
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
    return Followed(worker, str((await worker.status(job_id)).result["instance_id"]))


@pytest.fixture
async def approval(worker: OneWorker) -> Followed:
    return await created(worker)


def reads(sandbox: SandboxAdmin) -> int:
    """How often DingTalk was asked for the one approval, which was created on the same path."""
    return sum(call["api"] == READ for call in sandbox.calls()) - 1


async def test_nothing_is_asked_before_it_is_due(approval: Followed, sandbox: SandboxAdmin) -> None:
    assert await approval.run() == State.SNOOZED
    row = await approval.row()
    assert (row["state"], row["template"], row["originator"]) == ("running", "PROC-ANY", "u1")
    assert (row["look_at"] - row["known_at"]).total_seconds() == LOOKS[0]
    assert reads(sandbox) == 0


@pytest.mark.parametrize("worker_settings", EACH_API)
async def test_a_decision_without_an_event_is_found_by_looking(
    approval: Followed, sandbox: SandboxAdmin
) -> None:
    assert await approval.run() == State.SNOOZED
    assert (await approval.row())["state"] == "running"
    await asyncio.to_thread(sandbox.advance, approval.id, "agree")
    assert await approval.run() == State.DONE
    row = await approval.row()
    assert (row["state"], row["source"], row["looks"]) == ("approved", "look", 2)
    assert row["business_id"]
    assert row["link"].startswith("https://")
    [task] = await approval.tasks()
    assert (task["user"], task["state"]) == ("u2", "agreed")
    assert (await approval.status()).result == {"state": "approved", "looks": 2}


@pytest.mark.parametrize("worker_settings", EACH_API)
async def test_a_deleted_approval_is_reported_so(
    approval: Followed, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    await asyncio.to_thread(sandbox.delete_approval, approval.id)
    # It may only not be readable yet, or be denied by mistake.
    for _ in range(2):
        assert await approval.run() == State.SNOOZED
        assert (await approval.row())["state"] == "running"
    monkeypatch.setattr(approval_follow, "DENIED_AGAIN_AFTER", timedelta(0))
    assert await approval.run() == State.DONE
    assert (await approval.row())["state"] == "deleted"


@asking
async def test_one_denial_does_not_delete_an_approval_and_its_end_revives_a_deleted_one(
    approval: Followed, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = {"api": READ, "code": "processInstanceNotExist", "status": 400}
    monkeypatch.setattr(approval_follow, "DENIED_AGAIN_AFTER", timedelta(seconds=1))
    sandbox.add_fault("error", **denied, count=1)
    for _ in range(2):
        assert await approval.run() == State.SNOOZED
    row = await approval.row()
    assert (row["state"], row["looks"]) == ("running", 1)
    # A denial of the next look is the first one again.
    sandbox.add_fault("error", **denied, count=20)
    assert await approval.run() == State.SNOOZED
    assert await approval.finish() == State.DONE
    assert (await approval.row())["state"] == "deleted"
    await approval.event(type="finish", result="agree")
    assert (await approval.row())["state"] == "approved"


async def test_a_contradicted_end_is_looked_up(approval: Followed, sandbox: SandboxAdmin) -> None:
    assert await approval.run() == State.SNOOZED
    (waiting,) = sandbox.approvals()[-1]["tasks"]
    await approval.event(of="task", type="start", taskId=str(waiting["id"]), staffId="u2")
    await approval.event(type="finish", result="agree")
    waits, state = list[float](), State.SNOOZED
    while (row := await approval.row())["look_at"] is not None:
        waits.append((row["look_at"] - row["changed_at"]).total_seconds())
        # The time passes until the look-up is due.
        passed = row["look_at"] - datetime.now(UTC) + timedelta(seconds=1)
        moved = {"look_at": row["look_at"] - passed, "changed_at": row["changed_at"] - passed}
        await change(approval.worker.database, ApprovalRow, **moved)
        state = await approval.run()
        due = (await approval.status()).due_at
        assert state == State.DONE or (due and due - datetime.now(UTC) > timedelta(minutes=5))
    # The first look-up reports the link, which is a change.
    assert [round(wait / 60) for wait in waits] == [10, 30, 150, 510]
    assert reads(sandbox) == len(LOOKS)
    assert (row["state"], state) == ("approved", State.DONE)


@asking
async def test_failing_looks_spend_no_attempt(approval: Followed, sandbox: SandboxAdmin) -> None:
    sandbox.add_fault("error", api=READ, code="systemError", count=3)
    for _ in range(3):
        assert await approval.run() == State.SNOOZED
    assert (await approval.status()).attempts == 0
    await asyncio.to_thread(sandbox.advance, approval.id, "refuse")
    assert await approval.finish() == State.DONE
    assert (await approval.row())["state"] == "refused"


@pytest.mark.parametrize("worker_settings", [SHARE])
async def test_looks_keep_to_their_share(approval: Followed, sandbox: SandboxAdmin) -> None:
    # What DingTalk does not answer is not charged.
    sandbox.add_fault("http", api=READ, status=503, count=3)
    for _ in range(3):
        assert await approval.run() == State.SNOOZED
    sandbox.clear_faults()
    unanswered = reads(sandbox)
    for _ in range(5):
        assert await approval.run() == State.SNOOZED
    assert reads(sandbox) - unanswered == 2


async def test_an_event_replaces_the_look(approval: Followed, sandbox: SandboxAdmin) -> None:
    # It comes before the job that follows the approval has made its row.
    assert await approval.event(type="start", title="Trip")
    assert await approval.run() == State.SNOOZED
    row = await approval.row()
    assert (row["title"], row["originator"], row["job"] != "") == ("Trip", "u1", True)
    assert await approval.event(type="finish", result="agree")
    due = await approval.worker.redis.hget(keys.job(approval.follower), "due")
    assert due is not None
    assert int(due) <= (await approval.row())["changed_at"].timestamp() * 1000 + 60_000
    assert await approval.run() == State.DONE
    row = await approval.row()
    assert (row["state"], row["source"], reads(sandbox)) == ("approved", "event", 0)


async def test_an_unknown_decider_is_looked_up(approval: Followed, sandbox: SandboxAdmin) -> None:
    assert await approval.run() == State.SNOOZED
    (waiting,) = sandbox.approvals()[-1]["tasks"]
    await approval.event(of="task", type="start", taskId=str(waiting["id"]), staffId="u2")
    await asyncio.to_thread(sandbox.advance, approval.id, "agree")
    assert await approval.event(type="finish", result="agree")
    assert await approval.run() == State.SNOOZED
    row = await approval.row()
    assert row["state"] == "approved"
    assert (row["look_at"] - row["finished_at"]).total_seconds() == LOOKS[0]
    due = row["look_at"] - timedelta(days=1)
    await change(approval.worker.database, ApprovalRow, look_at=due)
    assert await approval.run() == State.DONE
    (task,) = await approval.tasks()
    assert (task["state"], reads(sandbox)) == ("agreed", 1)


async def test_an_early_event_waits_for_the_job(approval: Followed, sandbox: SandboxAdmin) -> None:
    owner = await approval.hide_owner()
    data = {"processInstanceId": approval.id, "type": "finish", "result": "agree"}
    event = Event(event_type="bpms_instance_change", event_id="early", data=data)
    job_id = await approval.worker.send(event)
    assert await approval.worker.run(job_id) == State.SNOOZED
    await approval.show_owner(owner)
    assert await approval.worker.run(job_id) == State.DONE
    assert await approval.run() == State.DONE
    assert ((await approval.row())["state"], reads(sandbox)) == ("approved", 0)


async def test_a_much_earlier_event_causes_a_look(
    approval: Followed, sandbox: SandboxAdmin
) -> None:
    # As if the answer to the creation were still to come.
    owner = await approval.hide_owner()
    assert not await approval.event(type="finish", result="agree")
    await approval.show_owner(owner)
    await asyncio.to_thread(sandbox.advance, approval.id, "agree")
    assert await approval.run() == State.DONE
    assert reads(sandbox) == 1


@pytest.mark.parametrize(
    ("worker_settings", "followed", "own"),
    [
        (follow("own"), False, True),
        (follow("none"), False, False),
        (follow("all"), True, True),
        (follow(["PROC-ANY"]), True, True),
        (follow(["PROC-X"]), False, True),
    ],
)
async def test_a_setting_chooses_the_approvals_that_are_followed(
    worker: OneWorker, redis: Redis, followed: bool, own: bool
) -> None:
    another = Followed(worker, "another's")
    assert await another.event(type="start") == followed
    assert await redis.exists(keys.job(another.follower)) == followed
    approval = await created(worker)
    assert await redis.exists(keys.job(approval.follower)) == own


async def test_an_event_makes_an_unfollowed_approval_followed(approval: Followed) -> None:
    """Such as one that a person named, where the client died before it enqueued the job."""
    await approval.worker.redis.delete(keys.job(approval.follower))
    assert await approval.event(type="start", title="Trip")
    owner = await approval.worker.redis.get(keys.approval_owner(approval.id))
    assert (await approval.row())["job"] == owner.decode().partition(" ")[2]
    assert await approval.run() == State.SNOOZED


def states_of_hr(worker: OneWorker, store: Callable[[], ApprovalStore]) -> JobApprovalStates:
    """States of another app's approvals, whose events wake nothing."""

    async def nothing(_: object) -> None:
        raise AssertionError("nothing is enqueued or woken")

    resources = worker.executor.resources
    chosen: Any = {"settings": resources.settings, "clock": resources.clock}
    chosen |= {"redis": worker.redis, "enqueue": nothing, "wake": nothing}
    return JobApprovalStates("hr", job_id="event-of-hr", sender="", store=store, **chosen)


async def test_another_apps_approval_is_not_followed(approval: Followed) -> None:
    store = ApprovalStore(approval.worker.database, "hr")
    states = states_of_hr(approval.worker, lambda: store)
    change = ApprovalChange(instance=approval.id, source="event", state="approved")
    assert await states.record(change, at=datetime.now(UTC)) is None
    assert await store.find(approval.id) is None


async def notices_of(database: Database, type_: str) -> list[Notice]:
    """The notices whose type begins so, in order."""
    query = select(NoticeRow.__table__).where(NoticeRow.type.startswith(type_))
    async with database.read() as connection:
        return [
            Notice.of(row)
            for row in (await connection.execute(query.order_by(NoticeRow.number))).mappings()
        ]


@pytest.mark.parametrize("worker_settings", [follow("all")])
async def test_a_late_job_names_its_approval(approval: Followed, redis: Redis) -> None:
    resources, database = approval.worker.executor.resources, approval.worker.database
    await subscribe(database)
    await subscribe(database, id="drw_crm", senders=["crm"])
    mark = await approval.hide_owner()
    job = mark.decode().partition(" ")[2]
    await redis.hset(keys.job(job), "sender", "crm")
    await redis.delete(keys.job(approval.follower))
    # Its answer is lost, and nothing says yet whose approval it is.
    await approval.event(of="task", type="finish", result="agree", taskId="7", staffId="u2")
    await approval.event(type="finish", result="agree")
    assert await approval.run() == State.DONE
    assert (await approval.row())["job"] == ""
    await approval.show_owner(mark)
    states = resources.approval_states("default", job_id=job, sender="crm")
    for _ in range(2):
        await states.follow(approval.id, at=datetime.now(UTC))
    row = await approval.row()
    assert (row["job"], row["sender"], row["originator"]) == (job, "crm", "u1")
    (end,) = await notices_of(database, "approval.approved")
    assert (end.sender, end.kind, end.data["job"]) == ("crm", "approval-create", job)
    taking = select(DeliveryRow.endpoint).join(NoticeRow, NoticeRow.number == DeliveryRow.notice)
    async with database.read() as connection:
        takers = await connection.scalars(taking.where(NoticeRow.id == end.id))
        assert set(takers) == {"drw_test", "drw_crm"}


@pytest.mark.parametrize("worker_settings", [follow("all")])
async def test_two_apps_report_an_approval_once(approval: Followed) -> None:
    resources, database = approval.worker.executor.resources, approval.worker.database
    await subscribe(database)
    hr, now = resources.approval_states("hr", job_id="e", sender=""), datetime.now(UTC)
    table = ApprovalStore(database, "hr")

    def change(instance: str, **fields: Any) -> ApprovalChange:
        return ApprovalChange(instance=instance, source="event", **fields)

    # While the answer is lost the events of both apps look alike.
    mark = await approval.hide_owner()
    assert await hr.record(change(approval.id, state="running"), at=now)
    assert await table.find(approval.id)
    await approval.show_owner(mark)
    assert await hr.record(change(approval.id, state="approved"), at=now) is None
    assert await table.find(approval.id) is None
    await approval.event(type="finish", result="agree")
    (end,) = await notices_of(database, "approval.approved")
    assert (end.app, end.data["job"]) == ("default", (await approval.row())["job"])
    # One that people created belongs to each app that hears of it, and has one id.
    for app in ("default", "hr"):
        states = resources.approval_states(app, job_id="e", sender="")
        assert await states.record(change("a person's", state="refused"), at=now)
    assert len(await notices_of(database, "approval.refused")) == 1


async def test_a_named_approval_has_template_and_originator(approval: Followed) -> None:
    mark = await approval.hide_owner()
    job = mark.decode().partition(" ")[2]
    await approval.worker.redis.delete(keys.job(approval.follower), keys.job_approval(job))
    await approval.worker.redis.hset(keys.job(job), "state", "unknown")
    assert await asyncio.to_thread(approval.worker.client.resolve, job, instance=approval.id)
    assert await approval.run() == State.SNOOZED
    row = await approval.row()
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
    approval = await created(worker)
    await subscribe(worker.database)
    task = {"taskId": "71", "staffId": "u2"}
    for _ in range(2):
        await approval.event(type="start")
        await approval.event(of="task", type="start", **task)
        await approval.event(of="task", type="finish", result="refuse", **task)
        await approval.event(type="finish", result="refuse")
    notices = await notices_of(worker.database, "approval.")
    published = [(notice.type, notice.data.get("task", {}).get("state")) for notice in notices]
    tasks = [("approval.task", "running"), ("approval.task", "refused")]
    assert published == [*tasks, ("approval.refused", None)]
    assert {notice.data["instance"] for notice in notices} == {approval.id}
    assert len({notice.id for notice in notices}) == len(notices)


@pytest.mark.parametrize("kind", [ApprovalDecide, ApprovalLook])
async def test_an_approval_that_somebody_waits_for_is_read_at_once(
    approval: Followed, sandbox: SandboxAdmin, kind: type[ApprovalDecide | ApprovalLook]
) -> None:
    worker = approval.worker
    sandbox.add_fault("http", api=READ, status=503, count=1)
    fields = {"user": "u2", "decision": "agree"} if kind is ApprovalDecide else {}
    job_id = await worker.send(kind.model_validate({"instance": approval.id, **fields}))
    assert await worker.run(job_id) == State.RETRYING
    due = (await worker.status(job_id)).due_at
    assert due is not None
    assert due - datetime.now(UTC) < timedelta(minutes=1)
    assert await worker.finish(job_id) == State.DONE


@pytest.mark.parametrize("fault", ["reset_before", "reset_after", "lost_answer"])
@pytest.mark.parametrize("worker_settings", [{"settle_delay": 0.2}])
async def test_a_decision_whose_answer_was_lost_is_taken_once(
    approval: Followed, sandbox: SandboxAdmin, fault: str
) -> None:
    await approval.run()
    sandbox.add_fault(fault, api=EXECUTE, count=1)
    job_id = await approval.agree()
    assert not (await approval.worker.run(job_id)).ended
    assert await approval.worker.finish(job_id) == State.DONE
    [report] = sandbox.approvals()
    assert [task["result"] for task in report["tasks"]] == ["AGREE"]
    assert report["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("action", "state"), [("agree", "done"), ("refuse", "dead"), ("terminate", "dead")]
)
@pytest.mark.parametrize("worker_settings", [{"settle_delay": 0.2}])
async def test_a_decision_that_was_lost_is_not_taken_for_what_others_did_meanwhile(
    approval: Followed, sandbox: SandboxAdmin, action: str, state: str
) -> None:
    sandbox.set_limits(calls="", terminate_after_seconds=0)
    await approval.run()
    sandbox.add_fault("reset_before", api=EXECUTE, count=1)
    job_id = await approval.agree()
    assert not (await approval.worker.run(job_id)).ended
    user = "u1" if action == "terminate" else "u2"
    await asyncio.to_thread(sandbox.act, approval.id, action, user)
    assert await approval.worker.finish(job_id) == state
    status = await approval.worker.status(job_id)
    if state == "done":
        assert status.result["task"]
    else:
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
