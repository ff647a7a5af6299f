"""One job's calls of DingTalk: each goes the same way, from check to report to the fleet."""

import time
from contextlib import suppress
from copy import copy

from opentelemetry import trace

from dingrelay_producers.settings import Settings
from dingrelay_producers.tracing import spans
from dingrelay_tasks.contract import Json, Lane
from dingrelay_tasks.sentence import en
from dingrelay_workers.calls.batch import Batch, BatchClosed, BatchKey, BatchMember, BatchRegistry
from dingrelay_workers.calls.intent_log import IntentLog
from dingrelay_workers.calls.tokens import Token, Tokens
from dingrelay_workers.dingtalk.apis import MESSAGE_SEND, Api
from dingrelay_workers.dingtalk.classify import request_id_of
from dingrelay_workers.dingtalk.clock import DingTalkClock
from dingrelay_workers.dingtalk.errors import (
    DingTalkError,
    Final,
    Permanent,
    QuotaExhausted,
    TokenInvalid,
    Transient,
)
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.dingtalk.transport import REQUEST_ID, SharedCall, TooLate, Transport
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.quota import Quota
from dingrelay_workers.limiter.rules import JITTER
from dingrelay_workers.limiter.slot import Slot, SlotRequest, Turns
from dingrelay_workers.metrics import CALL_SECONDS, CALLS, LIMIT_WAIT_SECONDS
from dingrelay_workers.store.records import Claim

MOST_INTENTS = 4
"""How often the intent of a delayed call is written again before the call is given up."""
REFUSED_NEW = en(
    "A token that was just fetched is refused: check that key, secret and organisation belong together."
)
REFUSED_HERE = en(
    "A token that was just fetched is refused: this API may want another's, such as a person's."
)
REFUSED_OWN = en("The token in the call is none that DingTalk knows.")
MEMBERS_READY_WITHIN = 1.0
"""Seconds that a call whose slot has come waits at most for those who share it."""


