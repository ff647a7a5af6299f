"""The open batches of a process, and the jobs that it claims without their wake-ups."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Coroutine, Iterable
from typing import Any

from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_tasks.message_send import USERS_PER_CALL
from dingrelay_workers.calls.batch import Batch, BatchKey, BatchMember
from dingrelay_workers.limiter.rules import Rule
from dingrelay_workers.limiter.slot import SlotRequest, Turns
from dingrelay_workers.store.records import Claim, Records

LATE = 0.5
"""Seconds after which a wake-up that is not started stands behind many others in its queue."""

log = get_logger("dingrelay.jobs")

ClaimedRun = tuple[Claim, BatchMember | None, BatchKey | None]
"""A job that was claimed here without its wake-up, and that is to be run; what is kept for it in the batch that claimed
it; or the key of that batch, if it makes the next call. A job whose turn it is has neither."""


class BatchRegistry:
    """The open batches by what their jobs have in common.

    What it claims goes into a queue, which the executor takes from.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._open: dict[BatchKey, Batch] = {}
        self._claimed: asyncio.Queue[ClaimedRun] = asyncio.Queue()
        self._claiming: set[asyncio.Task[None]] = set()
        self._coming: Counter[BatchKey] = Counter()
        self._late: set[Turns] = set()

    async def join(
        self,
        key: BatchKey,
        users: Iterable[str],
        request: SlotRequest,
        *,
        eager: bool,
        most: int = USERS_PER_CALL,
    ) -> BatchMember:
        """A part of the next call of jobs like this, or of a new one.

        Args:
            key: what the job has in common with those that it may join.
            users: the people that the job adds.
            request: for the slot, if the call is a new one.
            eager: the job has waited for a slot before.
            most: users that a call may have.
        """
        while True:
            batch = self._open.get(key)
            if batch is None or not (batch.closed.is_set() or batch.takes(users)):
                eager = eager or bool(self._coming[key])
                batch = Batch(request, users, key=key, eager=eager, most=most)
                self._open[key] = batch
                return batch.sender
            if not batch.closed.is_set():
                return batch.join(users, eager=eager)
            # A moment, and then there is room: more calls at a time would leave less full.
            await batch.frozen.wait()
            eager = True

    def withdraw(self, batch: Batch) -> None:
        """Close the batch to further jobs."""
        if batch.key is not None and self._open.get(batch.key) is batch:
            del self._open[batch.key]

    async def claim_members(self, batch: Batch, key: BatchKey, bucket: Rule | None) -> None:
        """Claim waiting jobs for a batch whose slot has come, and one that makes the next call.

        Args:
            batch: for which they are claimed.
            key: what they have in common with it.
            bucket: of the recipients, which are taken from it; None if they are not limited.
        """
        self._coming[key] += 1
        claiming = self._start_claiming(self._claim(key, batch, bucket))
        # A claimed job runs even if the job that makes the call is cancelled.
        if batch.room:
            await asyncio.shield(claiming)

    def claim_next(self, key: BatchKey) -> None:
        """Claim the job that makes the next call, unless one is to come from this process.

        A wake-up whose job is already claimed becomes that of a waiting job: otherwise a
        worker would only meet wake-ups of jobs that another one has just claimed.
        """
        if key not in self._open and not self._coming[key]:
            self._coming[key] += 1
            self._start_claiming(self._claim(key, None, None))

    def claim_late(self, turns: Turns, queue: str, most: int) -> None:
        """Claim jobs whose turn it is and whose wake-ups are late: slots come up with no job here.

        Without them, the senders at the head of the queue would have all slots.
        """
        if most > 0 and turns not in self._late:
            self._late.add(turns)
            self._start_claiming(self._claim_late(turns, queue, most))

    async def next_claimed(self) -> ClaimedRun:
        """The next job that is to be run; `ended` is to be called when that is over."""
        return await self._claimed.get()

    def ended(self, key: BatchKey | None) -> None:
        """A job that was claimed has been run."""
        if key is not None:
            self._no_longer_coming(key)

    @property
    def busy(self) -> bool:
        """Whether jobs are being claimed, or are claimed and not taken to be run."""
        return bool(self._claiming) or not self._claimed.empty()

    def _start_claiming(self, claiming: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(claiming)
        self._claiming.add(task)
        task.add_done_callback(self._claiming.discard)
        return task

    async def _claim(self, key: BatchKey, batch: Batch | None, bucket: Rule | None) -> None:
        """Claim jobs for a batch, if there is one, and the one that makes the next call."""
        jobs, following, room = list[Claim](), None, batch.room if batch else 0
        try:
            jobs, following = await self._records.claim_batch(
                key.waiting, nonce=uuid.uuid4().hex, room=room, lane=key.lane, bucket=bucket
            )
        except RedisError as error:
            log.warning("batch_claim_failed", reason=type(error).__name__)
        for job in jobs:
            self._claimed.put_nowait((job, batch.reserve() if batch else None, None))
        if following:
            self._claimed.put_nowait((following, None, key))
        else:
            self._no_longer_coming(key)

    def _no_longer_coming(self, key: BatchKey) -> None:
        self._coming[key] -= 1
        if not self._coming[key]:
            del self._coming[key]

    async def _claim_late(self, turns: Turns, queue: str, most: int) -> None:
        try:
            claims = await self._records.claim_late(
                turns, queue, nonce=uuid.uuid4().hex, most=most, late=LATE
            )
        except RedisError as error:
            log.warning("late_claim_failed", reason=type(error).__name__)
        else:
            for job in claims:
                self._claimed.put_nowait((job, None, None))
        finally:
            self._late.discard(turns)
