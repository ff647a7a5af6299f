"""The acts of the demo. Every number that an act shows is counted, none is written."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Literal

from aiohttp import web
from redis import Redis

from dingrelay_demo import requests as messages
from dingrelay_demo.context import SEND_API, DemoContext
from dingrelay_demo.system import GROUP
from dingrelay_producers import CampaignStatus, JobRef, JobStatus
from dingrelay_producers.language import tr
from dingrelay_producers.store import keys
from dingrelay_sandbox.receiver import receiving
from dingrelay_tasks import ApprovalCreate, MessageSend, UserSync

BURST = 300
URGENT_AFTER = 90
STORM_BURST, STORM_SECONDS = 100, 4
CAMPAIGN_RATE = 15_000
"""Recipients a minute: slow enough to be watched."""
PAUSED_SECONDS = 2.0
ALERTS = 200
KILL_BURST, KILL_AFTER = 120, 30

NEWCOMER, NEWCOMERS_MOBILE = "newcomer", "13900001111"

MEMBERS_API = "/topapi/v2/user/list"
BY_MOBILE_API = "/topapi/v2/user/getbymobile"


async def one_of_each(context: DemoContext) -> None:
    """One message of each type."""
    context.screen.act("One message of each of DingTalk's types")
    refs = await context.send_many(
        [messages.message("u1", content) for content in messages.ONE_OF_EACH]
    )
    done = await context.finish(refs)
    for content, status in zip(messages.ONE_OF_EACH, done, strict=True):
        context.screen.job(content["msgtype"], status)


async def over_http(context: DemoContext) -> None:
    """A job over HTTP, as from a program in any language."""
    job = messages.message("u2", messages.text("通过 HTTP 网关发送"))
    context.screen.act("A job over HTTP, with an API key")
    path, once = "/v1/messages?wait=30", {"Idempotency-Key": "demo-1"}
    made = [await context.ask("POST", path, job.wire(), once) for _ in range(2)]
    first, again = (each["id"] for each in made)
    ref = context.system.client.job(first)
    context.expected.add(ref, job)
    for status in await context.finish([ref]):
        context.screen.job("POST /v1/messages", status)
    same = tr("one job") if first == again else tr("two jobs")
    context.screen.note(
        "the same request was sent twice with one Idempotency-Key: {same}", same=same
    )


async def drop_in(context: DemoContext) -> None:
    """DingTalk's own URLs, as a script calls them that has never heard of us."""
    context.screen.act("The script of DingTalk's guide, led here by its base URL and a key")
    content = messages.text("教程脚本发送的工作通知")
    form = {"事由": "体检"}

    def play() -> tuple[str, str, int]:
        script = messages.GuideScript(context.system.gateway, context.system.key)
        sent, made = script.send("u3", content), script.approval("PROC-LEAVE", "u6", form)
        return sent["task_id"], made["process_instance_id"], len(script.departments())

    task_id, instance, departments = await asyncio.to_thread(play)
    expected = {
        "message-send": messages.message("u3", content),
        "approval-create": ApprovalCreate.parse(
            {"process_code": "PROC-LEAVE", "originator": "u6", "form": form}
        ),
    }
    # The script gets no job's id; its calls are the newest jobs.
    newest = await asyncio.to_thread(context.system.client.recent, 6)
    refs: list[JobRef] = []
    for found in newest:
        if found.kind in expected and not context.expected.has(found.id):
            refs.append(context.system.client.job(found.id))
            context.expected.add(refs[-1], expected[found.kind])
    for status in await context.finish(refs):
        context.screen.job(status.kind, status)
    context.screen.note(
        "it was answered task {task_id}, approval {instance} and {departments} departments, and "
        "knows of no job",
        task_id=task_id,
        instance=instance,
        departments=departments,
    )


async def directory(context: DemoContext) -> None:
    """The whole organisation, department by department."""
    organisation = context.system.sandbox.health()
    context.screen.act(
        "A user-sync of {users:,} people in {departments} departments",
        users=organisation["users"],
        departments=organisation["departments"],
    )
    ref = await context.send(UserSync())
    with context.screen.bar(organisation["departments"], tr("departments")) as bar:

        def look(_: int) -> None:
            read = context.system.sandbox.audit()["calls"].get(MEMBERS_API, {})
            bar(min(read.get("ok", 0), organisation["departments"]), ())

        (status,) = await context.finish([ref], look)
    result = status.result or {}
    context.screen.note(
        "{added:,} people added with {calls} calls; each department was a job of its own",
        added=result.get("added", 0),
        calls=result.get("calls", 0),
    )


