"""A fleet in virtual time: the executors, limiters and scripts of several workers on a real Valkey.

Not real are the time, which passes only while everybody waits for it, the broker, which is a list, and
DingTalk, which takes every call. A minute takes seconds, and a busy machine changes nothing in it.
"""

import asyncio
import random
import selectors
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, NamedTuple, Self

from redis import Redis

from dingrelay_producers.settings import AppSettings, Settings
from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.store.record import Wakeup
from dingrelay_producers.store.scripts import Call, Script
from dingrelay_tasks import ApiCall
from dingrelay_tasks.contract import LANES, Lane
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.calls.tokens import Token
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.maintenance.scheduler import LEASE
from dingrelay_workers.resources import Resources, Surroundings
from dingrelay_workers.store.wakeup import ReceivedWakeup

EPOCH = 1_900_000_000
"""Seconds since 1970 at which time begins: ahead of the server's own, by which keys end."""
ROUND_TRIP = 0.0004
"""Seconds to Redis and back."""
ANSWER = 0.02, 0.08
"""Seconds that DingTalk takes."""
PREFETCHED = 20
"""Wake-ups that wait in a worker at most."""
LATE = 0.5, 15.0
"""Seconds after which the broker has a wake-up that is late."""
CLOCK = """local server = redis
local redis = setmetatable({call = function(name, ...)
  if name == 'TIME' then return server.call('HMGET', 'clock', 'seconds', 'micros') end
  return server.call(name, ...)
end}, {__index = server})
"""
"""Before a script: the time is the simulation's."""


class _Selector(selectors.DefaultSelector):
    """Waits by letting the time of its loop pass."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits, and for nothing"
        self.loop.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while nothing else can be done."""

    def __init__(self) -> None:
        self.now = 0.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


class SimulatedServer:
    """The server and its clock.

    Attributes:
        redis: the real one, whose clock is hidden.
        epoch: seconds since 1970 at which the loop's time began.
        never: what killed processes wait for.
    """

    def __init__(self, redis: Redis, loop: VirtualLoop) -> None:
        self.redis = redis
        self.epoch = EPOCH
        self.never = asyncio.Event()
        self._loop = loop
        self._scripts: dict[Script, Script] = {}
        self._kept: list[tuple[bytes, int, bytes]] = []

    def run(self, call: Call) -> Any:
        """Run a script that sees the loop's time."""
        seconds, part = divmod(self._loop.now, 1)
        moment: dict[Any, Any] = {
            "seconds": self.epoch + int(seconds),
            "micros": int(part * 1_000_000),
        }
        self.redis.hset("clock", mapping=moment)
        script = self._scripts.get(call.script)
        if script is None:
            script = self._scripts[call.script] = Script.of(CLOCK + call.script.body)
        return scripts.run(self.redis, script.call(call.keys, call.arguments))

    def save(self) -> None:
        """Write all that it holds to its disk."""
        names: list[Any] = list(self.redis.scan_iter(count=1000))
        pipe = self.redis.pipeline()
        for name in names:
            pipe.pttl(name)
            pipe.dump(name)
        answers: list[Any] = pipe.execute()
        self._kept = [
            (name, max(0, ttl), value)
            for name, ttl, value in zip(names, answers[::2], answers[1::2], strict=True)
            if value
        ]

    def restart(self) -> None:
        """Come back with what is on its disk, and with nothing that was written since."""
        pipe = self.redis.pipeline()
        pipe.flushdb()
        for kept in self._kept:
            pipe.restore(*kept)
        pipe.execute()


