"""Answers of a service, kept for a while, and given on while the service is away."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from dingrelay_producers.errors import ServiceUnavailable

LIVES = 3600.0
"""Seconds for which a key is known while the database is away; no key can be revoked then, either."""
PAUSE = 2.0
"""Seconds between two tries, of one request each; the others don't wait. Longer than a try takes."""
MOST = 4096
"""Answers that are kept, the oldest out first."""

_R = TypeVar("_R")


class LastKnown(Generic[_R]):
    """The last answers of a service.

    Args:
        fresh: seconds for which an answer is not asked for again.
        clock: seconds that only grow.
    """

    def __init__(self, *, fresh: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._fresh = fresh
        self._clock = clock
        self._known: dict[str, tuple[float, _R]] = {}
        self._asking: dict[str, asyncio.Task[_R]] = {}
        self._away = False
        self._next_try = float("-inf")

    @property
    def any(self) -> bool:
        """Whether there is an answer that would be given while the service is away."""
        return any(self._clock() - at < LIVES for at, _ in reversed(self._known.values()))

    async def ask(self, name: str, question: Callable[[], Awaitable[_R]]) -> _R:
        """The answer, or that of before. Who asks while it is being asked for waits for the same one.

        Raises:
            ServiceUnavailable: there is none, or it is too old.
        """
        last_answer = self._known.get(name)
        age = self._clock() - last_answer[0] if last_answer else LIVES
        if last_answer and age < self._fresh:
            return last_answer[1]
        usable = last_answer is not None and age < LIVES
        if last_answer and usable and self._away:
            if self._clock() < self._next_try:
                return last_answer[1]
            self._next_try = self._clock() + PAUSE
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = asyncio.create_task(self._ask(name, question))
            task.add_done_callback(_retrieved)
        try:
            # One of those who wait may go away; the others need the answer still.
            return await asyncio.shield(task)
        except ServiceUnavailable:
            if last_answer and usable:
                return last_answer[1]
            raise

    def forget(self, name: str) -> None:
        """Ask again next time, also if it is being asked for just now."""
        self._known.pop(name, None)
        self._asking.pop(name, None)

    async def _ask(self, name: str, question: Callable[[], Awaitable[_R]]) -> _R:
        task, at = asyncio.current_task(), self._clock()
        try:
            answer = await question()
        except ServiceUnavailable:
            self._away, self._next_try = True, self._clock() + PAUSE
            raise
        else:
            self._away = False
            if self._asking.get(name) is task:
                self._keep(name, at, answer)
            return answer
        finally:
            if self._asking.get(name) is task:
                del self._asking[name]

    def _keep(self, name: str, at: float, answer: _R) -> None:
        self._known.pop(name, None)
        if answer is not None:  # misses are not kept: callers can invent any number of them
            if len(self._known) >= MOST:
                del self._known[next(iter(self._known))]
            self._known[name] = at, answer


def _retrieved(task: "asyncio.Task[_R]") -> None:
    """Waiters get the error; where all were cancelled, asyncio need not log it."""
    if not task.cancelled():
        task.exception()
