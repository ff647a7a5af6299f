"""Daily limits in Redis, and a day of random messages with what must be true of it after.

Two workers' engines, the scheduler, campaigns on SQLite, a real Valkey and the sandbox. The verifier
knows what was asked and what the sandbox's inboxes hold, and nothing of how the daily limits work.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.store import keys, record
from dingrelay_producers.store.record import Wakeup
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import MessageSend, beijing
from dingrelay_tasks.contract import Json
from dingrelay_workers.campaigns.models import CampaignRow
from dingrelay_workers.campaigns.models import State as CampaignState
from dingrelay_workers.database.database import Database
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.limiter.daily_limits import place
from dingrelay_workers.maintenance.leader import WORK
from dingrelay_workers.resources import Resources
from support import campaigns, jobs, rows
from support.sandboxes import sandbox_settings

PEOPLE = [f"u{number}" for number in range(1, 10)]


def of_user(app: str, day: str, user: str) -> tuple[str, str]:
    """The key and the field of a user's messages."""
    shard, digest = place(user)
    return f"{keys.received(app, day)}:{shard}", str(digest)


async def received(
    redis: Redis, app: str, day: str, users: Iterable[str] = PEOPLE
) -> dict[str, int]:
    """Messages of the day, of those of the users who have had any."""
    found = {user: await redis.hget(*of_user(app, day, user)) for user in users}
    return {user: int(count) for user, count in found.items() if count is not None}


async def put_received(redis: Redis, app: str, day: str, counts: dict[str, Any]) -> None:
    """Have the users had so many messages."""
    for user, count in counts.items():
        key, field = of_user(app, day, user)
        await redis.hset(key, field, count)
        await redis.pexpire(key, keys.DAY_TTL_MS)


SEND = "/topapi/message/corpconversation/asyncsend_v2"
STAFF = [f"u{number}" for number in range(1, 9)]
CONTENTS = [f"content {number}" for number in range(6)]
CALLS = "30/1s"
MESSAGE_LIMITS = {"calls": "15/1s"}
"""Few enough that messages wait, share calls and are parked."""