class SimulatedRedis:
    """One process's connection to Redis.

    Attributes:
        dead: the process was killed: it hears of nothing any more.
    """

    def __init__(self, server: SimulatedServer) -> None:
        self._server = server
        self.dead = False
        scripts._PENDING[self] = self  # type: ignore[index,assignment]  # scripts find it there

    async def run(self, call: Call) -> Any:
        """Like `run_async` with a real connection."""
        await asyncio.sleep(ROUND_TRIP)
        await self.alive()
        answer = self._server.run(call)
        await asyncio.sleep(0)
        return answer

    async def alive(self) -> None:
        """Wait for ever if the process was killed."""
        if self.dead:
            await self._server.never.wait()

    async def hkeys(self, key: str) -> Any:
        await self.alive()
        return self._server.redis.hkeys(key)

    async def zrange(self, key: str, start: int, end: int) -> Any:
        await self.alive()
        return self._server.redis.zrange(key, start, end)

    async def aclose(self) -> None:
        """Nothing: the connection is the test's."""


class Moment(NamedTuple):
    """When something of a sender's job happened, in seconds."""

    at: float
    sender: str
    number: int


class SimulatedDingTalk:
    """Takes every call, and remembers when it came and of which sender."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self.calls: list[Moment] = []
        self._loop = loop
        self._random = random.Random(seed)

    async def request(
        self,
        request: Request,
        token: str = "",
        *,
        leave_by: float | None = None,
        shared: object = None,
    ) -> dict[str, Any]:
        body: Any = request.body
        self.calls.append(Moment(self._loop.now, body["sender"], body["number"]))
        await asyncio.sleep(self._random.uniform(*ANSWER))
        return {"errcode": 0}

    async def token(self, app: str, *, distrust: Token | None = None) -> Token:
        return Token("secret", 1, 1e9)

    async def close(self) -> None:
        """See `Tokens`."""


class SimulatedProcess:
    """A worker: its jobs, and the scheduler in it.

    Attributes:
        killed: it does nothing any more.
    """

    def __init__(self, resources: Resources, redis: SimulatedRedis) -> None:
        self.resources = resources
        self.executor = Executor(resources)
        self.killed = False
        self._redis = redis
        self._work: list[asyncio.Task[None]] = []

    async def start(self, *work: Coroutine[Any, Any, None]) -> None:
        """Begin to work."""
        await self.executor.__aenter__()
        self._work = [asyncio.create_task(each) for each in work]

    def kill(self) -> None:
        """End it between any two steps."""
        self.killed = self._redis.dead = True
        for task in self._work:
            task.cancel()

    async def stop(self) -> None:
        """Let it give back what it runs."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self.executor.__aexit__()
        await self.resources.limiter.close()


