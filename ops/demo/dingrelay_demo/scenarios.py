"""What the demo shows, act by act. Every number that an act tells is counted, none is written."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence

from redis import Redis

from dingrelay_demo import messages
from dingrelay_demo.context import SEND_API, Stage
from dingrelay_producers import CampaignStatus, JobRef, JobStatus
from dingrelay_producers.store import keys
from dingrelay_tasks import ApprovalCreate, UserSync

BURST = 300
URGENT_AFTER = 90
STORM_BURST, STORM_SECONDS = 100, 4
CAMPAIGN_RATE = 15_000
"""Recipients a minute: slow enough to be watched."""
PAUSED_SECONDS = 2.0
KILL_BURST, KILL_AFTER = 120, 30

MEMBERS_API = "/topapi/v2/user/list"


async def one_of_each(stage: Stage) -> None:
    """One message of each type."""
    stage.screen.act("One message of each of DingTalk's types")
    refs = await stage.send_many(
        [messages.message("u1", content) for content in messages.ONE_OF_EACH]
    )
    done = await stage.finish(refs)
    for content, status in zip(messages.ONE_OF_EACH, done, strict=True):
        stage.screen.job(content["msgtype"], status)


async def directory(stage: Stage) -> None:
    """The whole organisation, department by department."""
    organisation = stage.system.sandbox.health()
    stage.screen.act(
        f"A user-sync of {organisation['users']:,} people in "
        f"{organisation['departments']} departments"
    )
    ref = await stage.send(UserSync())
    with stage.screen.bar(organisation["departments"], "departments") as bar:

        def look(_: int) -> None:
            read = stage.system.sandbox.audit()["calls"].get(MEMBERS_API, {})
            bar.show(min(read.get("ok", 0), organisation["departments"]))

        (status,) = await stage.finish([ref], look)
    result = status.result or {}
    stage.screen.note(
        f"{result.get('added', 0):,} people added with {result.get('calls', 0)} calls; "
        "each department was a job of its own"
    )


async def approvals(stage: Stage) -> None:
    """Three approvals."""
    stage.screen.act("Three approvals, which are never created twice")
    forms = ({"事由": "出差", "天数": 3}, {"事由": "年假", "天数": 5}, {"事由": "调休", "天数": 1})
    refs = await stage.send_many(
        [
            ApprovalCreate.parse(
                {"process_code": "PROC-LEAVE", "originator": f"u{number}", "form": form}
            )
            for number, form in enumerate(forms, 2)
        ]
    )
    for status in await stage.finish(refs):
        stage.screen.job((status.result or {}).get("instance_id", ""), status)


async def burst(stage: Stage) -> None:
    """A broadcast that fills the limit, and an urgent message that does not wait for it."""
    stage.screen.act(
        f"{BURST} messages meet the limit of 20 calls a second; an urgent one overtakes"
    )
    since = time.time()
    refs = await stage.send_many(messages.texts(BURST, "全员通知", "bulk"))
    urgent: JobRef | None = None
    with stage.screen.bar(BURST, "messages") as bar:
        enough = asyncio.Event()

        def look(ended: int) -> None:
            bar.show(ended, stage.calls(since))
            if ended >= URGENT_AFTER:
                enough.set()

        watching = asyncio.create_task(stage.finish(refs, look))
        await enough.wait()
        urgent = await stage.send(messages.message("u7", messages.text("生产告警"), "urgent"))
        done = await watching
    (passed,) = await stage.finish([urgent])
    waiting = sum(_after(status, passed) for status in done)
    stage.screen.note(
        f"urgent: {stage.screen.took(passed)} from enqueue to DingTalk, ahead of {waiting} "
        "messages that had been waiting for longer"
    )


async def campaign(stage: Stage) -> None:
    """A broadcast to everyone that is paused in the middle, and an urgent message beside it."""
    people = [user["userid"] for user in stage.system.sandbox.organisation()["users"]]
    stage.screen.act(
        f"A campaign to {len(people):,} people, paused and resumed; an urgent message overtakes"
    )
    content = messages.text("年会邀请：周五 18:00，三楼大厅。")
    since = time.time()
    ref = await asyncio.to_thread(
        stage.system.client.campaign(
            name="年会邀请", message=content, recipients=people, rate=CAMPAIGN_RATE
        ).create
    )
    stage.ledger.note_campaign(ref, content, len(people))
    await asyncio.to_thread(ref.start)
    with stage.screen.bar(len(people), "people") as bar:

        async def until(people: int) -> CampaignStatus:
            return await stage.reach(
                ref, people, lambda accepted: bar.show(accepted, stage.calls(since))
            )

        await until(len(people) // 4)
        urgent = await stage.send(messages.message("u8", messages.text("停电通知"), "urgent"))
        await until(len(people) // 2)
        await asyncio.to_thread(ref.pause)
        paused = time.time()
        await asyncio.sleep(PAUSED_SECONDS)
        held = await asyncio.to_thread(ref.status)
        after = [call["at"] - paused for call in stage.calls(paused)]
        await asyncio.to_thread(ref.resume)
        done = await until(len(people))
    (passed,) = await stage.finish([urgent])
    stage.screen.note(
        f"paused with {held.recipients - held.accepted:,} people to go: "
        + (f"the last call left {max(after):.1f} s later" if after else "no call left after it")
    )
    stage.screen.note(
        f"{done.accepted:,} people with {done.calls} calls; "
        f"urgent: {stage.screen.took(passed)} from enqueue to DingTalk"
    )


async def storm(stage: Stage) -> None:
    """DingTalk answers 43004 for a while, whoever asks."""
    stage.screen.act(f"A storm: DingTalk answers 43004 to every call for {STORM_SECONDS} seconds")
    since = time.time()
    refs = await stage.send_many(messages.texts(STORM_BURST, "账单提醒", "normal"))
    with stage.screen.bar(STORM_BURST, "messages") as bar:
        striking = False

        def look(ended: int) -> None:
            nonlocal striking
            if not striking and ended >= STORM_BURST // 4:
                striking = True
                stage.system.sandbox.add_fault(
                    "throttle", code="43004", api=SEND_API, seconds=STORM_SECONDS
                )
            bar.show(ended, stage.calls(since))

        done = await stage.finish(refs, look)
    refused = sum(call["verdict"] == "throttled" for call in stage.calls(since))
    spent = sum(status.attempts - 1 for status in done)
    stage.screen.note(
        f"{refused} calls were answered 43004, then the whole fleet paused and tried one at a "
        f"time; {spent} attempts were spent on it"
    )


async def crash(stage: Stage) -> None:
    """A worker dies without a word, with jobs in its hands."""
    stage.screen.act(f"kill -9 of a worker in the middle of {KILL_BURST} messages")
    # With slow answers it dies in the middle of calls, not between them.
    slow = stage.system.sandbox.add_fault("latency", api=SEND_API, min_ms=400, max_ms=800)
    since = time.time()
    refs = await stage.send_many(messages.texts(KILL_BURST, "排班更新", "normal"))
    killed = 0
    with stage.screen.bar(KILL_BURST, "messages") as bar:

        def look(ended: int) -> None:
            nonlocal killed
            if not killed and ended >= KILL_AFTER:
                killed = stage.system.worker_pids()[0]
                os.kill(killed, signal.SIGKILL)
            bar.show(ended, stage.calls(since))

        await stage.finish(refs, look)
    stage.system.sandbox.delete_fault(slow)
    stage.screen.note(
        f"process {killed} was killed; {await asyncio.to_thread(taken_over, stage, refs)} jobs "
        "that it held were finished by another one once it had given no sign of life for a while "
        "(5 s here, 6 s by default)"
    )


def taken_over(stage: Stage, refs: Sequence[JobRef]) -> int:
    """How many of the jobs a worker had claimed that vanished before it let go of them."""
    with Redis.from_url(stage.system.client.settings.redis) as redis:
        pipe = redis.pipeline(transaction=False)
        for ref in refs:
            pipe.hmget(keys.job(ref.id), "crashes", "losses")
        return sum(any(counts) for counts in pipe.execute())


def _after(status: JobStatus, passed: JobStatus) -> bool:
    """Whether the job was asked for earlier and done later."""
    assert status.settled_at
    assert passed.settled_at
    return status.created_at < passed.created_at and status.settled_at > passed.settled_at


ALL: tuple[Callable[[Stage], Awaitable[None]], ...] = (
    one_of_each,
    directory,
    approvals,
    burst,
    campaign,
    storm,
    crash,
)