class Wakeups(jobs.Published):
    """A publisher that runs what it is given, by one of the workers."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.executors: list[Executor] = []
        self._dice = random.Random(seed)
        self._loop = asyncio.get_running_loop()
        self._running: set[asyncio.Task[object]] = set()

    def publish(self, wakeups: Iterable[Wakeup]) -> list[Any]:
        given = list(wakeups)
        self._loop.call_soon_threadsafe(self._start, given)
        return []

    async def finish(self) -> None:
        await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self, wakeups: list[Wakeup]) -> None:
        for wakeup in wakeups:
            run = self._dice.choice(self.executors).execute(jobs.received(wakeup))
            task = self._loop.create_task(run)
            self._running.add(task)
            task.add_done_callback(self._running.discard)


class Story:
    """Random requests, and how they ended."""

    def __init__(
        self,
        seed: int,
        redis: Redis,
        sandbox: SandboxAdmin,
        database: Database,
        wakeups: Wakeups,
    ) -> None:
        self.loses_answers = seed % 2 == 0
        self.dice = random.Random(seed)
        self.redis = redis
        self.sandbox = sandbox
        self.database = database
        self.wakeups = wakeups
        self.jobs: dict[str, Json] = {}
        self.campaigns: dict[str, dict[str, str]] = {}
        """Campaign → user → content."""
        self.excused = set(CONTENTS if self.loses_answers else ())
        """Contents of which DingTalk may drop copies: that was asked for, or answers were lost."""
        self.log: list[str] = []

    async def play(self, steps: int) -> None:
        """Do so many things, then wait for the end of all jobs."""
        deeds = {
            self.send: 12,
            self.send_anyway: 1,
            self.send_to_everyone: 1,
            self.send_to_departments: 1,
            self.cancel: 4,
            self.requeue: 2,
            self.run_a_campaign: 2,
            self.break_a_call: 3,
            self.pause: 4,
        }
        for _ in range(steps):
            (deed,) = self.dice.choices(list(deeds), list(deeds.values()))
            await deed()
        self.sandbox.clear_faults()
        await self.ended()

    async def send(self, **fields: Any) -> None:
        users = self.dice.sample(STAFF, self.dice.randint(1, 3))
        job = {
            "to": {"users": users},
            "lane": self.dice.choice(["urgent", "normal", "bulk"]),
            **self._message(),
            **fields,
        }
        if self.dice.random() < 0.15:
            soon = datetime.now(UTC) + timedelta(seconds=self.dice.uniform(0.05, 1))
            job["expires_at"] = soon.isoformat()
        if self.dice.random() < 0.1:
            job["on_unknown"] = "stop"
        await self.enqueue(job)

    async def send_anyway(self) -> None:
        users = self.dice.sample(STAFF, 2)
        job: Json = {"to": {"users": users}, "allow_duplicate": True, **self._message()}
        self.excused.add(_content(job))
        await self.enqueue(job)

    async def send_to_everyone(self) -> None:
        job: Json = {"to": {"everyone": True}, **self._message(special=True)}
        self.excused.add(_content(job))
        await self.enqueue(job)

    async def send_to_departments(self) -> None:
        to = {"departments": [self.dice.randint(2, 5)]}
        job: Json = {"to": to, **self._message(special=True)}
        self.excused.add(_content(job))
        await self.enqueue(job)

    async def cancel(self) -> None:
        if self.jobs:
            job = self.dice.choice(list(self.jobs)[-10:])
            answer = await run_async(
                self.redis, record.cancel(job, record_ttl_ms=3_600_000, dead_ttl_ms=3_600_000)
            )
            self._note("cancel", job, answer)

    async def requeue(self) -> None:
        if self.jobs:
            job = self.dice.choice(list(self.jobs)[-20:])
            self._note("requeue", job, await run_async(self.redis, record.requeue(job)))

    async def run_a_campaign(self) -> None:
        filled = self.dice.random() < 0.5
        first, people = self.dice.randint(1, 4), self.dice.randint(2, 5)
        users = [f"u{first + number}" for number in range(people)]
        message = self._message()["message"]
        name = await campaigns.put(
            self.database,
            first=first,
            people=people,
            size=self.dice.choice([1, 2]),
            message=message,
            state=CampaignState.DRAFT,
        )
        content: str = message["text"]["content"]
        self.campaigns[name] = dict.fromkeys(users, content)
        if filled:
            self.campaigns[name] = await campaigns.fill_in(
                self.database, name, [self._message()["message"] for _ in range(people)]
            )
        # Only now: the dispatcher may run, and take a chunk before it has a message of its own.
        await rows.change(
            self.database, CampaignRow, CampaignRow.id == name, state=CampaignState.RUNNING
        )
        await WORK.announce(self.redis)
        self._note("campaign", name, self.campaigns[name])

    async def break_a_call(self) -> None:
        lost = ["lost_answer", "reset_after", "busy"] if self.loses_answers else []
        kind = self.dice.choice(["refused", "throttle", "throttle", *lost])
        spec: Json = {"refused": {"code": "60011"}, "busy": {"code": "-1"}}.get(kind, {})
        name = {"refused": "error", "busy": "error"}.get(kind, kind)
        self.sandbox.add_fault(name, api=SEND, count=1, **spec)
        self._note("fault", kind, "")

    async def pause(self) -> None:
        await asyncio.sleep(self.dice.uniform(0, 0.3))

    def _message(self, *, special: bool = False) -> Json:
        content = self.dice.choice(CONTENTS[:2] if special else CONTENTS)
        return {"message": {"msgtype": "text", "text": {"content": content}}}

    async def enqueue(self, job: Json) -> None:
        draft = record.draft(MessageSend.parse(job))
        answer = await run_async(self.redis, record.enqueue(draft))
        enqueued = record.enqueued(draft, answer)
        self.jobs[draft.id] = job
        self._note("send", draft.id, job)
        if enqueued.wakeup:
            self.wakeups.publish([enqueued.wakeup])

    def _note(self, deed: str, what: str, how: object) -> None:
        self.log.append(f"{deed} {what[:8]} {how}")

    async def ended(self) -> None:
        states: list[State] = []
        running: list[str] = []
        for _ in range(1500):
            states = [(await self.status(job)).state for job in self.jobs]
            running = [
                name
                for name in self.campaigns
                if (await campaigns.read(self.database, name)).state == "running"
            ]
            if all(state.ended for state in states) and not running:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"not ended: {Counter(states)}, campaigns {running}")

    async def status(self, job: str) -> JobStatus:
        return JobStatus.from_record(job, await _all(self.redis, keys.job(job)))


class Verifier:
    """The truth in the sandbox, compared with the jobs' results."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.had: Counter[tuple[str, str]] = Counter()
        self.sent: set[tuple[str, str]] = set()
        """User and content, where a job says that it sent it."""
        for user in STAFF:
            for entry in story.sandbox.inbox(user)["delivered"]:
                self.had[user, entry["message"]["text"]["content"]] += 1

    async def problems(self) -> list[str]:
        found = [f"{key} arrived {times} times" for key, times in self.had.items() if times > 1]
        for job, request in self.story.jobs.items():
            found += self._job(job, request, await self.story.status(job))
        for name, people in self.story.campaigns.items():
            found += await self._campaign(name, people)
        if not self.story.loses_answers:
            found += await self._counts()
        for entry in self.story.sandbox.dropped():
            content = entry["message"]["text"]["content"]
            if content not in self.story.excused:
                found.append(f"dropped for nothing: {entry['user']} {content} {entry['reason']}")
        return found

    def _job(self, job: str, request: Json, status: JobStatus) -> list[str]:
        content, result = _content(request), status.result or {}
        users = request["to"].get("users", [])
        left_out = {*result.get("duplicate", []), *result.get("daily_cap", [])}
        if result.get("calls"):
            self.sent |= {(user, content) for user in {*users} - left_out}
        found = [
            f"{job[:8]} {status.state}: {user} is no duplicate of {content}"
            for user in result.get("duplicate", [])
            if not self.had[user, content]
        ]
        found += [f"{job[:8]}: {user} at the cap" for user in result.get("daily_cap", [])]
        if status.state == State.DONE:
            found += [
                f"{job[:8]}: {user} does not have {content}"
                for user in {*users} - left_out
                if not self.had[user, content]
            ]
        if status.state == State.DONE and request["to"].get("everyone"):
            found += [f"everyone but {user}" for user in STAFF if not self.had[user, content]]
        if status.state == State.DUPLICATE and not (users or request["to"].get("departments")):
            found += [f"everyone but {user}" for user in STAFF if not self.had[user, content]]
        return found

    async def _campaign(self, name: str, people: dict[str, str]) -> list[str]:
        found: list[str] = []
        outcomes = await campaigns.outcomes(self.story.database, name)
        for chunk in await campaigns.chunks(self.story.database, name):
            for user in chunk.users.split(","):
                has_it = self.had[user, people[user]]
                called = chunk.task_id is not None and (
                    outcomes.get(user, "unverified")
                    == "unverified"  # sent, though no sync has read them
                )
                if called:
                    self.sent.add((user, people[user]))
                if called and not has_it:
                    found.append(f"campaign {name[:8]}: {user} does not have {people[user]}")
                if outcomes.get(user) == "duplicate" and not has_it:
                    found.append(f"campaign {name[:8]}: {user} is no duplicate")
        return found

    async def _counts(self) -> list[str]:
        """Only what was sent is part of a person's day."""
        today = beijing.day(datetime.now(UTC))
        sent: Counter[str] = Counter(user for user, _ in self.sent)
        return [
            f"{user}: {count} messages of the day, not {sent[user]}"
            for user, count in (await received(self.story.redis, "default", today, STAFF)).items()
            if count > sent[user]
        ]


