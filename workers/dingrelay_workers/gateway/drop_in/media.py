"""``/media/upload`` at the door: a file for messages, passed on as it came (API §11.5).

It waits beside the records until it is uploaded. What DingTalk has is the client's own form.
"""

import asyncio
import hashlib
from contextlib import suppress
from http import HTTPStatus

from aiohttp import web

from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.store import keys
from dingrelay_producers.store.script_functions import Key, script
from dingrelay_producers.store.states import State
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.media_files import LARGEST
from dingrelay_tasks.media_upload import MediaUpload
from dingrelay_workers.gateway.drop_in import answers
from dingrelay_workers.gateway.drop_in.answers import DoorAnswer, Refusal
from dingrelay_workers.gateway.drop_in.incoming import UPLOAD, Incoming
from dingrelay_workers.gateway.drop_in.job_call import Caller, run_change, verbatim
from dingrelay_workers.http.body_reader import read_bytes
from dingrelay_workers.http.problems import TOO_LARGE, Problem

WITHIN = 60.0
"""Seconds in which the file must have arrived."""
TIMEOUT = 10.0
"""Seconds that a file waits to be received; until then it stays with its sender."""
SMALLEST = 100_000
"""Bytes that the smallest file counts: files are counted one by one."""


@script("dingrelay_workers.gateway.drop_in")
def _store_upload(
    *,
    uploads: Key,
    file: Key,
    prefix: str,
    digest: str,
    content: bytes,
    size: int,
    room: int,
    ttl: int,
) -> None:
    """Keep a file for so long (ms), if files of so many bytes in all may wait; keys of files begin with `prefix`."""


async def upload(caller: Caller, call: Incoming, request: web.Request) -> DoorAnswer:
    """Upload a file. One too many is answered with DingTalk's -1 and a 503.

    Raises:
        Refusal: it is no form with a file, too large, or its end is not known yet.
        Problem: it is late or badly framed.
    """
    try:
        job = MediaUpload.parse(
            {
                "upload": "0" * 64,
                "content_type": _content_type(request),
                "query": dict(call.query),
            }
        )
    except ContractError as error:
        wrong_type = error.field == "content_type"
        meant = answers.NO_MULTIPART if wrong_type else answers.invalid(error.field, error.problem)
        raise Refusal(meant) from None
    digest = await _received(caller, request)
    if digest is None:
        return DoorAnswer(
            answers.refused(answers.BUSY, UPLOAD).content, HTTPStatus.SERVICE_UNAVAILABLE
        )
    job = job.model_copy(update={"upload": digest})
    equal = ["POST", UPLOAD, digest, dict(call.query)]
    status = await run_change(caller, job, call, equal)
    if status.state != State.UNKNOWN:
        async with asking():
            await caller.context.redis.delete(keys.upload(digest))
    return verbatim(status, UPLOAD)


async def _received(caller: Caller, request: web.Request) -> str | None:
    """The digest of a file, once it waits in Redis; None if this process or Redis has no room for it.

    Raises:
        Refusal: it is too large.
        Problem: it is late or badly framed.
        ServiceUnavailable: Redis is away.
    """
    try:
        await asyncio.wait_for(caller.context.upload_places.acquire(), TIMEOUT)
    except TimeoutError:
        await _discard(request)
        return None
    try:
        content = await read_bytes(request, limit=LARGEST, within=WITHIN)
        return await _stored(caller, content)
    except Problem as problem:
        if problem.kind is not TOO_LARGE:
            raise
        raise Refusal(answers.FILE_TOO_LARGE) from None
    finally:
        caller.context.upload_places.release()


async def _discard(request: web.Request) -> None:
    """Read a body and keep nothing: many programs read no answer before they have sent everything."""
    with suppress(TimeoutError, web.RequestPayloadError):
        async with asyncio.timeout(WITHIN):
            while await request.content.readany():
                pass


async def _stored(caller: Caller, content: bytes) -> str | None:
    # Another's equal form must not go when this one is uploaded.
    hashed = hashlib.sha256(f"{caller.id} ".encode())
    hashed.update(content)
    digest, size = hashed.hexdigest(), max(len(content), SMALLEST)
    call = _store_upload(
        uploads=keys.UPLOADS,
        file=keys.upload(digest),
        prefix=keys.upload(""),
        digest=digest,
        content=content,
        size=size,
        room=caller.context.settings.gateway_uploads,
        ttl=keys.UPLOAD_TTL_MS,
    )
    # In a round trip of its own: others need not wait for megabytes.
    (stored,) = await caller.context.records.run_all([call])
    return digest if stored else None


def _content_type(request: web.Request) -> str:
    """The form's content type with nothing but its boundary, wherever among the parameters it stands."""
    kind, _, parameters = request.headers.get("Content-Type", "").partition(";")
    parts = [part.strip() for part in parameters.split(";")]
    boundary = next((part for part in parts if part.lower().startswith("boundary=")), "")
    return f"{kind.strip().lower()}; boundary={boundary.partition('=')[2]}"