async def approvals(context: DemoContext) -> None:
    """Three approvals."""
    context.screen.act("Three approvals, which are never created twice")
    forms = ({"事由": "出差", "天数": 3}, {"事由": "年假", "天数": 5}, {"事由": "调休", "天数": 1})
    refs = await context.send_many(
        [
            ApprovalCreate.parse(
                {"process_code": "PROC-LEAVE", "originator": f"u{number}", "form": form}
            )
            for number, form in enumerate(forms, 2)
        ]
    )
    for status in await context.finish(refs):
        context.screen.job((status.result or {}).get("instance_id", ""), status)


async def decisions(context: DemoContext) -> None:
    """The decisions on the approvals, without a query: by events, and passed on by a webhook."""
    made = context.system.sandbox.approvals()
    context.screen.act(
        "{count} approvals are decided in DingTalk; the business system gets a webhook of each",
        count=len(made),
    )
    states: dict[str, str] = {}

    async def take(request: web.Request) -> web.Response:
        body = await request.json()
        states[body["data"]["instance"]] = body["type"].removeprefix("approval.")
        return web.Response(status=204)

    with receiving(take) as url:
        # One notice of each approval, so all are delivered once each is; the receiver ends then.
        types = ["approval.approved", "approval.refused"]
        endpoint = {"name": "demo", "url": url, "types": types}
        await context.ask("POST", "/v1/webhooks", endpoint)
        began = time.monotonic()
        for number, approval in enumerate(made):
            result: Literal["agree", "refuse"] = "refuse" if number == 1 else "agree"
            await asyncio.to_thread(
                context.system.sandbox.advance, approval["id"], result, to_end=True
            )
        wanted = {approval["id"] for approval in made}
        await context.until(lambda: wanted <= states.keys(), tr("all webhooks are delivered"))
        took = time.monotonic() - began
    context.expected.decisions.update(states)
    for instance, state in states.items():
        context.screen.note(f"{instance}: {state}")
    looks = sum([await context.looks(instance) for instance in wanted])
    context.screen.note(
        "the last one was delivered {took:.1f} s after the first decision; questions to DingTalk: {asked}",
        took=took,
        asked=looks,
    )


async def newcomer(context: DemoContext) -> None:
    """A person joins, and is sent to by the mobile number before any walk."""
    context.screen.act("A person joins; a message goes to their mobile number")
    sandbox = context.system.sandbox
    sandbox.put_user(NEWCOMER, name="新同事", mobile=NEWCOMERS_MOBILE, dept_id_list=[1])
    joined = time.monotonic()
    await context.until(lambda: context.system.knows(NEWCOMER), tr("the event has come"))
    context.expected.joined.add(NEWCOMER)
    took = time.monotonic() - joined
    job = MessageSend.parse(
        {"to": {"mobiles": [NEWCOMERS_MOBILE]}, "message": messages.text("欢迎入职")}
    )
    for status in await context.finish([await context.send(job)]):
        context.screen.job("welcome", status)
    calls = sandbox.audit()["calls"].get(BY_MOBILE_API, {})
    context.screen.note(
        "an event brought them into the directory after {took:.1f} s; questions to DingTalk about the "
        "number: {times}",
        took=took,
        times=sum(calls.values()),
    )


async def burst(context: DemoContext) -> None:
    """A broadcast that fills the limit, and an urgent message that does not wait for it."""
    context.screen.act(
        "{count} messages meet the limit of 20 calls a second; an urgent one overtakes", count=BURST
    )
    since = time.time()
    refs = await context.send_many(messages.texts(BURST, "全员通知", "bulk"))
    sending: list[asyncio.Task[JobRef]] = []

    def overtake() -> None:
        urgent = messages.message("u7", messages.text("生产告警"), "urgent")
        sending.append(asyncio.create_task(context.send(urgent)))

    done = await context.watch(refs, since, after=URGENT_AFTER, act=overtake)
    (passed,) = await context.finish([await each for each in sending])
    waiting = sum(_after(status, passed) for status in done)
    context.screen.note(
        "urgent: {took} from enqueue to DingTalk, ahead of {waiting} messages that had been "
        "waiting for longer",
        took=context.screen.took(passed),
        waiting=waiting,
    )