class SimulatedFleet:
    """Workers, and the broker between them and the producers.

    Attributes:
        server: their Redis.
        calls: of all workers, as they left.
        seen: when a worker first had a wake-up of each job, by its id.
        cancelled: when each job was cancelled that had not begun to run, by its id.
        unwanted: numbers of the jobs that were to be cancelled, whether or not a worker had them.
        runs: how often a worker ran a job, or found that there was nothing to do.
        lost: share of the wake-ups that the broker loses.
        late: share of the wake-ups that the broker has late.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        rules: dict[str, dict[str, str]],
        processes: int = 2,
        concurrency: int = 64,
        cost: float = 0.0015,
        seed: int = 0,
    ) -> None:
        """Use as an async context, on a `VirtualLoop`.

        Args:
            redis: an empty database.
            rules: as in the settings.
            processes: workers.
            concurrency: jobs that each runs at once.
            cost: seconds of its processor that a worker spends on a wake-up.
            seed: of all that is random.
        """
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.loop = loop
        self.server = SimulatedServer(redis, loop)
        self.dingtalk = SimulatedDingTalk(loop, seed)
        self.seen: dict[str, Moment] = {}
        self.cancelled: dict[str, Moment] = {}
        self.unwanted: set[int] = set()
        self.runs = 0
        self.lost = self.late = 0.0
        self.processes: list[SimulatedProcess] = []
        self.jobs: dict[str, Moment] = {}
        self._random = random.Random(seed)
        self._client = SimulatedRedis(self.server)
        self._wakeups: deque[Wakeup] = deque()
        self._published = asyncio.Event()
        self._cost = cost
        self._concurrency = concurrency
        self._first = processes
        app = {"app_key": "key", "app_secret": "secret", "agent_id": "1"}
        self._settings = Settings.load(
            env="sandbox", rules=rules, apps={"default": AppSettings.model_validate(app)}
        )

    @property
    def calls(self) -> list[Moment]:
        return self.dingtalk.calls

    async def __aenter__(self) -> Self:
        for lane in LANES:
            self.server.redis.set(keys.alive(f"dingrelay.{lane}"), 1, ex=3600)
        for _ in range(self._first):
            await self.spawn()
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self.processes:
            if not process.killed:
                await process.stop()

    async def spawn(self) -> None:
        """One worker more."""
        redis = SimulatedRedis(self.server)
        publisher: Any = self
        connection: Any = redis
        around = Surroundings(
            worker=f"worker-{len(self.processes)}", open_redis=lambda settings: connection
        )
        made = Resources(
            self._settings, publisher, concurrency=self._concurrency, surroundings=around
        )
        anything: Any = made
        anything._transport = anything._tokens = self.dingtalk
        made.limiter = Limiter(
            made.redis,
            made.rules,
            max_wait=self._settings.max_wait,
            local_waiters=max(4, self._concurrency // 8),
            breakers=made.limiter.breakers,
            clock=self.loop.time,
        )
        process = SimulatedProcess(made, redis)
        await process.start(self._serve(process.executor), made.scheduler.run())
        self.processes.append(process)

    def kill(self) -> None:
        """Kill one of the workers; what it had taken from the broker is lost with it."""
        process = self._random.choice([each for each in self.processes if not each.killed])
        process.kill()
        self.loop.call_later(LEASE, self._end_lease, process.resources.worker)

    def _end_lease(self, worker: str) -> None:
        # Keys end by the server's own time, which is none of the simulation's; a restart brings one back.
        self.loop.call_later(LEASE, self._end_lease, worker)
        if self.server.redis.get(keys.SCHEDULER) == worker.encode():
            self.server.redis.delete(keys.SCHEDULER)

    def publish(self, wakeups: Iterable[Wakeup]) -> list[Any]:
        """Like `Publisher`: to the end of the only queue."""
        for wakeup in wakeups:
            chance = self._random.random()
            if chance < self.lost:
                continue
            if chance < self.lost + self.late:
                self.loop.call_later(self._random.uniform(*LATE), self._arrive, wakeup)
            else:
                self._arrive(wakeup)
        return []

    async def publish_on_loop(self, wakeups: Iterable[Wakeup]) -> list[Any]:
        return self.publish(wakeups)

    def _arrive(self, wakeup: Wakeup) -> None:
        self._wakeups.append(wakeup)
        self._published.set()

    async def enqueue(self, sender: str, jobs: int, *, lane: Lane = "bulk") -> list[str]:
        """A sender asks for calls; the ids of its jobs."""
        ids: list[str] = []
        for _ in range(jobs):
            number = len(self.jobs)
            job = ApiCall.parse(
                {
                    "lane": lane,
                    "sender": sender,
                    "method": "POST",
                    "path": "/topapi/v2/user/get",
                    "body": {"sender": sender, "number": number},
                }
            )
            draft = record.draft(job, key=str(number))
            self.jobs[draft.id] = Moment(self.loop.now, sender, number)
            answer = await self._run_script(record.enqueue(draft))
            wakeup = record.enqueued(draft, answer).wakeup
            assert wakeup
            self.publish([wakeup])
            ids.append(draft.id)
        return ids

    async def cancel(self, ids: Iterable[str]) -> None:
        """Jobs are cancelled."""
        for job_id in ids:
            self.unwanted.add(self.jobs[job_id].number)
            call = record.cancel(job_id, record_ttl_ms=3_600_000, dead_ttl_ms=3_600_000)
            if await self._run_script(call) == b"cancelled":
                self.cancelled[job_id] = self.jobs[job_id]._replace(at=self.loop.now)

    async def _run_script(self, call: Call) -> Any:
        client: Any = self._client
        return await scripts.run_async(client, call)

    def states(self) -> Counter[str]:
        """How many jobs are in which state."""
        pipe = self.server.redis.pipeline()
        for job_id in self.jobs:
            pipe.hget(keys.job(job_id), "state")
        answers: list[Any] = pipe.execute()
        return Counter(answer.decode() if answer else "gone" for answer in answers)

    async def _serve(self, executor: Executor) -> None:
        """One worker: take wake-ups, as many as it runs at once, and a few that wait in it."""
        taken: asyncio.Queue[Wakeup] = asyncio.Queue(PREFETCHED)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(taken))
            group.create_task(self._begin(taken, executor))

    async def _take(self, taken: asyncio.Queue[Wakeup]) -> None:
        while True:
            await asyncio.sleep(ROUND_TRIP)
            while not self._wakeups:
                self._published.clear()
                await self._published.wait()
            await taken.put(self._wakeups.popleft())

    async def _begin(self, taken: asyncio.Queue[Wakeup], executor: Executor) -> None:
        room = asyncio.Semaphore(self._concurrency)
        running: set[asyncio.Task[None]] = set()
        while True:
            wakeup = await taken.get()
            await room.acquire()
            await asyncio.sleep(self._cost)
            task = self.loop.create_task(self._run(executor, wakeup))
            running.add(task)
            task.add_done_callback(running.discard)
            task.add_done_callback(lambda _: room.release())

    async def _run(self, executor: Executor, wakeup: Wakeup) -> None:
        self.seen.setdefault(wakeup.id, self.jobs[wakeup.id]._replace(at=self.loop.now))
        self.runs += 1
        nonce = f"{self.runs:032x}"
        kind = KINDS[wakeup.kind]
        await executor.execute(ReceivedWakeup(wakeup.id, kind, {}, wakeup.queue, wakeup.at, nonce))

    def shares(self, start: float, end: float) -> "Shares":
        """Each sender's calls in a time, and its fair share."""
        gone = {moment.number for moment in self.cancelled.values() if moment.at < end}
        seen = Counter(
            moment.sender
            for moment in self.seen.values()
            if moment.at < start and moment.number not in gone
        )
        had = Counter(call.sender for call in self.calls if call.at < start)
        calls = Counter(call.sender for call in self.calls if start <= call.at < end)
        wanted = {sender: jobs - had[sender] for sender, jobs in seen.items()}
        waiting = {sender: jobs for sender, jobs in wanted.items() if jobs > 0}
        even_before = even(had.total(), seen)
        ahead = {sender: max(0.0, had[sender] - even_before[sender]) for sender in waiting}
        return Shares(waiting, ahead, calls)