class JobCalls:
    """`dingtalk.request.Calls` for one run of one job.

    A call goes one way, as a `Batch` of one job or of several: check → join a batch or open one → take a slot →
    write the intent → HTTP → classify → report to the limiter, once, on leaving the slot.

    Attributes:
        app: the app for which it calls.
        intents: what is about to leave, and what left without an answer.
    """

    def __init__(
        self,
        claim: Claim,
        *,
        settings: Settings,
        limiter: Limiter,
        quota: Quota,
        tokens: Tokens,
        transport: Transport,
        clock: DingTalkClock,
        batches: BatchRegistry,
        intents: IntentLog,
        member: BatchMember | None = None,
    ) -> None:
        """Calls nothing yet.

        Args:
            claim: the job's.
            settings: the configuration.
            limiter: gives the slots; gets the outcomes of calls.
            quota: the month's calls.
            tokens: of the apps.
            transport: makes the requests.
            clock: DingTalk's.
            batches: the calls of this process that others can share.
            intents: of this run.
            member: kept for this job in the batch that claimed it.
        """
        self.app = claim.app
        self.intents = intents
        self._claim = claim
        self._lane: Lane = claim.lane
        self._settings = settings
        self._limiter = limiter
        self._quota = quota
        self._tokens = tokens
        self._transport = transport
        self._clock = clock
        self._batches = batches
        self._member = member
        self._key = BatchKey(claim.batch_key, claim.lane)
        self._turn = claim.turn
        # Bulk that has waited long enough may reserve; the wait counts from before it was parked.
        self._waited = max(0.0, (claim.time.at - claim.waiting) / 1000) if claim.waiting else 0.0

    def for_app(self, app: str) -> "JobCalls":
        """The same job's calls, as another app."""
        calls = copy(self)
        calls.app = app
        return calls

    @property
    def agent_id(self) -> str:
        """The app's agent id.

        Raises:
            SettingsError: the app is not configured.
        """
        return self._settings.app(self.app).agent_id

    async def send(self, request: Request) -> Json:
        """One call under all limits.

        Raises:
            DingTalkError: exactly one of its classes; throttles are reported to the fleet first.
            limiter.Parked: its slot is too far away to wait for it here.
            limiter.Outage: the API is out, or the app held.
            BatchSplit: DingTalk refused a call that several jobs shared.
            OwnershipLost: the job is another worker's by now.
            Cancelled: the job was cancelled while it waited.
        """
        await self._check(request.api)
        while True:
            with suppress(BatchClosed):
                member = await self._join(request)
                if member.sends:
                    return await self._make(member.batch, request)
                return await self._share(member)

    async def ahead(self, *, with_token: bool = True) -> int | None:
        """DingTalk's clock less Redis's, in ms. Where no worker has a reading one is taken first.

        Args:
            with_token: the call that asks for it needs the app's token, whose fetch is a reading.

        Returns:
            None if DingTalk's answers show no time.

        Raises:
            DingTalkError: DingTalk did not answer.
            limiter.Outage: it is known to be out, or the app held.
            limiter.Parked: its API of tokens is paused.
        """
        clock, ahead = self._clock, await self._clock.ahead()
        if ahead is not None or clock.undated:
            return ahead
        async with clock.measuring:
            if with_token:
                await self._tokens.token(self.app)
            if await clock.ahead() is None:
                await self._tokens.read_clock(self.app)
            return await clock.ahead()

    async def _check(self, api: Api) -> None:
        """Whether it may be called at all; a token is fetched before a slot is taken for it.

        Calls that waited for their token with their slots would leave in a burst when it is there.
        """
        if api.counted:
            await self._quota.check(self._organisation, self._lane)
        if api.access == "token":
            await self._tokens.token(self.app)

    async def _join(self, request: Request) -> BatchMember:
        """The job's part of a call: kept for it, of one of its content that waits, or of a new one."""
        api, claim = request.api, self._claim
        turns = Turns(api.owner or self.app, api.rule, self._lane)
        slot = SlotRequest(
            turns,
            request.recipients,
            sender=claim.sender,
            waited=self._waited,
            returning=bool(claim.turn),
            woken=claim.id if turns.in_turn == self._turn else "",
            host=api.dialect,
            breaker=api.breaker,
        )
        users = request.users if claim.batch_key else []
        if not users:
            return Batch(slot).sender
        kept, self._member = self._member, None
        if kept is not None:
            kept.add(users)
            return kept
        slot.shared = claim.shared
        most = self._limiter.recipients_per_call(self.app, api.name)
        return await self._batches.join(
            self._key, users, slot, eager=bool(claim.waiting), most=most
        )

    async def _share(self, member: BatchMember) -> Json:
        """Leave the call to the job that opened the batch; the answer is for all of it."""
        try:
            with self.intents.call():
                await member.slot()
                await self.intents.write()
                member.ready()
                return _traced(await member.answer())
        finally:
            spans.link(member.batch.call.trace)
            member.leave()

    async def _make(self, batch: Batch, request: Request) -> Json:
        """Make the call for all who share it."""
        try:
            with self.intents.call():
                answer = await self._leave(batch, request)
        except BaseException as error:
            self._batches.withdraw(batch)
            own = batch.fail(error, left=self.intents.open)
            if own is error:
                raise
            raise own from error
        batch.complete(answer)
        return answer

    async def _leave(self, batch: Batch, request: Request) -> Json:
        """Take a slot, close the batch, and send the request."""
        while True:
            slot, answer = await self._slot(request.api, batch.request), None
            try:
                if not batch.frozen.is_set():
                    await self._fill(batch, slot)
                    users = batch.freeze()
                    self._batches.withdraw(batch)
                    request = request.to(users) if users else request
                # A process that was stopped with its slot takes another one in its place.
                if not self._limiter.stale(slot):
                    slot.sent = True
                    answer = await self._exchange(request, batch.call)
            except BaseException as error:
                await self._limiter.report(slot, error)
                raise
            await self._limiter.report(slot)
            if answer is not None:
                return answer

    async def _slot(self, api: Api, request: SlotRequest) -> Slot:
        """A slot, whose end is to be reported to the limiter.

        Raises:
            limiter.Parked: it is too far away to wait for it here.
            limiter.Outage: the API is out, or the app held.
        """
        began = time.monotonic()
        try:
            slot = await self._limiter.acquire(request)
        finally:
            wanted = self._limiter.wanted(request)
            self._batches.claim_late(request.turns, self._claim.queue, wanted)
        LIMIT_WAIT_SECONDS.labels(api.name, self._lane).observe(time.monotonic() - began)
        if request.woken:
            self._turn = request.woken = ""
        return slot

    async def _fill(self, batch: Batch, slot: Slot) -> None:
        """The slot has come: claim those who wait for a call like this one, and wait for all."""
        if batch.key is None:
            return
        bucket = self._limiter.recipients_rule(self.app, MESSAGE_SEND.name)
        batch.seal(slot.paid if bucket else None)
        if (slot.waited or batch.eager) and not slot.trial:
            await self._batches.claim_members(batch, batch.key, bucket)
        # Recipients are counted when they arrive: they may not be much later than their tokens.
        await batch.members_ready(JITTER if bucket else MEMBERS_READY_WITHIN)

    async def _exchange(self, request: Request, shared: SharedCall) -> Json:
        """DingTalk's answer; the call is counted, and so are its seconds."""
        api, left, verdict = request.api, time.monotonic(), "lost"
        try:
            answer = await self._with_token(request, shared)
        except DingTalkError as error:
            verdict, error.of_read = error.name, not api.changes
            # Calls refused for their content count, too (API §6).
            refused = isinstance(error, Final) and not isinstance(error, QuotaExhausted)
            if refused and not error.unsent:
                self._count(api)
            raise
        else:
            verdict = "ok"
            self._count(api)
            return answer
        finally:
            CALLS.labels(api.name, self.app, verdict).inc()
            CALL_SECONDS.labels(api.name).observe(time.monotonic() - left)

    def _count(self, api: Api) -> None:
        """Note a call of the month."""
        if api.counted:
            self._quota.count(self._organisation)

    async def _with_token(self, request: Request, shared: SharedCall) -> Json:
        """DingTalk's answer; asked once more with a new token if DingTalk calls the token invalid.

        An invalid token had no effect, so the repeat is safe even for a call that changes something.
        """
        token = ""
        if request.api.access == "token":
            known = await self._token()
            try:
                return await self._request(request, known.value, shared)
            except TokenInvalid:
                token = (await self._token(distrust=known)).value
        try:
            return await self._request(request, token, shared)
        except TokenInvalid as error:
            raise _refused(error, request.api) from None

    async def _token(self, distrust: Token | None = None) -> Token:
        try:
            return await self._tokens.token(self.app, distrust=distrust)
        except DingTalkError as error:
            error.unsent = True  # it says nothing about this API, and is already reported
            raise

    async def _request(self, request: Request, token: str, shared: SharedCall) -> Json:
        """One request, which leaves soon after its intent: others rely on the intent's time."""
        if not request.api.changes:
            return await self._transport.request(request, token, shared=shared)
        for _ in range(MOST_INTENTS):
            leave_by = await self.intents.write()
            with suppress(TooLate):
                return await self._transport.request(
                    request, token, leave_by=leave_by, shared=shared
                )
        late = Transient("late", "the worker was too busy to send the request after its intent")
        late.unsent = True
        raise late

    @property
    def _organisation(self) -> str:
        return self._settings.app(self.app).organisation


def _refused(error: TokenInvalid, api: Api) -> DingTalkError:
    """Maps a refused fresh token to an error.

    The refusal means that DingTalk is in trouble, or it concerns this call only, as where an API
    wants the token of a person: a call made directly by a user gets the refusal itself.
    """
    if api.verbatim:
        hint = REFUSED_OWN if api.access == "own" else REFUSED_HERE
        refused = Permanent(error.code, error.message, hint=hint, request_id=error.request_id)
        refused.verbatim = error.verbatim
        return refused
    return Transient(
        error.code,
        error.message,
        hint=REFUSED_NEW,
        request_id=error.request_id,
        sick="answer",
    )


def _traced(answer: Json) -> Json:
    """The answer to a call of another job, with its request id added to this job's trace."""
    span = trace.get_current_span()
    if span.is_recording() and (request_id := request_id_of(answer)):
        span.set_attribute(REQUEST_ID, request_id)
    return answer
