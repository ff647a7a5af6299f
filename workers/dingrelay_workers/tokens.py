"""One access token per app, shared by the whole fleet through Redis (API §1)."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers import keys
from dingrelay_producers.scripts import Script, Value, run_async
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_workers.dingtalk import apis
from dingrelay_workers.dingtalk.errors import Credentials, DingTalkError, Transient
from dingrelay_workers.dingtalk.transport import Transport

_TAKE = Script.load("dingrelay_workers", "token_take")
_PUT = Script.load("dingrelay_workers", "token_put")

FETCH_LEASE = 20.0
"""Seconds after which another worker may fetch: longer than a token call can take."""
WAIT_STEP = 0.05
"""Seconds between two looks while another worker fetches."""

CREDENTIALS_HINT = (
    "Check DINGTALK_APP_KEY and DINGTALK_APP_SECRET, then requeue: dingrelay dead requeue --all."
)


@dataclass(frozen=True, slots=True)
class Token:
    """An access token. Its value never shows in a repr.

    Attributes:
        generation: tells a token from the one before it.
        stale_at: when this process asks Redis again, on its own monotonic clock.
    """

    value: str = field(repr=False)
    generation: int
    stale_at: float


class Tokens:
    """The fleet's tokens. A process asks Redis only when its copy nears its end."""

    def __init__(
        self, redis: Redis, transport: Transport, settings: Settings, *, worker: str
    ) -> None:
        self._redis = redis
        self._transport = transport
        self._settings = settings
        self._worker = worker
        self._held: dict[str, Token] = {}
        self._asking: dict[str, asyncio.Lock] = {}
        self._refreshes: set[asyncio.Task[None]] = set()

    async def get(self, app: str, *, distrust: Token | None = None) -> str:
        """The value of a good token of the app."""
        return (await self.token(app, distrust=distrust)).value

    async def token(self, app: str, *, distrust: Token | None = None) -> Token:
        """A good token of the app.

        Args:
            app: the app's name.
            distrust: a token that DingTalk called invalid; another one is returned.

        Raises:
            Credentials: DingTalk refuses the app's key or secret, or did within the circuit.
            DingTalkError: the token call failed otherwise.
        """
        held = self._held.get(app)
        if held and time.monotonic() < held.stale_at and not _same(held, distrust):
            return held
        # One question a process, however many jobs wait for the answer.
        async with self._asking.setdefault(app, asyncio.Lock()):
            held = self._held.get(app)
            if held and time.monotonic() < held.stale_at and not _same(held, distrust):
                return held
            self._held[app] = await self._ask(app, distrust)
            return self._held[app]

    async def close(self) -> None:
        """Let refreshes under way finish."""
        await asyncio.gather(*self._refreshes, return_exceptions=True)

    async def _ask(self, app: str, distrust: Token | None) -> Token:
        margin = self._settings.refresh_margin
        while True:
            what, value, generation, left, code, message = await run_async(
                self._redis,
                _TAKE.call(
                    [keys.token(app)],
                    [
                        self._worker,
                        int(margin * 1000),
                        int(FETCH_LEASE * 1000),
                        distrust.generation if distrust else 0,
                    ],
                ),
            )
            if what == b"fetch":
                return await self._fetch(app)
            if what == b"refused":
                raise Credentials(code.decode(), message.decode(), hint=CREDENTIALS_HINT)
            if what == b"wait":
                await asyncio.sleep(min(WAIT_STEP, left / 1000))
                continue
            if what == b"refresh":
                self._start(self._refresh(app))
            # Within the margin the token is good, but ask again soon whether it was renewed.
            patience = max(left / 1000 - margin, min(left / 1000, 5.0))
            return Token(value.decode(), generation, time.monotonic() + patience)

    def _start(self, refresh: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(refresh)
        self._refreshes.add(task)
        task.add_done_callback(self._refreshes.discard)

    async def _refresh(self, app: str) -> None:
        try:
            self._held[app] = await self._fetch(app)
        except DingTalkError:
            # The old token is still good; the next worker to ask tries again.
            return

    async def _fetch(self, app: str) -> Token:
        try:
            value, validity = await self.request(app)
        except Credentials as error:
            circuit = self._settings.token_circuit
            await self._put(app, "", circuit, error.code, error.message)
            raise Credentials(error.code, error.message, hint=CREDENTIALS_HINT) from None
        except BaseException:
            await self._put(app, "", 0)
            raise
        generation = await self._put(app, value, validity)
        patience = max(validity - self._settings.refresh_margin, min(validity, 5.0))
        return Token(value, generation, time.monotonic() + patience)

    async def _put(
        self, app: str, value: str, seconds: float, code: str = "", message: str = ""
    ) -> int:
        arguments: list[Value] = [self._worker, value, int(seconds * 1000), code, message]
        return int(await run_async(self._redis, _PUT.call([keys.token(app)], arguments)))

    async def request(self, app: str) -> tuple[str, float]:
        """A token straight from DingTalk, past the shared one: its value and validity in seconds.

        Raises:
            Credentials: DingTalk refuses the app's key or secret, or they are not configured.
            DingTalkError: the token call failed otherwise.
        """
        try:
            configured = self._settings.app(app)
        except SettingsError as error:
            raise Credentials("not_configured", str(error)) from None
        key = configured.app_key.get_secret_value()
        secret = configured.app_secret.get_secret_value()
        if self._settings.token_api == "oapi":  # noqa: S105 - the name of an API
            answer = await self._transport.request(
                apis.TOKEN, query={"appkey": key, "appsecret": secret}
            )
            return _read(answer, "access_token", "expires_in")
        answer = await self._transport.request(
            apis.TOKEN_V1, body={"appKey": key, "appSecret": secret}
        )
        return _read(answer, "accessToken", "expireIn")


def _same(held: Token, distrust: Token | None) -> bool:
    return distrust is not None and held.generation == distrust.generation


def _read(answer: dict[str, Any], name: str, validity: str) -> tuple[str, float]:
    value = answer.get(name)
    try:
        seconds = float(answer.get(validity, 0))
    except (TypeError, ValueError):
        seconds = 0.0
    if not isinstance(value, str) or not value or seconds <= 0:
        raise Transient("malformed_answer", f"the token answer lacks {name} or {validity}")
    return value, seconds
