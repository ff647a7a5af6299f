"""``Idempotency-Key``: the same request again gets the same answer, and does nothing twice.

After draft-ietf-httpapi-idempotency-key-header. A key is scoped to the API key. Redis holds a
digest of the request and the answer, never the request itself. The ids of what a request makes follow
from a random name that lives as long as its key (`HttpCall.once`): a gateway that dies between a job and
its answer doubles nothing, and a key whose life is over names a new request.
"""

import asyncio
import hashlib
import hmac
import json
import re
import secrets
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dingrelay_producers.actor import ACTOR, current_actor
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import canonical_json
from dingrelay_producers.store.script_functions import Key, script
from dingrelay_producers.store.status import JobStatus, people_of
from dingrelay_producers.store.transitions import TIME
from dingrelay_tasks.person_fields import paths_of, people_in
from dingrelay_tasks.sentence import en
from dingrelay_workers.http import authentication, problems
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.routes import HttpCall, Route

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
WAIT = "wait"
"""Parameter of the query: seconds to wait for the answer."""

LIFE = 86_400.0
"""Seconds for which a key is remembered: longer than a client repeats a request."""
PEOPLE = "people"
"""Field of an entry: people in the userid fields of its answer, as a JSON list."""
LEASE_SECONDS = 3.0
"""How long a request counts as under way after its gateway died."""
RENEWAL_SECONDS = 1.0

_KEPT_HEADERS = ("Location", "Content-Type")
SPELLING = r"[A-Za-z0-9._:/+=@-]{1,255}"
"""A UUID, an order's number, base64: what needs no escape wherever it is written."""
_KEY = re.compile(rf'({SPELLING})|"({SPELLING})"')

_NONCE_BYTES = 12


@script("dingrelay_workers.http", TIME)
def _begin_attempt(*, entry: Key, attempt: str, digest: str, lease: int, life: int) -> None:
    """An attempt has the key for `lease`, a new entry lives for `life` (ms)."""


@script("dingrelay_workers.http", TIME)
def _renew_attempt(*, entry: Key, attempt: str, lease: int) -> None: ...


@script("dingrelay_workers.http")
def _fail_attempt(*, entry: Key, attempt: str, refused: bool) -> None: ...


@script("dingrelay_workers.http")
def _answer_attempt(
    *, entry: Key, attempt: str, status: int, headers: str, body: bytes, people: str
) -> None:
    """`headers`, and the `people` in the answer, are JSON."""


def key_of(request: web.Request) -> str | None:
    """The request's key, with or without the quotes of a structured field; None if it has none.

    Raises:
        Problem: it can't be a key.
    """
    header = request.headers.get(HEADER)
    if header is None:
        return None
    if match := _KEY.fullmatch(header.strip()):
        return match[1] or match[2]
    raise Problem(
        problems.MALFORMED,
        en("{}: must be 1 to 255 of A-Z a-z 0-9 . _ : / + = @ -, without blanks", HEADER),
    )


