"""Calls DingTalk's APIs in either dialect, with the app's token."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.errors import Permanent, TokenInvalid
from dingrelay_workers.dingtalk.transport import Transport
from dingrelay_workers.tokens import Token, Tokens

TOKEN_HEADER = "x-acs-dingtalk-access-token"  # noqa: S105 - the header's name


class DingTalk:
    """DingTalk for all apps of this fleet."""

    def __init__(self, transport: Transport, tokens: Tokens) -> None:
        self._transport = transport
        self._tokens = tokens

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
        leaving: Callable[[], Awaitable[None]] | None = None,
    ) -> dict[str, Any]:
        """One call; repeated once with a new token if DingTalk calls the token invalid.

        Args:
            app: whose token it carries.
            api: what is called.
            query: parameters beside the token.
            body: the JSON body.
            leaving: awaited just before the request leaves; an exception of it stops the call.

        Raises:
            DingTalkError: exactly one of its classes.
        """
        token = await self._tokens.token(app)
        if leaving:
            await leaving()
        try:
            return await self._once(api, token, query, body)
        except TokenInvalid:
            # An invalid token had no effect, so the repeat is safe even for a call that changes.
            renewed = await self._tokens.token(app, distrust=token)
        try:
            return await self._once(api, renewed, query, body)
        except TokenInvalid as error:
            raise Permanent(
                error.code,
                error.message,
                hint="A token that was just fetched is refused: check that key, secret and "
                "organisation belong together.",
                request_id=error.request_id,
            ) from None

    async def _once(
        self,
        api: Api,
        token: Token,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        if api.dialect == "oapi":
            query = {"access_token": token.value, **(query or {})}
            return await self._transport.request(api, query=query, body=body)
        return await self._transport.request(
            api, query=query, body=body, headers={TOKEN_HEADER: token.value}
        )
