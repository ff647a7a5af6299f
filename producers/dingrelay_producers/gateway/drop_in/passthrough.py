"""Every other call at the door: made as it came, under the fleet's limits and with our token."""

import re

from dingrelay_producers.gateway.backend.context import GatewayContext
from dingrelay_producers.gateway.drop_in import words
from dingrelay_producers.gateway.drop_in.incoming import Incoming
from dingrelay_producers.gateway.drop_in.job_answer import verbatim
from dingrelay_producers.gateway.drop_in.job_call import Caller, content_of, run_job
from dingrelay_producers.gateway.drop_in.words import Answer, Refusal
from dingrelay_tasks.api_call import ApiCall
from dingrelay_tasks.contract import ContractError

_READS = re.compile(
    r"(?!.*(?:create|update|delete|remove|save))(?:batch_?)?"
    r"(?:get|list|query|search|count|find|forecast|simplelist|statistic|info|detail|total|exist|page)"
)
"""How the last part of a path begins, in small letters, whose call changes nothing."""


async def call(context: GatewayContext, caller: Caller, asked: Incoming) -> Answer:
    """Make the call.

    Raises:
        Refusal: no job can make it, or its end is not known yet.
    """
    reading = reads(asked.method, asked.path)
    try:
        job = ApiCall.parse(
            {
                "method": asked.method,
                "path": asked.path,
                "query": dict(asked.query),
                "body": asked.body,
                "effect": "none" if reading else "once",
            }
        )
    except ContractError as error:
        if error.field in {"path", "method"}:
            raise Refusal(words.no_such_api(asked.path)) from None
        raise Refusal(words.invalid(error.field, error.problem)) from None
    status = await run_job(context, caller, job, content_of(asked), reads=reading)
    return verbatim(status, asked.path)


def reads(method: str, path: str) -> bool:
    """Whether a call surely changes nothing, so that it may be made again.

    DingTalk reads by POST as well; what it does, the last part of the path says. What can't be told
    is taken for a change: it is not made again when its answer is lost.
    """
    if method == "GET":
        return True
    last = path.rpartition("/")[2].lower()
    return method == "POST" and _READS.match(last) is not None