async def once(
    route: Route, call: HttpCall, handle: Callable[[], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Run the handler of a request, unless its key says that this was done.

    Raises:
        Problem: the key belongs to another request (422), or to one that is under way (409).
    """
    name = key_of(call.request)
    if name is None:
        return await handle()
    attempt = _Attempt(route, call, name)
    verdict, *entry = await attempt.begin(_digest(route, call))
    match verdict:
        case b"begun":
            call.once = entry[0].decode()
            seed, name = authentication.seed_of(call), uuid.UUID(call.once).hex
            ACTOR.set(current_actor()._replace(seed=seed, once=name))
            return await attempt.execute(handle)
        case b"done":
            return attempt.replayed(*entry)
        case b"under way":
            raise Problem(
                problems.IN_FLIGHT,
                "the same request is under way; its answer can be had a moment later",
                headers={"Retry-After": "1"},
            )
        case _:
            raise Problem(problems.KEY_REUSED, en("{}: was used for another request", HEADER))


def _digest(route: Route, call: HttpCall) -> str:
    """Digest by which two requests are the same: operation, path, query, body and files.

    How long a request waits for its answer is no part of what it asks for. The lines of a streamed body are compared one by one: their jobs' ids follow from their numbers.
    """
    query = [[name, value] for name, value in call.request.query.items() if name != WAIT]
    parts = [route.operation, call.request.rel_url.raw_path, query]
    content = canonical_json([*parts, call.body, call.upload and call.upload.digests])
    return hashlib.sha256(content.encode()).hexdigest()


class _Attempt:
    """One try of a request that has a key.

    Redis gets an answer that shows a secret encrypted: only the API key that asked opens it.

    Args:
        route: of the request.
        call: the request.
        name: its key.
    """

    def __init__(self, route: Route, call: HttpCall, name: str) -> None:
        self._route, self._call = route, call
        self._entry = keys.idempotency(call.key.id, hashlib.sha256(name.encode()).hexdigest()[:32])
        self._sealed = route.shows_secret
        self._name = uuid.uuid4().hex

    async def begin(self, digest: str) -> list[bytes]:
        lease = int(LEASE_SECONDS * 1000)
        settings = self._call.context.settings
        # A key that outlived the jobs of its lines would make them once more.
        life = int(min(LIFE, settings.record_ttl) * 1000)
        call = _begin_attempt(
            entry=self._entry, attempt=self._name, digest=digest, lease=lease, life=life
        )
        answer: list[bytes] = await self._call.context.records.run(call)
        return answer

    async def execute(
        self, handle: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        renewing = asyncio.create_task(self._renew())
        try:
            response = await handle()
        except BaseException as error:
            # The same request may be tried again at once; another one only if nothing was made.
            refused = isinstance(error, Problem) and error.kind.status < 500
            with suppress(ServiceUnavailable):
                await self._fail(refused=refused)
            raise
        finally:
            renewing.cancel()
        # It is done. Without its answer a repetition meets what it made all the same.
        with suppress(ServiceUnavailable):
            if isinstance(response, web.Response):
                headers = {
                    header: response.headers[header]
                    for header in _KEPT_HEADERS
                    if header in response.headers
                }
                body = self._seal(_content(response))
                people = json.dumps(self._people(response))
                answer = _answer_attempt(
                    entry=self._entry,
                    attempt=self._name,
                    status=response.status,
                    headers=json.dumps(headers),
                    body=body,
                    people=people,
                )
                await self._call.context.records.run(answer)
            else:
                await self._fail()  # a stream is not kept
        return response

    def replayed(self, first: bytes, status: bytes, headers: bytes, body: bytes) -> web.Response:
        """The answer of before.

        Raises:
            Problem: it is sealed with another secret of the API key (409).
        """
        self._call.once = first.decode()
        return web.Response(
            status=int(status),
            body=self._open(body) or None,
            headers={**json.loads(headers), REPLAYED: "true"},
        )

    def _people(self, response: web.Response) -> list[str]:
        answer = self._route.answers.get(response.status)
        model = answer.model if answer else None
        if not (isinstance(model, type) and response.body):
            return []
        document = json.loads(_content(response))
        people = people_in(document, paths_of(model))
        return sorted(people | people_of(document) if issubclass(model, JobStatus) else people)

    def _seal(self, content: bytes) -> bytes:
        if not self._sealed:
            return content
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher().encrypt(nonce, content, None)

    def _open(self, content: bytes) -> bytes:
        if not self._sealed:
            return content
        try:
            return self._cipher().decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], None)
        except InvalidTag:
            detail = en(
                "this was done; its answer shows a secret, to the API key's secret that asked for it only"
            )
            raise Problem(problems.CONFLICT, detail) from None

    def _cipher(self) -> AESGCM:
        # Nothing in Redis leads to it: the API key's text is in no place but the request.
        text = authentication.presented(self._call.request).encode()
        return AESGCM(hmac.new(text, self._entry.encode(), hashlib.sha256).digest())

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            lease = int(LEASE_SECONDS * 1000)
            call = _renew_attempt(entry=self._entry, attempt=self._name, lease=lease)
            with suppress(ServiceUnavailable):
                await self._call.context.records.run(call)

    async def _fail(self, *, refused: bool = False) -> None:
        call = _fail_attempt(entry=self._entry, attempt=self._name, refused=refused)
        await self._call.context.records.run(call)


def _content(response: web.Response) -> bytes:
    assert response.body is None or isinstance(response.body, bytes)
    return response.body or b""
