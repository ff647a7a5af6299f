"""One request to DingTalk and its answer: intent → HTTP → classify → count."""

import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from math import inf

from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import Json
from dingrelay_tasks.sentence import en
from dingrelay_workers.calls.intent_log import IntentLog
from dingrelay_workers.calls.tokens import Token, Tokens
from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.errors import (
    DingTalkError,
    Final,
    Permanent,
    QuotaExhausted,
    TokenInvalid,
    Transient,
)
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.dingtalk.transport import SharedCall, TooLate, Transport
from dingrelay_workers.limiter.quota import Quota
from dingrelay_workers.metrics import CALL_SECONDS, CALLS

MOST_INTENTS = 4
"""How often the intent of a delayed call is written again before the call is given up."""
REFUSED_NEW = en(
    "A token that was just fetched is refused: check that key, secret and organisation belong together."
)
REFUSED_HERE = en(
    "A token that was just fetched is refused: this API may want another's, such as a person's."
)
REFUSED_OWN = en("The token in the call is none that DingTalk knows.")
NO_TOKEN = Token("", 0, inf)
"""Stands for the token of a call that needs none, or brings its own."""


class Exchange:
    """The requests of one process.

    Args:
        settings: the apps' organisations.
        quota: the month's calls.
        tokens: of the apps.
        transport: makes the requests.
    """

    def __init__(
        self, settings: Settings, quota: Quota, tokens: Tokens, transport: Transport
    ) -> None:
        self._settings = settings
        self._quota = quota
        self._tokens = tokens
        self._transport = transport

    async def make(
        self,
        request: Request,
        app: str,
        token: Token,
        intents: IntentLog,
        shared: SharedCall,
        *,
        again: bool = False,
    ) -> Json:
        """DingTalk's answer to one request.

        Args:
            request: what is asked.
            app: for which it is asked.
            token: see `token_at_hand`.
            intents: of the job that makes the call.
            shared: the call.
            again: DingTalk refused another token for it before.

        Raises:
            TokenInvalid: a new token may be accepted. The call had no effect, so that it may be repeated.
            DingTalkError: how DingTalk answered, or that it did not.
            Exception: as `IntentLog.write`.
        """
        api = request.api
        with self._counting_call(api, app):
            try:
                answer = await self._request(request, token, intents, shared)
            except TokenInvalid as error:
                if token is NO_TOKEN or self._tokens.note_refusal(app, api.name, token) or again:
                    raise _refused(error, api) from None
                if api.changes:
                    intents.take_back()
                raise
            self._tokens.note_acceptance(app, api.name)
            return answer

    def token_at_hand(self, api: Api, app: str, refused: Token | None) -> Token | None:
        """The token with which a call leaves at once, none that DingTalk refused; None if there is none."""
        return self._tokens.at_hand(app, refused) if api.access == "token" else NO_TOKEN

    async def prepare(self, api: Api, app: str, refused: Token | None) -> None:
        """Have the token at hand that a call needs, before a slot is taken for it.

        Calls that waited for their token with their slots would leave in a burst when it is there.

        Raises:
            DingTalkError: there is none but the one that DingTalk refused.
        """
        if api.access == "token":
            try:
                await self._tokens.token(app, distrust=refused)
            except DingTalkError as error:
                error.unsent = True  # it says nothing about this API, and is already reported
                raise

    @contextmanager
    def _counting_call(self, api: Api, app: str) -> Generator[None]:
        """Around a call: it is counted, and so are its seconds."""
        started, verdict = time.monotonic(), "lost"
        try:
            yield
            verdict = "ok"
            self._count(api, app)
        except DingTalkError as error:
            verdict, error.of_read = error.name, not api.changes
            # Calls refused for their content count, too (API §6).
            refused = isinstance(error, Final) and not isinstance(
                error, QuotaExhausted | _TokenRefused
            )
            if refused:
                self._count(api, app)
            raise
        finally:
            CALLS.labels(api.name, app, verdict).inc()
            CALL_SECONDS.labels(api.name).observe(time.monotonic() - started)

    def _count(self, api: Api, app: str) -> None:
        """Note a call of the month."""
        if api.counted:
            self._quota.count(self._settings.app(app).organisation)

    async def _request(
        self, request: Request, token: Token, intents: IntentLog, shared: SharedCall
    ) -> Json:
        """One request, which leaves soon after its intent, and in the job's time: others rely on the intent's."""
        for _ in range(MOST_INTENTS):
            leave_by = min(await intents.write(), shared.leave_by) if request.api.changes else None
            with suppress(TooLate):
                return await self._transport.request(
                    request, token.value, leave_by=leave_by, shared=shared
                )
            intents.take_back()
        late = Transient("late", "the worker was too busy to send the request after its intent")
        late.unsent = True
        raise late


class _TokenRefused(Permanent):
    """A fresh token that DingTalk refused: it knows of no organisation whose call of the month that were."""


def _refused(error: TokenInvalid, api: Api) -> DingTalkError:
    """Maps a refused fresh token to an error.

    The refusal means that DingTalk is in trouble, or it concerns this call only, as where an API
    wants the token of a person: a call made directly by a user gets the refusal itself.
    """
    if api.verbatim:
        hint = REFUSED_OWN if api.access == "own" else REFUSED_HERE
        refused = _TokenRefused(error.code, error.message, hint=hint, request_id=error.request_id)
        refused.verbatim = error.verbatim
        return refused
    return Transient(
        error.code,
        error.message,
        hint=REFUSED_NEW,
        request_id=error.request_id,
        sick="answer",
    )
