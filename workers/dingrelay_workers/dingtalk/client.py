"""Calls DingTalk's APIs in either dialect, with the app's token."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.clock import DingTalkClock
from dingrelay_workers.dingtalk.errors import Permanent, TokenInvalid, Transient
from dingrelay_workers.dingtalk.transport import TooLate, Transport
from dingrelay_workers.tokens import Token, Tokens

TOKEN_HEADER = "x-acs-dingtalk-access-token"  # noqa: S105 - the header's name


MOST_NOTES = 4
"""How often a call that could not leave in time is noted anew before it is given up."""


class DingTalk:
    """DingTalk for all apps of this fleet."""

    def __init__(self, transport: Transport, tokens: Tokens) -> None:
        self._transport = transport
        self._tokens = tokens

    @property
    def clock(self) -> DingTalkClock:
        """What is known of DingTalk's clock."""
        return self._transport.clock

    async def ready(self, app: str) -> None:
        """Have a token of the app, so that no call waits for one once its slot has come.

        Calls that did would leave in a burst when the token is there.

        Raises:
            DingTalkError: no token is to be had.
        """
        await self._tokens.token(app)

    async def call(
        self,
        app: str,
        api: Api,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        leaving: Callable[[], Awaitable[float]] | None = None,
    ) -> dict[str, Any]:
        """One call; repeated once with a new token if DingTalk calls the token invalid.

        Args:
            app: whose token it carries.
            api: what is called.
            query: parameters beside the token.
            body: the JSON body.
            leaving: awaited just before the request leaves; an exception of it stops the call. It
                answers until when the request may leave, by the monotonic clock.

        Raises:
            DingTalkError: exactly one of its classes.
        """
        token = await self._tokens.token(app)
        try:
            return await self._in_time(api, token, query, body, leaving)
        except TokenInvalid:
            # An invalid token had no effect, so the repeat is safe even for a call that changes.
            renewed = await self._tokens.token(app, distrust=token)
        try:
            return await self._in_time(api, renewed, query, body, leaving)
        except TokenInvalid as error:
            raise Permanent(
                error.code,
                error.message,
                hint="A token that was just fetched is refused: check that key, secret and "
                "organisation belong together.",
                request_id=error.request_id,
            ) from None

    async def _in_time(
        self,
        api: Api,
        token: Token,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        leaving: Callable[[], Awaitable[float]] | None,
    ) -> dict[str, Any]:
        """One request, which leaves soon after it was noted: others rely on the note's time."""
        for _ in range(MOST_NOTES):
            leave_by = await leaving() if leaving else None
            with suppress(TooLate):
                return await self._once(api, token, query, body, leave_by)
        raise Transient("late", "the worker was too busy to send the request after it was noted")

    async def _once(
        self,
        api: Api,
        token: Token,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        leave_by: float | None,
    ) -> dict[str, Any]:
        headers: dict[str, str] = {}
        if api.dialect == "oapi":
            query = {"access_token": token.value, **(query or {})}
        else:
            headers[TOKEN_HEADER] = token.value
        return await self._transport.request(
            api, query=query, body=body, headers=headers, leave_by=leave_by
        )
