"""``/v1/keys``: API keys over HTTP. A key gives no more than it holds, and sees none above it."""

from dataclasses import replace
from functools import partial
from typing import Any

from aiohttp import web

from dingrelay_producers.errors import KeyNotFound
from dingrelay_workers.http import authentication, problems
from dingrelay_workers.http.api_keys import ANY, ApiKey, Grant, IssuedKey
from dingrelay_workers.http.problems import Problem, json_response
from dingrelay_workers.http.routes import Body, HttpCall, Route, RouteAnswer, links
from dingrelay_workers.keys.documents import (
    IssuedKeyDocument,
    KeyDocument,
    KeyList,
    KeyRequest,
    RotationRequest,
)
from dingrelay_workers.keys.service import KeyService


async def create_key(call: HttpCall) -> web.StreamResponse:
    """Make a key."""
    grant = _with_sender(KeyRequest.parse(call.body, strict=True).grant(), call.key)
    _refuse_excess(call.key, grant)
    made = await call.context.service(KeyService).create(grant, seed=authentication.seed_of(call))
    headers = {"Location": f"/v1/keys/{made.key.id}"}
    return json_response(_issued(made), status=201, headers=headers)


async def list_keys(call: HttpCall) -> web.StreamResponse:
    """All keys that the caller could have given."""
    found = await call.context.service(KeyService).list()
    ours = KeyList(keys=[each for each in found if call.key.covers(each.key)])
    return json_response(ours.model_dump(mode="json"))


async def get_key(call: HttpCall) -> web.StreamResponse:
    """One key."""
    return json_response((await _found(call)).model_dump(mode="json"))


async def rotate_key(call: HttpCall) -> web.StreamResponse:
    """Give a key a new secret."""
    overlap = RotationRequest.parse(call.body, strict=True).length()
    found = await _found(call)
    # The caller gets the secret and so the key: the same checks as for a new key.
    _refuse_excess(call.key, found.key)
    seed = authentication.seed_of(call)
    made = await call.context.service(KeyService).rotate(found.id, overlap=overlap, seed=seed)
    return json_response(_issued(made))


async def revoke_key(call: HttpCall) -> web.StreamResponse:
    """Refuse a key from now on."""
    revoked = await call.context.service(KeyService).revoke((await _found(call)).id)
    return json_response(revoked.model_dump(mode="json"))


async def _found(call: HttpCall) -> KeyDocument:
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


def _issued(made: IssuedKey) -> dict[str, Any]:
    return IssuedKeyDocument.of(made).model_dump(mode="json", exclude_none=True)


def _with_sender(grant: Grant, giver: ApiKey) -> Grant:
    """A key that is given by one with a sender of its own has that one, unless it says otherwise."""
    if grant.sender or giver.sender == ANY or ANY in giver.scopes:
        return grant
    return replace(grant, sender=giver.sender)


def _refuse_excess(giver: ApiKey, wanted: Grant) -> None:
    """Refuse permissions that the giver does not hold.

    Raises:
        Problem: the field that is too much (403).
    """
    if excess := giver.excess(wanted):
        field, problem = excess
        raise Problem.at(problems.FORBIDDEN, f"/{field}", problem)


_ID = {"id": {"type": "string", "pattern": "^drk_[a-z0-9]{12}$"}}


_KEY = {200: RouteAnswer(description="The key.", model=KeyDocument)}
_route = partial(Route, tag="keys", scope="keys:write", across_cells=True)
_of_one = partial(_route, path_parameters=_ID)

ROUTES = (
    _route(
        method="POST",
        path="/v1/keys",
        handler=create_key,
        operation="createKey",
        summary="Make an API key",
        description="It may do no more than the key that asks for it. Its text is shown once.",
        body=Body(model=KeyRequest),
        answers={
            201: RouteAnswer(
                description="The key, with its secret.",
                model=IssuedKeyDocument,
                secret=True,
                headers={"Location": "Where the key can be looked at."},
            )
        },
        links={201: links("getKey", "rotateKey", "revokeKey")},
    ),
    _route(
        method="GET",
        path="/v1/keys",
        handler=list_keys,
        operation="listKeys",
        summary="List the API keys",
        description="Those that may do no more than the key that asks.",
        answers={200: RouteAnswer(description="The keys.", model=KeyList)},
    ),
    _of_one(
        method="GET",
        path="/v1/keys/{id}",
        handler=get_key,
        operation="getKey",
        summary="How an API key stands",
        answers=_KEY,
        problems=frozenset({404}),
    ),
    _of_one(
        method="POST",
        path="/v1/keys/{id}/rotate",
        handler=rotate_key,
        operation="rotateKey",
        summary="Give an API key a new secret",
        body=Body(model=RotationRequest, required=False),
        answers={200: RouteAnswer(description="The key.", model=IssuedKeyDocument, secret=True)},
        problems=frozenset({404, 409}),
    ),
    _of_one(
        method="POST",
        path="/v1/keys/{id}/revoke",
        handler=revoke_key,
        operation="revokeKey",
        summary="Refuse an API key from now on",
        answers=_KEY,
        problems=frozenset({404}),
    ),
)