async def campaign(context: DemoContext) -> None:
    """A broadcast to everyone that is paused in the middle, and an urgent message beside it."""
    people = [user["userid"] for user in context.system.sandbox.organisation()["users"]]
    context.screen.act(
        "A campaign to {count:,} people, paused and resumed; an urgent message overtakes",
        count=len(people),
    )
    content = messages.text("年会邀请：周五 18:00，三楼大厅。")
    since = time.time()
    ref = await asyncio.to_thread(
        context.system.client.campaign(
            name="年会邀请", message=content, recipients=people, rate=CAMPAIGN_RATE
        ).create
    )
    context.expected.note_campaign(ref, content, len(people))
    await asyncio.to_thread(ref.start)
    with context.screen.bar(len(people), tr("guests")) as bar:

        async def until(people: int) -> CampaignStatus:
            return await context.reach(
                ref, people, lambda accepted: bar(accepted, context.calls(since))
            )

        await until(len(people) // 4)
        urgent = await context.send(messages.message("u8", messages.text("停电通知"), "urgent"))
        await until(len(people) // 2)
        await asyncio.to_thread(ref.pause)
        paused = time.time()
        await asyncio.sleep(PAUSED_SECONDS)
        held = await asyncio.to_thread(ref.status)
        after = [call["at"] - paused for call in context.calls(paused)]
        await asyncio.to_thread(ref.resume)
        done = await until(len(people))
    (passed,) = await context.finish([urgent])
    context.screen.note(
        tr("paused with {people:,} people to go: ", people=held.recipients - held.accepted)
        + (
            tr("the last call left {seconds:.1f} s later", seconds=max(after))
            if after
            else tr("no call left after it")
        )
    )
    context.screen.note(
        "{accepted:,} people with {calls} calls; urgent: {took} from enqueue to DingTalk",
        accepted=done.accepted,
        calls=done.calls,
        took=context.screen.took(passed),
    )


async def storm(context: DemoContext) -> None:
    """DingTalk answers 43004 for a while, to every call."""
    context.screen.act(
        "A storm: DingTalk answers 43004 to every call for {seconds} seconds", seconds=STORM_SECONDS
    )
    since = time.time()
    refs = await context.send_many(messages.texts(STORM_BURST, "账单提醒", "normal"))
    storm = {"code": "43004", "api": SEND_API, "seconds": STORM_SECONDS}
    strike = partial(context.system.sandbox.add_fault, "throttle", **storm)
    done = await context.watch(refs, since, after=STORM_BURST // 4, act=strike)
    refused = sum(call["verdict"] == "throttled" for call in context.calls(since))
    spent = sum(status.attempts - 1 for status in done)
    context.screen.note(
        "{refused} calls were answered 43004, then the whole fleet paused and tried one at a "
        "time; {spent} attempts were spent on it",
        refused=refused,
        spent=spent,
    )


async def alerts(context: DemoContext) -> None:
    """A storm of alerts to the two robots of a group, which take 20 messages a minute each."""
    context.screen.act("{count} alerts to a group within a second", count=ALERTS)
    refs = await context.send_many(messages.alerts(ALERTS, GROUP))
    await context.watch(refs)
    posts = [each for each in context.system.sandbox.robot_posts() if each["group"] == GROUP]
    context.screen.note(
        "the first was posted at once, the others were merged: {count} messages; {url}",
        count=len(posts),
        url=f"{context.system.sandbox.base_url}/_sandbox/groups/{GROUP}",
    )


async def crash(context: DemoContext) -> None:
    """A worker dies without a word, with jobs in its hands."""
    context.screen.act("kill -9 of a worker in the middle of {count} messages", count=KILL_BURST)
    # With slow answers it dies in the middle of calls, not between them.
    slow = context.system.sandbox.add_fault("latency", api=SEND_API, min_ms=400, max_ms=800)
    since = time.time()
    refs = await context.send_many(messages.texts(KILL_BURST, "排班更新", "normal"))
    killed: list[int] = []

    def kill() -> None:
        killed.append(context.system.worker_pids()[0])
        os.kill(killed[0], signal.SIGKILL)

    await context.watch(refs, since, after=KILL_AFTER, act=kill)
    context.system.sandbox.delete_fault(slow)
    context.screen.note(
        "process {killed} was killed; {jobs} jobs that it held were finished by another one once "
        "it had given no sign of life for a while (5 s here, 6 s by default)",
        killed=killed[0],
        jobs=await asyncio.to_thread(taken_over, context, refs),
    )


def taken_over(context: DemoContext, refs: Sequence[JobRef]) -> int:
    """How many of the jobs a worker had claimed that vanished before it let go of them."""
    with Redis.from_url(context.system.client.settings.redis) as redis:
        pipe = redis.pipeline(transaction=False)
        for ref in refs:
            pipe.hmget(keys.job(ref.id), "crashes", "losses")
        return sum(any(counts) for counts in pipe.execute())


def _after(status: JobStatus, passed: JobStatus) -> bool:
    """Whether the job was asked for earlier and done later."""
    assert status.settled_at
    assert passed.settled_at
    return status.created_at < passed.created_at and status.settled_at > passed.settled_at


ALL: tuple[Callable[[DemoContext], Awaitable[None]], ...] = (
    one_of_each,
    over_http,
    drop_in,
    directory,
    approvals,
    decisions,
    newcomer,
    burst,
    campaign,
    storm,
    alerts,
    crash,
)
