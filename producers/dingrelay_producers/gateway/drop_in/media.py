"""``/media/upload`` at the door: a file for messages, passed on as it came (API §11.5).

It waits beside the records until it is uploaded. What DingTalk has is the client's own form.
"""

import hashlib

from aiohttp import web

from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.gateway.backend.context import GatewayContext
from dingrelay_producers.gateway.drop_in import words
from dingrelay_producers.gateway.drop_in.incoming import UPLOAD, Incoming
from dingrelay_producers.gateway.drop_in.job_answer import verbatim
from dingrelay_producers.gateway.drop_in.job_call import Caller, run_change
from dingrelay_producers.gateway.drop_in.words import Answer, Refusal
from dingrelay_producers.gateway.http.body_reader import read_bytes
from dingrelay_producers.gateway.problems import TOO_LARGE, Problem
from dingrelay_producers.store import keys
from dingrelay_producers.store.states import State
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.media_upload import LARGEST, MediaUpload

WITHIN = 60.0
"""Seconds in which the file must have arrived."""


async def upload(
    context: GatewayContext, caller: Caller, call: Incoming, request: web.Request
) -> Answer:
    """Upload a file.

    Raises:
        Refusal: it is no form with a file, too large, or its end is not known yet.
        Problem: it is late or badly framed.
    """
    try:
        content = await read_bytes(request, limit=LARGEST, within=WITHIN)
    except Problem as problem:
        if problem.kind is not TOO_LARGE:
            raise
        raise Refusal(words.FILE_TOO_LARGE) from None
    # Another's equal form must not go when this one is uploaded.
    digest = hashlib.sha256(b"%b %b" % (caller.id.encode(), content)).hexdigest()
    try:
        job = MediaUpload.parse(
            {
                "upload": digest,
                "content_type": _content_type(request),
                "query": dict(call.query),
            }
        )
    except ContractError as error:
        wrong_type = error.field == "content_type"
        meant = words.NO_MULTIPART if wrong_type else words.invalid(error.field, error.problem)
        raise Refusal(meant) from None
    entry = keys.upload(digest)
    async with asking():
        await context.redis.set(entry, content, px=keys.UPLOAD_TTL_MS)
    equal = ["POST", UPLOAD, digest, dict(call.query)]
    status = await run_change(context, caller, job, call, equal)
    if status.state == State.DONE:
        async with asking():
            await context.redis.delete(entry)
    return verbatim(status, UPLOAD)


def _content_type(request: web.Request) -> str:
    """That of the form with nothing but its boundary, wherever among the parameters it stands."""
    kind, _, parameters = request.headers.get("Content-Type", "").partition(";")
    found = [part.strip() for part in parameters.split(";")]
    boundary = next((part for part in found if part.lower().startswith("boundary=")), "")
    return f"{kind.strip().lower()}; boundary={boundary.partition('=')[2]}"
