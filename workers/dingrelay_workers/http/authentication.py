"""Identifies the caller: the API key in the ``Authorization`` header, and its rate."""

import hashlib
import hmac
import math
import re

from aiohttp import web
from pydantic import SecretBytes

from dingrelay_producers.actor import ACTOR, Actor
from dingrelay_tasks.sentence import en
from dingrelay_workers.http import problems
from dingrelay_workers.http.api_keys import ApiKey
from dingrelay_workers.http.middleware import REQUEST_ID
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.routes import CALLER, GatewayContext, HttpCall

_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/=-]{1,512})")

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="dingrelay"'}


def presented(request: web.Request) -> str:
    """The text of the API key in a request, whether or not there is such a key.

    Raises:
        Problem: there is none (401).
    """
    match = _BEARER.fullmatch(request.headers.get("Authorization", ""))
    if match is None:
        detail = en("present an API key: Authorization: Bearer drk_…")
        raise Problem(problems.UNAUTHORIZED, detail, headers=CHALLENGE)
    return match[1]


async def caller(request: web.Request, context: GatewayContext) -> ApiKey:
    """The key that the request presents.

    Raises:
        Problem: it presents none, or none that is valid (401).
        ServiceUnavailable: what keeps the keys is away.
    """
    key = await context.verify(presented(request))
    if key is None:
        # One sentence for a wrong, an expired and a revoked key: which it is, is no stranger's.
        detail = en("the API key is wrong, has expired or is revoked")
        headers = {"WWW-Authenticate": f'{CHALLENGE["WWW-Authenticate"]}, error="invalid_token"'}
        raise Problem(problems.UNAUTHORIZED, detail, headers=headers)
    return key


def act_as(key: ApiKey, request: web.Request) -> None:
    """Set the actor of what the request does from now on."""
    request[CALLER] = f"{key.id} {key.name}"
    actor = Actor(
        "http",
        key.id,
        key.name,
        request=request.get(REQUEST_ID, ""),
        person=key.owner,
        issuers=key.issuers,
        reach=key,
    )
    ACTOR.set(actor)


def seed_of(call: HttpCall) -> SecretBytes | None:
    """Seed of the secrets that a request makes; None without an ``Idempotency-Key``.

    Redis, which has `HttpCall.once`, does not lead to it, since the API key's text is in the request only.
    """
    if call.once is None:
        return None
    seed = hmac.digest(presented(call.request).encode(), call.once.encode(), hashlib.sha256)
    return SecretBytes(seed)


def too_many(wait: float) -> Problem:
    """A key over its rate, which may come again after so many seconds."""
    return Problem(
        problems.THROTTLED,
        "the key is over its rate",
        headers={"Retry-After": str(max(1, math.ceil(wait)))},
    )
