"""``/v1/webhooks``: endpoints over HTTP. An endpoint receives no more than its key may read."""

from datetime import datetime
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import BaseModel, Field

from dingrelay_producers.errors import EndpointNotFound
from dingrelay_producers.settings import SettingsError
from dingrelay_workers.http import problems
from dingrelay_workers.http.problems import json_response
from dingrelay_workers.http.routes import ApiCall
from dingrelay_workers.webhooks import documents, permissions
from dingrelay_workers.webhooks.endpoint import EndpointState
from dingrelay_workers.webhooks.request import (
    EndpointRequest,
    ReplayRequest,
    ResumeRequest,
    SecretRotation,
)
from dingrelay_workers.webhooks.store import SqlWebhookStore

PENDING: dict[str, Any] = {
    "verdict": "pending",
    "code": "pending",
    "reason": "no worker has sent it yet; is there one that serves webhooks?",
    "status": 0,
}


class EndpointDocument(BaseModel):
    """An endpoint of webhooks, without its secret."""

    id: str
    name: str
    url: str
    types: list[str]
    """Types of notices that it receives."""
    apps: list[str]
    """Apps whose notices it receives; empty for all."""
    senders: list[str]
    """Senders whose jobs, campaigns and approvals it receives; empty for all."""
    kinds: list[str]
    """Kinds of jobs whose ends it receives; empty for all."""
    state: EndpointState
    reason: str
    """Why it is paused or disabled."""
    created_at: datetime
    changed_at: datetime
    old_secret_until: datetime | None
    """Until when the secret before the last rotation signs as well."""


class HealthDocument(BaseModel):
    """The health of an endpoint."""

    backlog: int
    """Notices that wait for it."""
    under_way: int
    """Deliveries that are being made."""
    taken_at: datetime | None
    """When it accepted the last notice."""
    failing_since: datetime | None
    """Time of the first of its consecutive failures; null if the last delivery was accepted."""
    last_failure: str
    """A short word such as `http_503`; empty if the last delivery was accepted."""
    retry_at: datetime | None
    """Time of the next try, while deliveries are held back."""


class EndpointStatusDocument(EndpointDocument):
    """An endpoint of webhooks, and its health."""

    health: HealthDocument


class EndpointList(BaseModel):
    """Endpoints, the newest first."""

    webhooks: list[EndpointDocument]


class IssuedEndpointDocument(BaseModel):
    """An endpoint with its secret, which is never shown again."""

    id: str
    secret: str
    """What the receiver verifies signatures with, `whsec_…`."""
    old_secret_until: datetime | None
    """Until when the secret before this one signs as well."""


class TestDocument(BaseModel):
    """The result of a test notice."""

    verdict: Literal["taken", "failed", "void", "pending"]
    code: str
    """A short word such as `taken` or `http_503`."""
    reason: str
    status: int
    """The HTTP status; 0 if there was none."""


class ReplayDocument(BaseModel):
    """What a replay delivers."""

    notices: int
    """How many notices."""


class TestWait(BaseModel, extra="forbid"):
    """The query of a test."""

    wait: Annotated[int, Field(ge=1, le=20)] = 20
    """Seconds to wait for the answer."""


async def add_webhook(call: ApiCall) -> web.StreamResponse:
    """Add an endpoint."""
    wanted = EndpointRequest.parse(call.body, strict=True).subscription()
    narrowed = permissions.narrowed(wanted, call.key)
    try:
        made = await _store(call).add(narrowed, once=call.once)
    except SettingsError as error:
        raise problems.unavailable(str(error)) from None
    headers = {"Location": f"/v1/webhooks/{made.endpoint.id}"}
    return json_response(documents.issued(made), status=201, headers=headers)


async def list_webhooks(call: ApiCall) -> web.StreamResponse:
    """All endpoints that the caller could have added."""
    found = await _store(call).list()
    ours = [documents.endpoint(each) for each in found if permissions.may_see(call.key, each)]
    return json_response({"webhooks": ours})


async def get_webhook(call: ApiCall) -> web.StreamResponse:
    """One endpoint, and how it does."""
    return json_response(documents.status(await _store(call).get(await _found(call))))


async def pause_webhook(call: ApiCall) -> web.StreamResponse:
    """Pause an endpoint."""
    return json_response(documents.endpoint(await _store(call).pause(await _found(call))))


async def resume_webhook(call: ApiCall) -> web.StreamResponse:
    """Resume an endpoint."""
    skip = ResumeRequest.parse(call.body, strict=True).skip
    resumed = await _store(call).resume(await _found(call), skip=skip)
    return json_response(documents.endpoint(resumed))


async def rotate_webhook(call: ApiCall) -> web.StreamResponse:
    """Give an endpoint a new secret."""
    overlap = SecretRotation.parse(call.body, strict=True).length()
    endpoint = await _found(call)
    try:
        made = await _store(call).rotate(endpoint, overlap=overlap)
    except SettingsError as error:
        raise problems.unavailable(str(error)) from None
    return json_response(documents.issued(made))


async def replay_webhook(call: ApiCall) -> web.StreamResponse:
    """Replay the notices since a moment to an endpoint."""
    since = ReplayRequest.parse(call.body, strict=True).since
    count = await _store(call).replay(await _found(call), since=since)
    return json_response({"notices": count}, status=202)


async def test_webhook(call: ApiCall) -> web.StreamResponse:
    """Send a test notice to an endpoint, and report the outcome."""
    asked: TestWait = call.query
    answer = await _store(call).test(await _found(call), within=asked.wait)
    return json_response(PENDING, status=202) if answer is None else json_response(answer)


async def remove_webhook(call: ApiCall) -> web.StreamResponse:
    """Forget an endpoint."""
    await _store(call).remove(await _found(call))
    return web.Response(status=204)


def _store(call: ApiCall) -> SqlWebhookStore:
    return call.context.service(SqlWebhookStore)


async def _found(call: ApiCall) -> str:
    """The endpoint that the path names.

    Raises:
        EndpointNotFound: there is none, or its notices hold what the caller may not read; the
            answer does not reveal which.
    """
    endpoint = call.path("id")
    found = (await _store(call).get(endpoint)).endpoint
    if not permissions.may_see(call.key, found):
        raise EndpointNotFound(endpoint)
    return endpoint
