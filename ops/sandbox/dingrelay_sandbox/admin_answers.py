"""How the admin API answers."""

import json
from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic import ValidationError

ROOT = "/_sandbox"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answered(act: Callable[[web.Request], Awaitable[object]]) -> Handler:
    """The act's result as JSON, {} for none; a bad request as HTTP 400 that says what is wrong."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            content, status = await act(request), 200
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            field = ".".join(str(step) for step in first["loc"])
            content, status = {"error": f"{field}: {first['msg']}"}, 400
        except LookupError as error:
            content, status = {"error": str(error)}, 404
        except (TypeError, ValueError) as error:
            content, status = {"error": str(error)}, 400
        text = "{}" if content is None else json.dumps(content)
        return web.Response(status=status, text=text, content_type="application/json")

    return handle
