"""Which cell a request is for: by its app where it names one, else the cell that holds what its path names."""

from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any, TypeVar

from dingrelay_producers.cells.answers import ask
from dingrelay_producers.cells.holder import holder
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.errors import (
    CellUnavailable,
    DingrelayError,
    JobNotFound,
)
from dingrelay_producers.settings import DEFAULT_APP
from dingrelay_producers.store import keys
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.http.api_keys import ANY, ApiKey

if TYPE_CHECKING:
    from dingrelay_workers.http.context import GatewayContext
    from dingrelay_workers.http.routes import ApiCall

WITHIN = 2.0
"""Seconds for each cell that is queried."""

_R = TypeVar("_R")

Found = Callable[["GatewayContext", str], Awaitable[object]]


async def of_body(call: "ApiCall") -> "GatewayContext":
    """That of the app in the body."""
    app = call.body.get("app") if isinstance(call.body, dict) else None
    # What is no text the contract refuses.
    return call.context.of(app if isinstance(app, str) and app else DEFAULT_APP)


async def of_query(call: "ApiCall") -> "GatewayContext":
    """That of the app in the query."""
    return call.context.of(call.query.app)


async def of_callback(call: "ApiCall") -> "GatewayContext":
    """That of the app in the path. The receiver of callbacks refuses an unknown app."""
    try:
        return call.context.of(call.path("app"))
    except ContractError:
        return call.context


async def _app_of(context: "GatewayContext", job: str) -> object:
    async with asking():
        return await context.redis.hget(keys.job(job), "app")


def of_id(
    what: str, look: Found, missing: Callable[[str], DingrelayError]
) -> "Callable[[ApiCall], Awaitable[GatewayContext]]":
    """The cell that holds what the path names: the cells of the key's apps are queried concurrently.

    Args:
        what: kind of thing; separates its ids from those of others.
        look: queries one cell; None or `missing` if it is not there.
        missing: what is raised where it is nowhere.
    """

    async def find(call: "ApiCall") -> "GatewayContext":
        context, name = call.context, call.path("id")
        candidates = context.among(apps_of(call.key))
        if not context.cells:
            return context
        if len(candidates) == 1:
            return next(iter(candidates.values()))
        known = context.found.get(f"{what} {name}")
        if known is not None and known in candidates:
            return candidates[known]

        async def holds(each: "GatewayContext") -> bool:
            try:
                return await look(each, name) is not None
            except type(missing(name)):
                return False

        cell = await holder(candidates, holds, missing(name), within=WITHIN)
        context.found.put(f"{what} {name}", cell)
        return candidates[cell]

    return find


of_job = of_id("job", _app_of, JobNotFound)


def apps_of(key: ApiKey, app: str | None = None) -> Collection[str] | None:
    """The apps whose cells a list is from: the requested one, else those of the key; None for all."""
    if app is not None:
        return [app]
    return None if ANY in key.apps else key.apps


async def each_cell(
    call: "ApiCall",
    question: "Callable[[GatewayContext], Awaitable[_R]]",
    app: str | None = None,
) -> tuple[list[_R], dict[str, Any]]:
    """What the cells answer that the key, or the app, is for.

    Returns:
        The answers; and what the document says of the cells that are away, nothing where none is.

    Raises:
        CellUnavailable: all are.
    """
    cells = call.context.among(apps_of(call.key, app))
    answers = await ask(cells, question, within=WITHIN)
    if answers.away and not answers.found:
        raise CellUnavailable(answers.away)
    away = {"cells_away": list(answers.away)} if answers.away else {}
    return list(answers.found.values()), away
