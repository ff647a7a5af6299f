"""One access token per app, shared by the whole fleet through Redis (API §1)."""

import asyncio
import json
import math
import re
import time
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.settings import Settings
from dingrelay_producers.settings.apps import App
from dingrelay_producers.store import keys
from dingrelay_producers.store.script_functions import Key, script
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.transitions import TIME
from dingrelay_tasks.sentence import en
from dingrelay_workers.dingtalk import apis
from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.errors import (
    Credentials,
    DingTalkError,
    Final,
    Held,
    Permanent,
    Permission,
    QuotaExhausted,
    Throttled,
    Transient,
)
from dingrelay_workers.dingtalk.lenient import MALFORMED
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.dingtalk.transport import Transport
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.slot import Outage, Parked
from dingrelay_workers.metrics import TOKEN_FETCHES


@script("dingrelay_workers.calls", TIME)
def _take_token(
    *, token: Key, failure: Key, worker: str, margin: int, lease: int, distrusted: int | None
) -> None:
    """A token is fetched within the `margin` of its end, under a `lease` (ms); none of the `distrusted` generation."""


@script("dingrelay_workers.calls", TIME)
def _put_token(
    *,
    token: Key,
    failure: Key,
    worker: str,
    value: str | None,
    validity: int,
    error: str | None,
) -> None:
    """Without a value the fetch failed: the failure of these credentials is kept, for as long as a value would be."""


_LASTING = (Credentials, Held, Permanent, Permission, QuotaExhausted)

REFRESH_MARGIN = 600.0
"""Seconds before its expiry at which a token of two hours is refreshed: time for an outage to pass."""
LEASE_MARGIN = 5.0
"""Seconds beyond the longest token call after which another worker may fetch."""
WAIT_STEP = 0.05
"""Seconds between two looks while another worker fetches."""
FAILURE_PAUSE = 1.0
"""Seconds without a token call after one that failed for a reason that passes by itself."""
SOON = 5.0
"""Seconds after which a token within the refresh margin is read from Redis again."""

LONGEST_VALIDITY = 86_400.0
"""Most seconds for which a token is kept, whatever its answer says; DingTalk's live for two hours
(API §1)."""
JUST_FETCHED = 10
"""Seconds in which an API that refuses a token, and then the one in its place, is taken to be in trouble."""
_VALUE = re.compile(r"[\x21-\x7e]{1,2048}")
"""Texts that a header and a URL can carry."""

CREDENTIALS_HINT = en(
    "Correct DINGTALK_APP_KEY and DINGTALK_APP_SECRET; the app's jobs go on once they are right."
)


@dataclass(frozen=True, slots=True)
class Token:
    """An access token. Its value never shows in a repr.

    Attributes:
        generation: distinguishes a token from the one before it.
        stale_at: when this process asks Redis again, on its own monotonic clock.
    """

    value: str = field(repr=False)
    generation: int
    stale_at: float


