"""The drop-in door: takes what no route of ours takes, and answers as DingTalk does.

The walk of a call: caller → scope → body → job → DingTalk's answer. Errors have
DingTalk's codes, so that SDKs react as they do to DingTalk. Of an unknown caller's body no more is read
than is needed to identify the caller.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Middleware

from dingrelay_producers.client.sending import Sending
from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.errors import DingrelayError, NotPermitted, QueueFull
from dingrelay_tasks.api_call import ApiCall, is_rest
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.gateway.drop_in import answers, approvals, media, messages, robots, tokens
from dingrelay_workers.gateway.drop_in.answers import DoorAnswer, Refusal
from dingrelay_workers.gateway.drop_in.incoming import (
    TOKEN_PARAMETER,
    TOP_GATEWAY,
    UPLOAD,
    Incoming,
    head_of,
    passage_of,
    whole,
)
from dingrelay_workers.gateway.drop_in.job_call import (
    Caller,
    ChangingCall,
    caller_of,
    run_change,
    run_read,
    verbatim,
)
from dingrelay_workers.http import problems, routes
from dingrelay_workers.http.api_keys import ApiKey
from dingrelay_workers.http.authentication import act_as
from dingrelay_workers.http.dingtalk_permissions import missing_of, permission_of
from dingrelay_workers.http.dispatch import problem_of
from dingrelay_workers.http.middleware import check_head
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.routes import BODY_LIMIT, CALLER, CONTEXT, ROUTE, GatewayContext

_REPEATABLE = re.compile(r"(?:batch)?(?:update|delete|remove|recall)(?![a-z])", re.IGNORECASE)
"""How the last part of a path begins whose call makes things what it says, once or twice."""


async def pass_through(caller: Caller, call: Incoming) -> DoorAnswer:
    """Make the call.

    Raises:
        Refusal: no job can make it, or its end is not known yet.
        NotPermitted: the key may not see or change what it names.
    """
    app = caller.context.service(CurrentApps).all.get(caller.app)
    if app is not None:
        call = _addressed(call, caller.id, app.app_key.get_secret_value())
    try:
        job = ApiCall.parse(
            {
                "method": call.method,
                "path": call.path,
                "query": dict(call.query),
                "body": call.body,
                **caller.names,
            }
        )
    except ContractError as error:
        if error.field in {"path", "method"}:
            raise Refusal(answers.no_such_api(call.path)) from None
        raise
    await caller.context.steps.carry_out(Sending(caller.context.settings).permit(job))
    if job.effect == "none":
        return verbatim(await run_read(caller, job), call.path)
    repeatable = is_repeatable(call.method, call.path)
    status = await run_change(caller, job, call, repeatable=repeatable)
    return verbatim(status, call.path)


def is_repeatable(method: str, path: str) -> bool:
    """Whether a change may be made twice, as HTTP says of its method or the path of itself."""
    last = path.rpartition("/")[2]
    return method in {"PUT", "DELETE"} or _REPEATABLE.match(last) is not None


def _addressed(call: Incoming, key: str, app_key: str) -> Incoming:
    """The call with the app's key wherever a value is the door's: a robot is often called by its app's key."""

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: put(field) for name, field in value.items()}  # pyright: ignore[reportUnknownVariableType]
        if isinstance(value, list):
            return [put(entry) for entry in value]  # pyright: ignore[reportUnknownVariableType]
        return app_key if value == key else value

    return replace(call, query=put(dict(call.query)), body=put(call.body))


DROP_IN = "drop-in"
"""Name of all its paths together in log and metrics: the paths hold ids."""

STRANGERS_LIMIT = 100_000
"""Bytes of a body whose caller is not identified before it is read."""

STREAM = "/v1.0/gateway/connections/open"
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
_BROWSERS = frozenset({"", "metrics", "favicon.ico", "robots.txt"})
_ALONE = frozenset({"gettoken", "get_jsapi_ticket"})
"""Paths of one segment that DingTalk has; other ones carry a token."""
_FAMILIES = frozenset(
    [
        "attendance",
        "auth",
        "call_back",
        "chat",
        "checkin",
        "cspace",
        "department",
        "encryption",
        "ext",
        "media",
        "message",
        "microapp",
        "process",
        "robot",
        "role",
        "router",
        "service",
        "sns",
        "sso",
        "topapi",
        "user",
    ]
)
"""First segments of DingTalk's old paths; other ones carry a token."""
_CORPORATION_TOKEN = re.compile(r"/v1\.0/oauth2/[^/]+/token")

_NO_STEPS = frozenset({"", ".", ".."})
"""Segments in refused targets that lead nowhere."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TokenHandler = Callable[[GatewayContext, Incoming], Awaitable[tuple[ApiKey, DoorAnswer]]]

_JOBS: Mapping[str, Callable[[Caller, Incoming], Awaitable[DoorAnswer]]] = {
    **dict.fromkeys(messages.PATHS, messages.answer),
    **dict.fromkeys(approvals.PATHS, approvals.create),
}
"""Path → what answers a POST there: of the caller's own, and for the app that an agent id may choose."""

_TOKENS: dict[tuple[str, str], TokenHandler] = {
    ("GET", "/gettoken"): tokens.gettoken,
    ("POST", "/v1.0/oauth2/accessToken"): tokens.access_token,
}

