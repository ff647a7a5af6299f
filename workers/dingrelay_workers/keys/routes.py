"""``/v1/keys``: API keys over HTTP. A key gives no more than it holds, and sees none above it."""

from dataclasses import replace
from functools import partial

from pydantic import BaseModel

from dingrelay_producers.errors import KeyNotFound
from dingrelay_workers.http import authentication, paging, problems
from dingrelay_workers.http.api_keys import ANY, ApiKey, Grant
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.routes import Body, HttpCall, RouteAnswer, Routes, links
from dingrelay_workers.keys.documents import (
    IssuedKey,
    KeyDocument,
    KeyRequest,
    RotationRequest,
)
from dingrelay_workers.keys.service import KeyService, StoredKey

ROUTES = Routes(tag="keys", scope="keys:write")
_one = partial(ROUTES, path_parameters={"id": {"type": "string", "pattern": "^drk_[a-z0-9]{12}$"}})
_SECRET = RouteAnswer(description="The key, with its secret.", model=IssuedKey, secret=True)


@ROUTES(
    "POST /v1/keys",
    {201: replace(_SECRET, headers={"Location": "Where the key can be looked at."})},
    body=Body(model=KeyRequest),
    links={201: links("getKey", "rotateKey", "revokeKey")},
)
async def create_key(call: HttpCall) -> IssuedKey:
    """Make an API key.

    It may do no more than the key that asks for it. Its text is shown once.
    """
    grant = _with_sender(KeyRequest.parse(call.body, strict=True).grant(), call.key)
    _refuse_excess(call.key, grant)
    made = await call.context.service(KeyService).create(grant, seed=authentication.seed_of(call))
    call.headers["Location"] = f"/v1/keys/{made.id}"
    return made


KeyList = paging.page_of("KeyList", "API keys, the newest first.", keys=KeyDocument)


@ROUTES("GET /v1/keys", KeyList)
async def list_keys(call: HttpCall) -> BaseModel:
    """List the API keys.

    Those that may do no more than the key that asks.
    """
    found = await call.context.service(KeyService).list()
    return KeyList(keys=[each.document() for each in found if call.key.covers(each.key)])


@_one("GET /v1/keys/{id}", KeyDocument, problems=frozenset({404}))
async def get_key(call: HttpCall) -> KeyDocument:
    """How an API key stands."""
    return (await _found(call)).document()


@_one(
    "POST /v1/keys/{id}/rotate",
    _SECRET,
    body=Body(model=RotationRequest, required=False),
    problems=frozenset({404, 409}),
)
async def rotate_key(call: HttpCall) -> IssuedKey:
    """Give an API key a new secret."""
    overlap = RotationRequest.parse(call.body, strict=True).length()
    key = (await _found(call)).key
    # The caller gets the secret and so the key: the same checks as for a new key.
    _refuse_excess(call.key, key)
    seed = authentication.seed_of(call)
    return await call.context.service(KeyService).rotate(key.id, overlap=overlap, seed=seed)


@_one("POST /v1/keys/{id}/revoke", KeyDocument, problems=frozenset({404}))
async def revoke_key(call: HttpCall) -> KeyDocument:
    """Refuse an API key from now on."""
    key = (await _found(call)).key
    return (await call.context.service(KeyService).revoke(key.id)).document()


async def _found(call: HttpCall) -> StoredKey:
    """The key that the path names.

    Raises:
        KeyNotFound: there is none, or it may do what the caller may not; the answer does not
            reveal which.
    """
    key_id = call.path("id")
    found = await call.context.service(KeyService).get(key_id)
    if not call.key.covers(found.key):
        raise KeyNotFound(key_id)
    return found


def _with_sender(grant: Grant, giver: ApiKey) -> Grant:
    """A key that is given by one with a sender of its own has that one, unless it says otherwise."""
    if grant.sender or giver.sender == ANY or ANY in giver.scopes:
        return grant
    return grant.model_copy(update={"sender": giver.sender})


def _refuse_excess(giver: ApiKey, wanted: Grant) -> None:
    """Refuse permissions that the giver does not hold.

    Raises:
        Problem: the field that is too much (403).
    """
    if excess := giver.excess(wanted):
        field, problem = excess
        raise Problem.at(problems.FORBIDDEN, f"/{field}", problem)
