"""Every other call at the door: made as it came, under the fleet's limits and with our token."""

import re
from dataclasses import replace
from typing import Any

from dingrelay_tasks.api_call import ApiCall
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.gateway.drop_in import words
from dingrelay_workers.gateway.drop_in.incoming import Incoming
from dingrelay_workers.gateway.drop_in.job_answer import verbatim
from dingrelay_workers.gateway.drop_in.job_call import Caller, run_change, run_read
from dingrelay_workers.gateway.drop_in.words import DoorAnswer, Refusal
from dingrelay_workers.http.context import GatewayContext

_REPEATABLE = re.compile(r"(?:batch)?(?:update|delete|remove|recall)(?![a-z])", re.IGNORECASE)
"""How the last part of a path begins whose call makes things what it says, once or twice."""


async def call(context: GatewayContext, caller: Caller, asked: Incoming) -> DoorAnswer:
    """Make the call.

    Raises:
        Refusal: no job can make it, or its end is not known yet.
    """
    app = context.settings.apps.get(caller.app)
    if app is not None:
        asked = _addressed(asked, caller.id, app.app_key.get_secret_value())
    try:
        job = ApiCall.parse(
            {
                "method": asked.method,
                "path": asked.path,
                "query": dict(asked.query),
                "body": asked.body,
            }
        )
    except ContractError as error:
        if error.field in {"path", "method"}:
            raise Refusal(words.no_such_api(asked.path)) from None
        raise Refusal(words.invalid(error.field, error.problem)) from None
    if job.effect == "none":
        return verbatim(await run_read(context, caller, job), asked.path)
    repeatable = is_repeatable(asked.method, asked.path)
    status = await run_change(context, caller, job, asked, repeatable=repeatable)
    return verbatim(status, asked.path)


def is_repeatable(method: str, path: str) -> bool:
    """Whether a change may be made twice, as HTTP says of its method or the path of itself."""
    last = path.rpartition("/")[2]
    return method in {"PUT", "DELETE"} or _REPEATABLE.match(last) is not None


def _addressed(asked: Incoming, key: str, own: str) -> Incoming:
    """The call with the app's key wherever a value is the door's: a robot is often called by its app's key."""

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: put(each) for name, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
        if isinstance(value, list):
            return [put(each) for each in value]  # pyright: ignore[reportUnknownVariableType]
        return own if value == key else value

    return replace(asked, query=put(dict(asked.query)), body=put(asked.body))