_MEANT: dict[str, answers.RefusalTexts] = {
    problems.THROTTLED.name: answers.THROTTLED,
    problems.QUEUE_FULL.name: answers.THROTTLED,
    problems.FORBIDDEN.name: answers.FORBIDDEN,
    problems.UNAVAILABLE.name: answers.BUSY,
    problems.TOO_LARGE.name: answers.BODY_TOO_LARGE,
    problems.TIMEOUT.name: answers.BODY_LATE,
    problems.UNSUPPORTED.name: answers.CONTENT_TYPE,
}
"""Problems that DingTalk has words for; the others are of requests that can't be read."""


def drop_in_beside(route_segments: Collection[str]) -> Middleware:
    """Around every route: where there is none, the call is DingTalk's.

    DingTalk's old dialect refuses with a 200, which a probe of ``/readyz/`` or ``/actuator/health`` would take for
    readiness, and a scraper for metrics. So what lies below a route of ours is none of DingTalk's, nor is what shows no
    token and has no name of DingTalk's.

    Args:
        route_segments: first segments of the routes' paths.
    """
    served_segments = {*route_segments, *_BROWSERS}

    @web.middleware
    async def drop_in(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not isinstance(request.match_info.http_exception, web.HTTPNotFound):
            check_head(request)
            return await handler(request)
        family, *further_segments = [
            step for step in request.path.split("/") if step not in _NO_STEPS
        ] or [""]
        is_dingtalk = family in (_FAMILIES if further_segments else _ALONE) or is_rest(
            f"/{family}/"
        )
        is_call = is_dingtalk or TOKEN_PARAMETER in request.query
        if not is_call or family in served_segments or request.method not in METHODS:
            check_head(request)
            return await handler(request)
        request[ROUTE] = DROP_IN
        return await _answered(request, request.app[CONTEXT])

    return drop_in


async def _answered(request: web.Request, context: GatewayContext) -> web.Response:
    path, changes = request.rel_url.raw_path, list[ChangingCall]()
    headers: Mapping[str, str] = {}
    try:
        check_head(request)
        head = replace(head_of(request), changes=changes)
        answer = await _answer(request, context, head)
    except Refusal as refusal:
        answer = answers.refused(refusal.words, path)
    except ContractError as error:
        answer = answers.refused(answers.invalid(error.field, error.problem), path)
    except (Problem, NotPermitted, QueueFull) as error:
        problem = error if isinstance(error, Problem) else problem_of(error)
        answer = answers.refused(_MEANT.get(problem.kind.name, answers.UNREADABLE), path)
        headers = problem.headers
    except DingrelayError:
        answer = answers.refused(answers.BUSY, path)
    response = answer.response(answers.dialect_of(path))
    response.headers.update(headers)
    if changes:
        # Sent here, and not by the server afterwards: where the client has gone, nothing was answered. Twice
        # around the loop it is known whether it has gone, also after a pause of this process.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await response.prepare(request)
        await response.write_eof()
        for change in changes:
            with suppress(DingrelayError):  # then it is met for longer
                await change.answered()
    return response


async def _answer(request: web.Request, context: GatewayContext, head: Incoming) -> DoorAnswer:
    within = routes.BODY_SECONDS
    if head.path == TOP_GATEWAY and head.method == "POST":
        limit = BODY_LIMIT if "session" in head.query else STRANGERS_LIMIT
        passage = passage_of(await whole(request, head, within=within, limit=limit))
        try:
            key = await _caller(request, context, passage.call)
            return passage.envelope(await _dispatch(context, key, passage.call))
        except Refusal as refusal:
            return passage.envelope(answers.refused(refusal.words, passage.call.path))
    if head.path in robots.PATHS:
        request[CALLER] = "robot"
        if head.method != "POST":
            raise Refusal(answers.POST_ONLY)
        return await robots.post(context, head, request, STRANGERS_LIMIT)
    if head.path == STREAM:
        raise Refusal(answers.STREAM)
    fetch = _TOKENS.get((head.method, head.path))
    if fetch is None and head.method == "POST" and _CORPORATION_TOKEN.fullmatch(head.path):
        fetch = tokens.corporation_token
    if fetch is not None:
        call = await whole(request, head, within=within, limit=STRANGERS_LIMIT)
        key, answer = await fetch(context, call)
        request[CALLER] = f"{key.id} {key.name}"
        return answer
    key = await _caller(request, context, head)
    if head.path == UPLOAD and head.method == "POST":
        return await media.upload(caller_of(context, key), head, request)
    return await _dispatch(context, key, await whole(request, head, within=within))


async def _caller(request: web.Request, context: GatewayContext, call: Incoming) -> ApiKey:
    """The key that a call is made with, and may be.

    Raises:
        Refusal: there is none, or it may not.
    """
    key = await tokens.caller(context, call)
    act_as(key, request)
    if missing_of(key, permission_of(call.method, call.path)):
        raise Refusal(answers.FORBIDDEN)
    return key


async def _dispatch(context: GatewayContext, key: ApiKey, call: Incoming) -> DoorAnswer:
    agent = call.fields.get("agent_id") or call.fields.get("microappAgentId")
    answer = _JOBS.get(call.path) if call.method == "POST" else None
    try:
        caller = caller_of(context, key, agent if answer else None)
        if answer:
            return await answer(caller, call)
        return await pass_through(caller, call)
    except messages.Answered as ended:
        return ended.answer
    except ContractError as error:
        raise Refusal(answers.invalid(error.field, error.problem)) from None
