"""The intents of one run: what may have left without an answer, and what is about to leave."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

from dingrelay_producers.store.record import moment_of
from dingrelay_producers.store.states import OwnershipLost
from dingrelay_tasks.context import Intent
from dingrelay_tasks.contract import Json
from dingrelay_tasks.outcomes import Wait
from dingrelay_workers.calls.errors import BatchClosed, BatchSplit, Cancelled, Expired
from dingrelay_workers.dingtalk.clock import DingTalkClock
from dingrelay_workers.dingtalk.errors import Ambiguous, DingTalkError
from dingrelay_workers.limiter.slot import Draining, Parked
from dingrelay_workers.store.records import Claim, Records, Usage

LEAVES_WITHIN = 0.5
"""Share of the settle delay within which a call leaves once its intent is written; else the intent
is written again.

Another worker that looks for its effect waits for the whole delay after the intent: DingTalk has the
rest of it to show the effect of the last request that could leave under it. If the worker lives and
gives the answer up, the intent is written again, and the wait starts there. Two gaps stay: DingTalk
works on the request for longer than the delay from there on, or from the intent on where the worker
is killed; and the kernel still holds the request of a worker that has given it up or is killed.
"""
CLOCKS_AGREE_MS = 10_000
"""Clocks that moved apart by less were not set: it is what the measurement leaves open."""


class IntentLog:
    """Records calls about to leave, and those that left without an answer.

    Attributes:
        finished: outcomes of steps that this run finished and that are not in the record yet.
        leaves_until: after this moment (ms of Redis's clock) the step's call must not leave; 0 for
            none.
        reserved: users with a reservation of the day's limits for that call.
        approval: the instance that the job has, and since when (ms) its call may have made it.
        answered: whether the record's intent is out of date and may go.
    """

    def __init__(
        self, claim: Claim, *, records: Records, clock: DingTalkClock, settle_delay: float
    ) -> None:
        """Start from the content of the record.

        Args:
            claim: the job.
            records: where its record is.
            clock: DingTalk's.
            settle_delay: seconds after which what can't be found is known not to exist.
        """
        self.finished: dict[str, Json] = {}
        self.answered = False
        self.leaves_until = 0
        self.reserved = 0
        self.approval: tuple[str, int] | None = None
        self._claim = claim
        self._records = records
        self._clock = clock
        self._settle_delay = settle_delay
        self._step = ""
        intent: Json = claim.intent or {}
        self._open_step: str = intent.get("step", "")
        self._open_at: int = intent.get("at", 0)
        self._open_since: int = intent.get("since") or self._open_at
        self._offset: int | None = intent.get("offset")
        self._offset_now: int | None = None
        self._ruled_out = False
        self._before = self._open_call

    @property
    def intent(self) -> Intent | None:
        """A call of an earlier run that left and whose outcome is not known."""
        if not self.open:
            return None
        moved, at = self._moved(), self._open_at
        # The later moment of the two is waited from, unless it is still to come: then Redis's clock
        # was set back, and not DingTalk's forward.
        at = at + moved if at > self._claim.time.now() else max(at, at + moved)
        return Intent(
            self._open_step,
            moment_of(at),
            moment_of(self._earliest_departure()),
            requeued=self._claim.requeued,
        )

    @property
    def open(self) -> bool:
        """Whether a call of this job left of which it is not known what it did."""
        return bool(self._open_since) and not self._ruled_out

    @property
    def open_since(self) -> int:
        """When the first call left that has no remembered outcome, in ms; 0 if there is none."""
        return self._open_since

    async def read_clock(self) -> None:
        """Learn how far Redis's clock is from DingTalk's by now, before the open intent is looked at.

        Raises:
            RedisError: Redis cannot be reached.
        """
        self._offset_now = await self._clock.ahead()

    def confirm_not_executed(self) -> None:
        """The call that has no answer is known to have done nothing.

        What its intent says since when is kept, should the next call be lost, too.
        """
        self._ruled_out = True

    def enter(self, step: str) -> None:
        """Name the step that the next calls belong to."""
        self._step = step
        self.leaves_until = 0

    def finish(self, step: str, outcome: Json) -> None:
        """Remember a step's outcome. Only this closes its intent: an answer may be unusable."""
        self.finished[step] = outcome
        if step == self._open_step:
            self.clear()

    def clear(self) -> None:
        """No call of the job is open: it was answered, or did not leave."""
        self.answered = True
        self._open_step, self._open_at, self._open_since = "", 0, 0

    @contextmanager
    def call(self) -> Generator[None]:
        """Around a call: its intent is closed if what is raised says that it certainly did nothing."""
        open_before = self.open
        try:
            yield
        except (DingTalkError, BatchClosed, BatchSplit, Parked, Draining) as error:
            # It says nothing about an earlier call that was lost.
            if self.open and not open_before and not isinstance(error, Ambiguous):
                self.clear()
            raise

    async def search_from(self, since: int) -> None:
        """Have the effect of the open call looked for from `since` (ms) on, whatever its answer.

        Raises:
            OwnershipLost: the job is another worker's by now.
        """
        self._open_since = min(self._open_since, since)
        await self.write()

    async def write(self) -> float:
        """Write down that the call leaves now, with what earlier steps brought.

        Returns:
            Until when it must be on its way, by the monotonic clock.

        Raises:
            OwnershipLost: the job is another worker's by now, and the call must not leave.
            Cancelled: the job was cancelled while it waited.
            Expired: the job's time is over.
            Wait: the day is over for which the call was admitted, or Redis has forgotten that it was.
        """
        # Taken before: Redis writes its own time into the intent, which is a little later.
        began, at = time.monotonic(), self._claim.time.now()
        written: Json = {"step": self._step, "attempt": self._claim.attempts + 1}
        await self.read_clock()
        if (offset := self._offset_now) is not None:
            written["offset"] = offset
        # An intent that is still open stays as old as it is: the search for the effect begins there.
        if self._open_since:
            written["since"] = self._earliest_departure()
        usage = Usage(answered=self.answered or self._ruled_out, steps=self.finished)
        ends = [moment for moment in (self.leaves_until, self._claim.expires) if moment]
        until = min(ends, default=0)
        reserves = self._step if self.leaves_until else ""
        verdict = await self._records.write_intent(
            self._claim, written, usage, until=until, reserves=reserves
        )
        if verdict == "late":
            if until == self._claim.expires:
                raise Expired
            raise Wait(timedelta(0), "it is admitted for a day that is over")
        if verdict == "unreserved":
            raise Wait(timedelta(0), "Redis has forgotten its reservation")
        if verdict == "lost":
            raise OwnershipLost
        if verdict == "cancelled":
            raise Cancelled
        self.finished.clear()
        self._before = self._open_call
        self.answered = self._ruled_out = False
        self._open_step, self._open_at = self._step, at
        self._open_since, self._offset = written.get("since", at), offset
        leaves_within = self._settle_delay * LEAVES_WITHIN
        if until:
            leaves_within = min(leaves_within, (until - at) / 1000)
        return began + leaves_within

    def take_back(self) -> None:
        """The call that was just written down has not left: what was open before is still open."""
        self._open_step, self._open_at, self._open_since, self._offset, self._ruled_out = (
            self._before
        )
        self.answered = not self._open_since

    @property
    def _open_call(self) -> tuple[str, int, int, int | None, bool]:
        return self._open_step, self._open_at, self._open_since, self._offset, self._ruled_out

    def _earliest_departure(self) -> int:
        """Since when a call may have left, at the earliest, in ms; 0 if none has."""
        return min(self._open_since, self._open_since + self._moved()) if self._open_since else 0

    def _moved(self) -> int:
        """Adjustment of Redis's clock since the intent, in ms, if it was not DingTalk's.

        The intent holds how far it was from DingTalk's then.
        """
        if self._offset_now is None or self._offset is None:
            return 0
        moved = self._offset - self._offset_now
        return moved if abs(moved) > CLOCKS_AGREE_MS else 0
