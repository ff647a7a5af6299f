"""One job's calls of DingTalk: each is checked, joins a batch or opens one, and waits for the answer of that."""

from contextlib import suppress
from copy import copy

from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import Json, Lane
from dingrelay_workers.calls.batch import Batch, BatchKey, BatchMember, CallingJob
from dingrelay_workers.calls.errors import BatchClosed
from dingrelay_workers.calls.exchange import Exchange
from dingrelay_workers.calls.intent_log import IntentLog
from dingrelay_workers.calls.registry import BatchRegistry
from dingrelay_workers.calls.tokens import Tokens
from dingrelay_workers.dingtalk.clock import DingTalkClock, Offset
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.dingtalk.transport import Transport
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.quota import Quota
from dingrelay_workers.limiter.slot import SlotRequest, Turns
from dingrelay_workers.store.records import Claim


class JobCalls:
    """`dingtalk.request.Calls` for one run of one job.

    A call goes one way, as a `Batch` of one job or of several: check → join a batch or open one → have a token → take a
    slot → write the intent → HTTP → classify → report to the limiter, once, on leaving the slot.

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
        self._exchange = Exchange(settings, quota, tokens, transport)
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
        if request.api.counted:
            await self._quota.check(self._organisation, self._lane)
        caller = CallingJob(
            self.app,
            self._claim.queue,
            self.intents,
            self._limiter,
            self._batches,
            self._exchange,
        )
        answer: Json | None = None
        while answer is None:
            with suppress(BatchClosed):
                member = await self._join(request)
                try:
                    answer = await member.share(request, caller)
                finally:
                    if member.sends and member.batch.took_turn:
                        self._turn = ""
        return answer

    async def ahead(self, *, with_token: bool = True) -> int | None:
        """DingTalk's clock less Redis's in ms, at least; see `clock_offset`."""
        offset = await self.clock_offset(with_token=with_token)
        return offset.least if offset else None

    async def clock_offset(self, *, with_token: bool = True) -> Offset | None:
        """How far DingTalk's clock is from Redis's. Where no worker has a reading one is taken first.

        Args:
            with_token: the call that asks for it needs the app's token, whose fetch is a reading.

        Returns:
            None if DingTalk's answers show no time.

        Raises:
            DingTalkError: DingTalk did not answer.
            limiter.Outage: it is known to be out, or the app held.
            limiter.Parked: its API of tokens is paused.
        """
        clock, offset = self._clock, await self._clock.offset()
        if offset or clock.undated:
            return offset
        async with clock.measuring:
            if with_token:
                await self._tokens.token(self.app)
            if await clock.offset() is None:
                await self._tokens.read_clock(self.app)
            return await clock.offset()

    async def _join(self, request: Request) -> BatchMember:
        """The job's part of a call: kept for it, of one of its content that waits, or of a new one."""
        api, claim = request.api, self._claim
        turns = Turns(api.owner or self.app, api.rule, self._lane)
        shares = bool(claim.batch_key and request.users)
        slot = SlotRequest(
            turns,
            request.recipients,
            sender=claim.sender,
            waited=self._waited,
            returning=bool(claim.turn),
            woken=claim.id if turns.in_turn == self._turn else "",
            shared=claim.shared if shares else "",
            host=api.dialect,
            breaker=api.breaker,
        )
        if not shares:
            member = Batch(slot).sender
        elif self._member is not None:
            member, self._member = self._member, None
            member.add(request.users)
        else:
            most = self._limiter.recipients_per_call(self.app, api.name)
            member = await self._batches.join(
                self._key, request.users, slot, eager=bool(claim.waiting), most=most
            )
        return member

    @property
    def _organisation(self) -> str:
        return self._settings.app(self.app).organisation
