"""Every other call at the door: made as it came, under the fleet's limits and with our token."""

from dingrelay_producers.gateway.backend.context import GatewayContext
from dingrelay_producers.gateway.drop_in import words
from dingrelay_producers.gateway.drop_in.incoming import Incoming
from dingrelay_producers.gateway.drop_in.job_answer import verbatim
from dingrelay_producers.gateway.drop_in.job_call import Caller, content_of, run_job
from dingrelay_producers.gateway.drop_in.words import Answer, Refusal
from dingrelay_tasks.api_call import ApiCall
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.reading_calls import reads


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