class Tokens:
    """The fleet's tokens. A process reads Redis only when its copy nears its end."""

    def __init__(
        self,
        redis: Redis,
        transport: Transport,
        settings: Settings,
        limiter: Limiter,
        apps: CurrentApps,
        *,
        worker: str,
    ) -> None:
        self._redis = redis
        self._apps = apps
        self._limiter = limiter
        self._transport = transport
        self._settings = settings
        self._worker = worker
        self._held: dict[str, Token] = {}
        # App and API → the generation that it refused, and when.
        self._refusals: dict[tuple[str, str], tuple[int, float]] = {}
        self._asking: dict[str, asyncio.Task[Token]] = {}
        self._under_way: set[asyncio.Task[Any]] = set()

    async def token(self, app: str, *, distrust: Token | None = None) -> Token:
        """A good token of the app.

        Args:
            app: the app's name.
            distrust: a token that DingTalk called invalid; another one is returned.

        Raises:
            Credentials: DingTalk refuses the app's key or secret, or did a moment ago.
            DingTalkError: the token call failed otherwise, or did a moment ago.
            SettingsError: the app is not configured.
        """
        while (held := self.at_hand(app, distrust)) is None:
            # No other job sets out with it either: where the app is held, the probe that finds it
            # invalid stands in the way of the very fetch that would end the hold.
            self._held.pop(app, None)
            # One question a process, however many jobs wait for the answer.
            asking = self._asking.get(app)
            if asking is None:
                asking = self._start(self._get_token(app, distrust))
                self._asking[app] = asking
                asking.add_done_callback(lambda _: self._asking.pop(app))
            held = await asyncio.shield(asking)
            if not _same(held, distrust):
                break
        return held

    def at_hand(self, app: str, distrust: Token | None = None) -> Token | None:
        """The token of a call that leaves now, none that is distrusted; None if it has to wait for one."""
        held = self._held.get(app)
        usable = held and time.monotonic() < held.stale_at and not _same(held, distrust)
        return held if usable else None

    def note_refusal(self, app: str, api: str, token: Token) -> bool:
        """An API refused a token; whether it had refused the one before just now, and accepted none in between.

        That outlives a run: a job that has no slot at once for its call with the new token is parked, and runs again.
        """
        now, before = time.monotonic(), self._refusals.get((app, api))
        self._refusals[app, api] = token.generation, now
        return (
            before is not None and before[0] < token.generation and now < before[1] + JUST_FETCHED
        )

    def note_acceptance(self, app: str, api: str) -> None:
        """An API accepted a token: should it refuse that, it has ended."""
        self._refusals.pop((app, api), None)

    async def close(self) -> None:
        """Let what is under way finish."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _get_token(self, app: str, distrust: Token | None) -> Token:
        margin = int(REFRESH_MARGIN * 1000)
        lease = int((self._settings.call_timeout + LEASE_MARGIN) * 1000)
        while True:
            # The keys each time: the app's secret may be renewed while another worker fetches.
            token, failure = _keys(app, self._apps.app(app))
            call = _take_token(
                token=token,
                failure=failure,
                worker=self._worker,
                margin=margin,
                lease=lease,
                distrusted=distrust.generation if distrust else None,
            )
            advice, value, generation, milliseconds = await run_async(self._redis, call)
            seconds = milliseconds / 1000
            if advice == b"fetch":
                return await self._fetch(app)
            if advice == b"failed":
                raise _failure(value, seconds)
            if advice != b"wait":
                break
            await asyncio.sleep(min(WAIT_STEP, seconds))
        if advice == b"refresh":
            # If it fails, the old token is still good, and the next worker to ask tries again.
            self._start(self._fetch(app))
        return self._hold(app, value.decode(), generation, seconds)

    def _hold(self, app: str, value: str, generation: int, lifetime: float) -> Token:
        # Within the margin the token is good, but ask again soon whether it was renewed.
        seconds = max(lifetime - REFRESH_MARGIN, min(lifetime, SOON))
        token = Token(value, generation, time.monotonic() + seconds)
        self._held[app] = token
        return token

    def _start(self, work: Coroutine[Any, Any, Token]) -> asyncio.Task[Token]:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._forget_fetch)
        return task

    def _forget_fetch(self, task: asyncio.Task[Token]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # waiters get it; without any, asyncio must not report it

    async def _fetch(self, app: str) -> Token:
        api = self._api
        configured = self._apps.app(app)
        entry = _keys(app, configured)
        try:
            slot = await self._limiter.trial(app, api.name, api.dialect)
        except Outage as outage:
            error = Transient(outage.kind, outage.reason)
            error.outage = outage.name
            await self._store_token(entry, "", max(outage.wait, WAIT_STEP), error)
            raise error from None
        except Parked as parked:
            paused = Throttled("paused", parked.reason, pause=parked.due_in)
            await self._store_token(entry, "", parked.due_in, paused)
            raise paused from None
        TOKEN_FETCHES.labels(app).inc()
        slot.sent = True
        try:
            value, validity = await self._request(configured)
        except DingTalkError as error:
            if isinstance(error, Credentials):
                error.hint = CREDENTIALS_HINT
                if self._apps.credentials(app) != configured.credentials:
                    # It says nothing of the secret that there is by now, and must not hold that.
                    error.unsent = True
                    await self._limiter.report(slot, error)
                    await self._store_token(entry, "", 0)
                    return await self._get_token(app, None)
            wait = await self._limiter.report(slot, error)
            pause = error.pause if isinstance(error, Throttled) else wait or FAILURE_PAUSE
            await self._store_token(entry, "", pause, error)
            raise
        except BaseException as error:
            await self._limiter.report(slot, error)
            await self._store_token(entry, "", 0)
            raise
        if self._transport.clock:
            # Shared before the token is: so no worker that gets it has to read the clock itself.
            with suppress(RedisError, OSError):
                await self._transport.clock.ahead()
        generation = await self._store_token(entry, value, validity)
        await self._limiter.report(slot)
        with suppress(RedisError, OSError):  # the token is good all the same
            await self._limiter.breakers.forget_other_holds(app)
        return self._hold(app, value, generation, validity)

    async def _store_token(
        self,
        entry: tuple[str, str],
        value: str,
        seconds: float,
        failure: DingTalkError | None = None,
    ) -> int:
        failure_json = None
        if failure is not None:
            failure_json = json.dumps(
                [failure.name, failure.code, failure.message, failure.hint, failure.outage]
            )
        token_key, failure_key = entry
        call = _put_token(
            token=token_key,
            failure=failure_key,
            worker=self._worker,
            value=value or None,
            validity=int(seconds * 1000),
            error=failure_json,
        )
        return int(await run_async(self._redis, call))

    @property
    def _api(self) -> Api:
        return apis.TOKEN if self._settings.token_api == "oapi" else apis.TOKEN_V1  # noqa: S105

    async def read_clock(self, app: str) -> None:
        """Have DingTalk's clock read off the answer to a request for a token, which costs nothing of the month.

        DingTalk gives the token that there is. Of an app that is not configured the request names no key.

        Raises:
            Outage: a breaker before the token's API stands open.
            Parked: the API is paused.
            DingTalkError: DingTalk did not answer sanely.
        """
        slot = await self._limiter.trial(app, self._api.name, self._api.dialect)
        slot.sent = True
        try:
            if app in self._settings.apps:
                await self._request(self._apps.app(app))
            else:
                with suppress(Final, Held):
                    await self._transport.request(Request(apis.TOKEN))
        except BaseException as error:
            await self._limiter.report(slot, error)
            raise
        await self._limiter.report(slot)

    async def request(self, app: str) -> tuple[str, float]:
        """A token straight from DingTalk, past the shared one: its value and validity in seconds.

        Raises:
            Credentials: DingTalk refuses the app's key or secret.
            DingTalkError: the token call failed otherwise.
            SettingsError: the app is not configured.
        """
        return await self._request(self._apps.app(app))

    async def _request(self, configured: App) -> tuple[str, float]:
        key = configured.app_key.get_secret_value()
        secret = configured.app_secret.get_secret_value()
        if self._api is apis.TOKEN:
            request = Request(self._api, query={"appkey": key, "appsecret": secret})
            answer = await self._transport.request(request)
            return _read_token(answer, "access_token", "expires_in")
        request = Request(self._api, body={"appKey": key, "appSecret": secret})
        answer = await self._transport.request(request)
        return _read_token(answer, "accessToken", "expireIn")


def _keys(app: str, configured: App) -> tuple[str, str]:
    return keys.token(app), keys.token_failure(app, configured.credentials)


def _failure(stored: bytes, seconds: float) -> DingTalkError:
    """How a fetch failed, for the jobs that come within `seconds` seconds of it."""
    name, code, message, hint, outage = json.loads(stored)
    if name == Throttled.name:
        return Throttled(code, message, pause=seconds, hint=hint)
    meaning = next((error for error in _LASTING if error.name == name), Transient)
    failure = meaning(code, message, hint=hint)
    failure.outage = outage
    return failure


def _same(held: Token, distrust: Token | None) -> bool:
    return distrust is not None and held.generation == distrust.generation


def _read_token(answer: dict[str, Any], name: str, validity: str) -> tuple[str, float]:
    value = answer.get(name)
    try:
        seconds = float(answer.get(validity, 0))
    except (TypeError, ValueError):
        seconds = 0.0
    if isinstance(value, str) and _VALUE.fullmatch(value) and 0 < seconds < math.inf:
        return value, min(seconds, LONGEST_VALIDITY)
    lacks = en("{} or {} is missing in the token answer, or of a wrong type", name, validity)
    raise Transient(MALFORMED, lacks, sick="way")
