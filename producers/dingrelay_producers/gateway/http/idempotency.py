"""``Idempotency-Key``: the same request again gets the same answer, and does nothing twice.

After draft-ietf-httpapi-idempotency-key-header. A key is scoped to the API key. Redis holds a
digest of the request and the answer, never the request itself. The ids of jobs follow from the key
as well (`ApiCall.once`), so a gateway that dies between a job and its answer doubles nothing.
"""

import asyncio
import hashlib
import json
import re
import uuid
from contextlib import suppress
from typing import Any

from aiohttp import web

from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.gateway import problems
from dingrelay_producers.gateway.http.routes import ApiCall, Route
from dingrelay_producers.gateway.problems import Problem
from dingrelay_producers.store import keys, scripts
from dingrelay_producers.store.record import canonical_json
from dingrelay_producers.store.scripts import Script

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"

LEASE_SECONDS = 3.0
"""For so long after its gateway died nobody else may try, and is told that it is under way."""
RENEWAL_SECONDS = 1.0

_KEPT_HEADERS = ("Location",)
SPELLING = r"[A-Za-z0-9._:/+=@-]{1,255}"
"""A UUID, an order's number, base64: what needs no escape wherever it is written."""
_KEY = re.compile(rf'({SPELLING})|"({SPELLING})"')

_BEGIN = Script.load("dingrelay_producers.store", "once_begin")
_END = Script.load("dingrelay_producers.store", "once_end")


def key_of(request: web.Request) -> str | None:
    """The request's key, with or without the quotes of a structured field; None if it has none.

    Raises:
        Problem: it can't be a key.
    """
    header = request.headers.get(HEADER)
    if header is None:
        return None
    if match := _KEY.fullmatch(header.strip()):
        return match[1] or match[2]
    raise Problem(
        problems.MALFORMED,
        f"{HEADER}: must be 1 to 255 of A-Z a-z 0-9 . _ : / + = @ -, without blanks",
    )


async def once(route: Route, call: ApiCall) -> web.StreamResponse:
    """Run the handler of a request, unless its key says that this was done.

    Raises:
        Problem: the key belongs to another request (422), or to one that is under way (409).
    """
    name = key_of(call.request)
    if name is None:
        return await route.handler(call)
    caller = call.key.id
    # Longer than any key that a job can name itself, so it is never one of those.
    call.once = f"http:{caller}:{hashlib.sha512(name.encode()).hexdigest() * 2}"
    entry = keys.idempotency(caller, hashlib.sha256(name.encode()).hexdigest()[:32])
    attempt = _Attempt(call, entry)
    found = await attempt.begin(_digest(route, call))
    match found[0]:
        case b"begun":
            return await attempt.execute(route)
        case b"done":
            return _replayed(*found[1:])
        case b"under way":
            raise Problem(
                problems.IN_FLIGHT,
                "the same request is under way; its answer can be had a moment later",
                headers={"Retry-After": "1"},
            )
        case _:
            raise Problem(problems.KEY_REUSED, f"{HEADER}: was used for another request")


def _digest(route: Route, call: ApiCall) -> str:
    """What makes two requests the same: the operation, its target and its body."""
    parts = [route.operation, call.request.rel_url.raw_path, call.request.rel_url.raw_query_string]
    return hashlib.sha256(canonical_json([*parts, call.body]).encode()).hexdigest()


class _Attempt:
    """One try of a request that has a key."""

    def __init__(self, call: ApiCall, entry: str) -> None:
        self._call = call
        self._entry = entry
        self._name = uuid.uuid4().hex

    async def begin(self, digest: str) -> list[bytes]:
        lease = int(LEASE_SECONDS * 1000)
        async with asking():
            answer: list[bytes] = await scripts.run_async(
                self._call.context.redis, _BEGIN.call([self._entry], [digest, self._name, lease])
            )
        return answer

    async def execute(self, route: Route) -> web.StreamResponse:
        renewing = asyncio.create_task(self._renew())
        try:
            response = await route.handler(self._call)
        except BaseException:
            # Whoever is told nothing, or a refusal, may try again at once.
            with suppress(ServiceUnavailable):
                await self._end(0)
            raise
        finally:
            renewing.cancel()
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        kept = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        ttl = int(self._call.context.settings.gateway_idempotency_ttl * 1000)
        # It is done. Without this entry a repetition meets the same job all the same.
        with suppress(ServiceUnavailable):
            await self._end(ttl, response.status, json.dumps(kept), response.body)
        return response

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            with suppress(ServiceUnavailable):
                await self._end(int(LEASE_SECONDS * 1000))

    async def _end(self, ttl_ms: int, *answer: Any) -> None:
        async with asking():
            call = _END.call([self._entry], [self._name, ttl_ms, *answer])
            await scripts.run_async(self._call.context.redis, call)


def _replayed(status: bytes, headers: bytes, body: bytes) -> web.Response:
    return web.Response(
        status=int(status),
        body=body,
        headers={**json.loads(headers), REPLAYED: "true", "Content-Type": "application/json"},
    )
