"""Pushes events to callbacks over HTTP, with DingTalk's retries (API §7.1)."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
from yarl import URL

from dingrelay_sandbox.events.callbacks import CHECK, SUCCESS, Callback, Pushing
from dingrelay_sandbox.events.log import Delivery
from dingrelay_sandbox.state import SandboxState

MOST_AT_ONCE = 256
"""Pushes under way; more wait, and their time does not run."""
LARGEST_ANSWER = 65_536
"""Bytes of an answer that are read; a right one has some 300."""
HEADERS = {"Content-Type": "application/json", "Accept": "application/json"}


class HttpPush:
    """The side of DingTalk that calls.

    Args:
        state: where the callbacks are.
    """

    def __init__(self, state: SandboxState) -> None:
        self._state = state
        self._session: aiohttp.ClientSession | None = None
        self._room = asyncio.Semaphore(MOST_AT_ONCE)

    async def open(self) -> None:
        """Be ready to call."""
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar()
        )

    async def close(self) -> None:
        """Give the connections up."""
        if self._session is not None:
            await self._session.close()

    async def check(self, callback: Callback) -> str:
        """Ask whether a URL is a callback: ``success``, or what is wrong with it."""
        return await self._post(Pushing(callback), CHECK)

    async def deliver(self, delivery: Delivery) -> None:
        """Push an event until it is taken, or no more is tried."""
        state = self._state
        waits = iter(state.delivery_times.retries)
        while True:
            pushing = state.callbacks.of(delivery.app_key)
            app = state.apps.get(delivery.app_key)
            if pushing is None or app is None:
                state.events.settle(delivery, "failed")
                return
            at, began = state.clock(), time.monotonic()
            content = delivery.event.pushed(app.organisation, pushing.callback.casing)
            outcome = await self._post(pushing, content)
            state.events.attempt(delivery, outcome, at=at, took=time.monotonic() - began)
            if outcome == SUCCESS:
                state.events.settle(delivery, "delivered")
                return
            wait = next(waits, None)
            if wait is None:
                break
            await asyncio.sleep(state.delivery_times.scaled(wait))
        until = time.monotonic() + state.delivery_times.failed_kept
        state.callbacks.fail(delivery.app_key, delivery.event, until=until)
        state.events.settle(delivery, "failed")

    async def _post(self, pushing: Pushing, content: Mapping[str, Any]) -> str:
        assert self._session is not None, "opened when the server starts"
        async with self._room:
            push = pushing.push(content, self._state.clock())
            url = URL(pushing.callback.url).update_query(push.query)
            timeout = aiohttp.ClientTimeout(total=self._state.delivery_times.push_timeout)
            try:
                async with self._session.post(
                    url, data=push.body, headers=HEADERS, timeout=timeout, allow_redirects=False
                ) as answer:
                    body = await answer.content.read(LARGEST_ANSWER)
                    while len(body) < LARGEST_ANSWER and (
                        more := await answer.content.read(LARGEST_ANSWER - len(body))
                    ):
                        body += more
                    return pushing.verdict(answer.status, body)
            except TimeoutError:
                return "timeout"
            except aiohttp.ClientConnectorError:
                return "refused"
            except (aiohttp.ClientError, OSError) as error:
                return f"cut: {type(error).__name__}"