async def _all(redis: Redis, key: str) -> dict[bytes, bytes]:
    found: Any = await redis.hgetall(key)
    return dict(found)


def _content(request: Json) -> str:
    content: str = request["message"]["text"]["content"]
    return content


OpenStory = Callable[..., AbstractAsyncContextManager[Story]]
"""`a_story` on what a test has."""


@asynccontextmanager
async def a_story(
    seed: int,
    redis: Redis,
    sandbox: SandboxAdmin,
    *,
    valkey_url: str,
    database_url: str,
    message_limits: Mapping[str, str] = MESSAGE_LIMITS,
    call_timeout: float = 1,
) -> AsyncGenerator[Story]:
    """A system at the start of its day."""
    sandbox.set_limits(recipients=message_limits.get("recipients", ""))
    settings = sandbox_settings(
        sandbox.base_url,
        valkey_url,
        database_url=database_url,
        rules={"*": {"calls": CALLS}, "message.send": {"recipients": "", **message_limits}},
        lease=1,
        call_timeout=call_timeout,
    )
    wakeups = Wakeups(seed)
    async with AsyncExitStack() as stack:
        for _ in range(2):
            publisher: Any = wakeups
            resources = Resources(settings, publisher, concurrency=16, queues=["dingrelay.bulk"])
            await stack.enter_async_context(resources)
            wakeups.executors.append(await stack.enter_async_context(Executor(resources)))
        database = Database(database_url)
        stack.push_async_callback(database.dispose)
        yield Story(seed, redis, sandbox, database, wakeups)
        await wakeups.finish()
