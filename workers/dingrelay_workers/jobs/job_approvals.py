"""Approvals, as the body of one job sees them: each instance belongs to one job."""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from dingrelay_tasks.context import ApprovalChange, ApprovalSearch, SimilarApproval
from dingrelay_tasks.outcomes import Wait
from dingrelay_workers.calls.job_calls import JobCalls
from dingrelay_workers.dingtalk.approval_form import Form
from dingrelay_workers.dingtalk.approvals import ApprovalsTopapi, ApprovalsV1, NewInstance
from dingrelay_workers.dingtalk.errors import Ambiguous, Final, NotFound, Transient
from dingrelay_workers.limiter.slot import Outage
from dingrelay_workers.resources import Resources
from dingrelay_workers.store.approval_claims import ApprovalClaims
from dingrelay_workers.store.claim import Claim

LOOK_LATER = timedelta(minutes=10)
"""Pause before an approval's state is read from DingTalk again, after a failed query."""
LOOK_BACK_MS = 60_000
"""An instance is looked up from this long before its call left, beside what the clocks differ."""
LOOK_BACK_UNMEASURED_MS = 3_600_000 + LOOK_BACK_MS
"""The same where DingTalk's answers don't tell how much they differ."""


class JobApprovals:
    """`dingrelay_tasks.context.ApprovalInstances` for one job: no two jobs get the same instance."""

    def __init__(self, claim: Claim, calls: JobCalls, resources: Resources) -> None:
        self._calls = calls
        self._intents = calls.intents
        self._time = claim.time
        self._now = claim.time.now
        self._form_checks = resources.form_checks
        self._clock = resources.transport.clock
        self._approval_claims = ApprovalClaims(resources.redis, resources.settings, job_id=claim.id)
        topapi = resources.settings.approval_api == "topapi"
        self._approvals = ApprovalsTopapi(calls) if topapi else ApprovalsV1(calls)

    async def check(self, process_code: str, form: Form) -> None:
        """Check a form against its template, if that can be read.

        Raises:
            ContractError: DingTalk would refuse the form.
        """
        await self._form_checks.check(self._calls, self._time, process_code, form)

    async def create(self, **approval: Any) -> str:
        """Create an instance; its id.

        Raises:
            Ambiguous: its answer was lost. Or another job had lost its own answer and found this
                instance before ours came: it keeps that one, so the one that it made itself is to
                be found for ours.
        """
        try:
            instance = await self._approvals.create(NewInstance(**approval))
        except Ambiguous:
            # DingTalk may have worked on it until now: the wait for it to appear starts here.
            await self._intents.write()
            raise
        taken_since = await self._approval_claims.claim(instance, since=self._intents.open_since)
        if taken_since is None:
            return instance
        await self._intents.search_from(taken_since)
        raise Ambiguous("claimed", "a job with an equal form took the instance that was made")

    async def find(
        self, *, process_code: str, originator: str, form: Form, since: datetime
    ) -> ApprovalSearch:
        """The earliest instance with an equal form that no other job has; it is this job's then."""
        own = await self._approval_claims.own()
        if own:
            return ApprovalSearch(own)
        begin = int(since.timestamp() * 1000)
        listed = await self._listed(process_code, originator, begin)
        free = await self._approval_claims.free(listed)
        matches = await self._approvals.matches(free, originator=originator, form=form)
        for instance in matches.equal:
            if await self._approval_claims.claim(instance.id, since=begin) is None:
                return ApprovalSearch(instance.id)
        unclear = await self._approval_claims.free([instance.id for instance in matches.unclear])
        return ApprovalSearch(
            candidates=[
                SimilarApproval(instance.id, instance.title, instance.created, instance.link)
                for instance in matches.unclear
                if instance.id in unclear
            ]
        )

    async def look(self, instance: str, *, patient: bool = False) -> ApprovalChange | None:
        """How an instance stands; None if DingTalk knows none with this id.

        Raises:
            Wait: DingTalk can't be asked now, and the caller is patient. No attempt is spent: who
                follows an approval for weeks meets some failures.
        """
        try:
            return await self._approvals.look(instance)
        except NotFound:
            return None
        except (Outage, Transient) as error:
            if not patient:
                raise
            raise Wait(LOOK_LATER, f"DingTalk can't be asked ({error})") from None

    async def _listed(self, process_code: str, originator: str, since: int) -> list[str]:
        """The ids of the instances that were made from `since` (ms of Redis's clock) on."""
        if self._clock.now() is None:
            # Any answer carries the time, also where this moment is still to come there.
            with suppress(Final):
                await self._approvals.page(process_code, originator, since, None, "0")
        offset = self._clock.less(self._now())
        if offset is None:
            begin = since - LOOK_BACK_UNMEASURED_MS
        else:
            begin = min(since, self._now()) + offset - LOOK_BACK_MS
        return await self._approvals.listed(process_code, originator, begin)
