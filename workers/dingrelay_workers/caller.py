"""One job's way to DingTalk: it waits for the limits, notes what it is about to do, and calls."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from dingrelay_producers.settings import Settings
from dingrelay_tasks.context import Intent
from dingrelay_tasks.contract import Lane
from dingrelay_tasks.outcomes import Wait
from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.client import DingTalk
from dingrelay_workers.dingtalk.errors import Ambiguous, DingTalkError
from dingrelay_workers.limiter.grant import Grant
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.quota import Quota
from dingrelay_workers.metrics import CALL_SECONDS, CALLS, LIMIT_WAIT_SECONDS
from dingrelay_workers.records import Claim, Records, Spent

LEAVES_WITHIN = 0.5
"""Share of the settle delay within which a call leaves once it is noted, or is noted anew.

Another worker that looks for its effect waits for the whole delay after the note: DingTalk has the
rest of it to show what the last request made that could leave under that note. If the worker lives
and gives the answer up, the note is made anew, and the wait starts there. What stays open is a
worker that is killed while its kernel still holds the request, or while DingTalk works on it for
longer than the delay.
"""
CLOCKS_AGREE_MS = 10_000
"""Clocks that moved apart by less were not set: it is what the measurement leaves open."""

Json = dict[str, Any]


class OwnershipLost(Exception):
    """Another worker owns the job by now; this one must not act for it any more."""


class Cancelled(Exception):
    """The job was cancelled while it ran, and its next call has not left."""


class Caller:
    """Carries out one job's calls.

    Attributes:
        app: the app for which it calls.
        agent_id: the app's agent id.
        finished: outcomes of steps that this run finished and that are not in the record yet.
        leaves_until: after this moment (ms of Redis's clock) the step's call must not leave; 0 for
            none.
        answered: whether the record's note of an open call is out of date and may go.
    """

    def __init__(
        self,
        claim: Claim,
        *,
        settings: Settings,
        limiter: Limiter,
        quota: Quota,
        dingtalk: DingTalk,
        records: Records,
    ) -> None:
        self.app = claim.app
        self._settings = settings
        self.finished: dict[str, Json] = {}
        self.answered = False
        self.leaves_until = 0
        self._claim = claim
        self._lane: Lane = claim.lane
        self._limiter = limiter
        self._quota = quota
        self._dingtalk = dingtalk
        self._records = records
        self._step = ""
        # Bulk that has waited long enough may reserve; the wait counts from before it was parked.
        self._waited = max(0.0, (claim.time.at - claim.waiting) / 1000) if claim.waiting else 0.0
        self._returning = bool(claim.waiting)
        calling: Json = claim.calling or {}
        self._open_step: str = calling.get("step", "")
        self._open_at: int = calling.get("at", 0)
        self._open_since: int = calling.get("since") or self._open_at
        self._offset: int | None = calling.get("offset")
        self._ruled_out = False

    @property
    def agent_id(self) -> str:
        """The app's agent id.

        Raises:
            SettingsError: the app is not configured.
        """
        return self._settings.app(self.app).agent_id

    @property
    def intent(self) -> Intent | None:
        """A call of an earlier run that left and whose outcome is not known."""
        if not self.open_call:
            return None
        moved, at = self._moved(), self._open_at
        # The later moment of the two is waited from, unless it is still to come: then Redis's clock
        # was set back, and not DingTalk's forward.
        at = at + moved if at > self._claim.time.now() else max(at, at + moved)
        return Intent(
            self._open_step, _moment(at), _moment(self._begin()), requeued=self._claim.requeued
        )

    def _begin(self) -> int:
        """Since when a call may have left, at the earliest, in ms; 0 if none has."""
        return min(self._open_since, self._open_since + self._moved()) if self._open_since else 0

    def _moved(self) -> int:
        """By how much Redis's clock was set since the note, in ms, if it was not DingTalk's.

        The note tells how far it was from DingTalk's then.
        """
        offset = self._offset_now()
        if offset is None or self._offset is None:
            return 0
        moved = self._offset - offset
        return moved if abs(moved) > CLOCKS_AGREE_MS else 0

    def _offset_now(self) -> int | None:
        """DingTalk's clock less Redis's, in ms; None before any answer of DingTalk's."""
        return self._dingtalk.clock.less(self._claim.time.now())

    @property
    def open_call(self) -> bool:
        """Whether a call of this job left of which it is not known what it did."""
        return bool(self._open_since) and not self._ruled_out

    @property
    def open_since(self) -> int:
        """When the first call left that has no remembered outcome, in ms; 0 if there is none."""
        return self._open_since

    async def doubt(self, since: int) -> None:
        """Have the effect of the open call looked for from `since` (ms) on, whatever its answer.

        Raises:
            OwnershipLost: the job is another worker's by now.
        """
        self._open_since = min(self._open_since, since)
        await self.note()

    def rule_out(self) -> None:
        """The call that has no answer is known to have done nothing.

        What its note says since when is kept, should the next call be lost, too.
        """
        self._ruled_out = True

    def enter(self, step: str) -> None:
        """Name the step that the next calls belong to."""
        self._step = step
        self.leaves_until = 0

    def finish(self, step: str, outcome: Json) -> None:
        """Remember a step's outcome. Only this closes its note: an answer alone may be unusable."""
        self.finished[step] = outcome
        if step == self._open_step:
            self.close_note()

    async def call(
        self,
        api: Api,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        recipients: int = 0,
    ) -> Json:
        """One call under all limits.

        Raises:
            DingTalkError: exactly one of its classes; throttles are told to the fleet first.
            limiter.Parked: its slot is too far away to wait for it here.
            limiter.Outage: the API is out, or the app held.
            OwnershipLost: the job is another worker's by now.
            Cancelled: the job was cancelled while it waited.
        """
        await self.check(api)
        costs = {"calls": 1, "recipients": recipients} if recipients else {"calls": 1}
        grant = await self.slot(api, costs)
        return await self.leave(api, await self.fresh(api, grant), query=query, body=body)

    async def check(self, api: Api) -> None:
        """Stop a call that can't be made, before it takes a slot.

        Raises:
            QuotaExhausted: the lane's share of the month is used up.
            DingTalkError: there is no token for it.
        """
        if api.counted:
            await self._quota.check(self._organisation, self._lane)
        await self._dingtalk.ready(self.app)

    async def slot(self, api: Api, costs: Mapping[str, int], *, place: str = "") -> Grant:
        """Wait until a call may leave; its costs may grow until it is asked for.

        Raises:
            limiter.Parked: its slot is too far away to wait for it here.
            limiter.Outage: the API is out, or the app held.
        """
        began = time.monotonic()
        grant = await self._limiter.acquire(
            self.app,
            api.name,
            lane=self._lane,
            costs=costs,
            sender=self._claim.sender,
            waited=self._waited,
            returning=self._returning,
            place=place,
            host=api.dialect,
        )
        LIMIT_WAIT_SECONDS.labels(api.name, self._lane).observe(time.monotonic() - began)
        return grant

    async def fresh(self, api: Api, grant: Grant) -> Grant:
        """The slot, or another one in place of one that has passed by.

        Raises:
            limiter.Parked: as of `slot`.
        """
        while self._limiter.stale(grant):
            await self._limiter.forgone(grant)
            grant = await self.slot(api, grant.costs)
        return grant

    async def leave(
        self,
        api: Api,
        grant: Grant,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Json:
        """Make the call whose slot has come; `call` tells what it raises."""
        left = time.monotonic()
        verdict = "lost"
        open_before = self.open_call
        try:
            answer = await self._dingtalk.call(
                self.app,
                api,
                query=query,
                body=body,
                leaving=self._note_in_time if api.changes else None,
            )
        except DingTalkError as error:
            verdict = error.name
            # A refusal of this call tells nothing of an earlier one that was lost.
            if api.changes and not isinstance(error, Ambiguous) and not open_before:
                self.close_note()
            if error.outage:  # there was no token, and whoever asked for it has told the fleet
                await self._limiter.forgone(grant)
            else:
                await self._limiter.failed(grant, error, job=self._claim.id)
            raise
        except (OwnershipLost, Cancelled):
            await self._limiter.forgone(grant)
            raise
        else:
            verdict = "ok"
            await self._limiter.answered(grant)
            if api.counted:
                self._quota.count(self._organisation)
            return answer
        finally:
            await self._limiter.over(grant)
            CALLS.labels(api.name, self.app, verdict).inc()
            CALL_SECONDS.labels(api.name).observe(time.monotonic() - left)

    @property
    def _organisation(self) -> str:
        return self._settings.app(self.app).organisation

    def close_note(self) -> None:
        """No call of the job is open: it was answered, or did not leave."""
        self.answered = True
        self._open_step, self._open_at, self._open_since = "", 0, 0

    async def _note_in_time(self) -> float:
        """Note that a call leaves; until when it must be on its way, by the monotonic clock."""
        # Taken before: the record's time of the note is later.
        began = time.monotonic()
        await self.note()
        return began + self._settings.settle_delay * LEAVES_WITHIN

    async def note(self) -> None:
        """Write down that the call leaves now, with what earlier steps brought.

        Raises:
            OwnershipLost: the job is another worker's by now, and the call must not leave.
        """
        # Redis writes its own time into the note, which is a little later than this.
        at = self._claim.time.now()
        note: Json = {"step": self._step, "attempt": self._claim.attempts + 1}
        offset = self._offset_now()
        if offset is not None:
            note["offset"] = offset
        # A note that is still open stays as old as it is: the search for the effect begins there.
        if self._open_since:
            note["since"] = self._begin()
        spent = Spent(answered=self.answered or self._ruled_out, steps=self.finished)
        verdict = await self._records.note(self._claim, note, spent, until=self.leaves_until)
        if verdict == "late":
            raise Wait(timedelta(0), "it is admitted for a day that is over")
        if verdict == "lost":
            raise OwnershipLost
        if verdict == "cancelled":
            raise Cancelled
        self.finished.clear()
        self.answered = self._ruled_out = False
        self._open_step, self._open_at = self._step, at
        self._open_since, self._offset = note.get("since", at), offset


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
