"""Identifies the caller: the API key in the ``Authorization`` header, and its rate."""

import hashlib
import hmac
import math
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from pydantic import SecretBytes

from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import Contract
from dingrelay_tasks.robot_message import RobotMessage
from dingrelay_tasks.sentence import en
from dingrelay_workers.http import problems
from dingrelay_workers.http.api_keys import ApiKey, Grant
from dingrelay_workers.http.dingtalk_permissions import missing_scope
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.routes import GatewayContext, HttpCall

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


def permitted(
    contract: type[Contract], fields: Mapping[str, Any], key: ApiKey, default_sender: str
) -> Contract:
    """The job of a body with its sender, where the key allows it.

    Raises:
        ContractError: the body is not what the contract says.
        Problem: the key does not (403); the field is named.
    """
    if fields.get("sender") in (None, ""):
        fields = {**fields, "sender": default_sender}
    job = contract.parse(fields, strict=True)
    if scope := missing_scope(key, job):
        raise Problem(problems.FORBIDDEN, en("this needs the scope {}", scope))
    check_asked(job, key, default_sender)
    return job


def check_asked(job: Contract, key: ApiKey, default_sender: str) -> None:
    """Whether a key may ask for a job with this app, lane and sender.

    Raises:
        Problem: it may not (403); the field is named.
    """
    check_app(key, job.app)
    if isinstance(job, RobotMessage) and not key.permits_target(job.to.name):
        raise Problem.at(problems.FORBIDDEN, "/to", "the key is not for this robot or group")
    check_lane_of(job.lane, key)
    if job.sender != default_sender and not key.permits_sender(job.sender):
        raise Problem.at(problems.FORBIDDEN, "/sender", "the key has a sender of its own")


def check_app(key: Grant, app: str, at: str = "/app") -> None:
    """Refuse an app that is not the key's. `at`: where the request names it."""
    if not key.permits_app(app):
        raise Problem.at(problems.FORBIDDEN, at, "the key is not for this app")


def check_lane_of(lane: str, key: ApiKey) -> None:
    """Whether a key may have a job go in this lane.

    Raises:
        Problem: it may not (403).
    """
    if not key.permits_lane(lane):
        raise Problem.at(problems.FORBIDDEN, "/lane", en("the key is not for the lane {}", lane))


def sees_job(key: Grant, job: JobStatus) -> bool:
    """Whether a key sees and changes a job; as `may_see`."""
    return may_see(key, sender=job.sender, app=job.app, target=job.target)


def may_see(key: Grant, *, sender: str, app: str, target: str = "") -> bool:
    """Whether a key sees and changes a job: one that it could have asked for. `target`: as that of `JobStatus`.

    A key without a sender of its own sees those of every sender.
    """
    return key.permits_sender(sender) and key.permits_job(app, target)
