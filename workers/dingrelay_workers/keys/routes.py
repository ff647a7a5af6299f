"""``/v1/keys``: API keys over HTTP. A key gives no more than it holds, and sees none above it."""

from pydantic import BaseModel

from dingrelay_workers.http import paging
from dingrelay_workers.http.routes import HttpCall, RouteAnswer, Routes
from dingrelay_workers.http.verb_routes import VerbRoutes
from dingrelay_workers.keys.documents import IssuedKey, KeyDocument
from dingrelay_workers.keys.service import KeyService

ROUTES = Routes(tag="keys", scope="keys:write")
_KEY_ID = {"id": {"type": "string", "pattern": "^drk_[a-z0-9]{12}$"}}

KeyList = paging.page_of("KeyList", "API keys, the newest first.", keys=KeyDocument)


@ROUTES("GET /v1/keys", KeyList)
async def list_keys(call: HttpCall) -> BaseModel:
    """List the API keys.

    Those that may do no more than the key that asks.
    """
    return KeyList(keys=await call.context.service(KeyService).list())


@ROUTES("GET /v1/keys/{id}", KeyDocument, path_parameters=_KEY_ID)
async def get_key(call: HttpCall) -> KeyDocument:
    """How an API key stands."""
    return await call.context.service(KeyService).get(call.path("id"))


VerbRoutes(
    KeyService,
    {IssuedKey: RouteAnswer(description="The key, with its secret.", model=IssuedKey, secret=True)},
    fields={"path_parameters": _KEY_ID},
).declare(ROUTES)