class Shares(NamedTuple):
    """The calls of a time.

    Attributes:
        waiting: sender → its jobs that waited when it began, as far as workers had seen them.
        ahead: sender → calls that it had had by then, beyond an even share.
        calls: sender → its calls.
    """

    waiting: Mapping[str, int]
    ahead: Mapping[str, float]
    calls: Counter[str]

    @property
    def most_over(self) -> float:
        """How many calls a sender that waited had beyond its share."""
        return max(self.calls[sender] - share for sender, share in self._even().items())

    @property
    def most_short(self) -> float:
        """How many calls a sender lacked that had not had them before."""
        return max(
            share - self.calls[sender] - self.ahead[sender]
            for sender, share in self._even().items()
        )

    def _even(self) -> dict[str, float]:
        return even(sum(self.calls[sender] for sender in self.waiting), self.waiting)


def even(calls: int, wanted: Mapping[str, int]) -> dict[str, float]:
    """The max-min shares: no sender has more than it wants, and the rest is split evenly."""
    left = float(calls)
    shares: dict[str, float] = {}
    for sender in sorted(wanted, key=lambda sender: wanted[sender]):
        shares[sender] = min(wanted[sender], left / (len(wanted) - len(shares)))
        left -= shares[sender]
    return shares


def simulate(story: Callable[[], Awaitable[None]]) -> None:
    """Let it happen in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(_finished(story))


async def _finished(story: Callable[[], Awaitable[None]]) -> None:
    await story()
