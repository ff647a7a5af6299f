"""Refusals as RFC 9457 problems, each with a name for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import web
from pydantic import BaseModel, Field

from dingrelay_producers.language import ENGLISH, accepted, translated
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.sentence import Kept, writable

MEDIA_TYPE = "application/problem+json"
URN = "urn:dingrelay:problem:"


class FieldError(BaseModel):
    """An error at one place of a request."""

    pointer: str
    """JSON pointer (RFC 6901) into the body; ``?name`` for a parameter of the query."""
    detail: Kept
    line: int | None = None
    """Line of the file that `pointer` names, from 1; none for a place that is in no file."""


class ProblemDocument(BaseModel):
    """A refusal (RFC 9457)."""

    type: str = Field(json_schema_extra={"format": "uri"})
    title: str
    status: int
    detail: str
    request_id: str
    """The request's id, which the gateway's log names, too."""
    errors: list[FieldError] | None = None


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A kind of problem: its name in the URN, its status and its title."""

    name: str
    status: int
    title: str


KINDS: list[ProblemKind] = []
"""All kinds."""


def _kind(name: str, status: int, title: str) -> ProblemKind:
    KINDS.append(kind := ProblemKind(name, status, title))
    return kind


MALFORMED = _kind("malformed-request", 400, "The request can't be read")
UNAUTHORIZED = _kind("unauthorized", 401, "No valid API key")
FORBIDDEN = _kind("forbidden", 403, "The API key does not allow this")
CALLBACK = _kind("callback-refused", 403, "The callback is refused")
NOT_FOUND = _kind("not-found", 404, "Not found")
METHOD_NOT_ALLOWED = _kind("method-not-allowed", 405, "No such method here")
TIMEOUT = _kind("request-timeout", 408, "The request did not arrive in time")
CONFLICT = _kind("conflict", 409, "The present state does not allow this")
IN_FLIGHT = _kind("in-flight", 409, "A request with this Idempotency-Key is under way")
TOO_LARGE = _kind("too-large", 413, "The body is too large")
UNSUPPORTED = _kind("unsupported-media-type", 415, "The body's media type is not taken")
INVALID = _kind("invalid", 422, "The request is not what its contract says")
KEY_REUSED = _kind("idempotency-key-reused", 422, "The Idempotency-Key belongs to another request")
THROTTLED = _kind("too-many-requests", 429, "Too many requests")
QUEUE_FULL = _kind("queue-full", 429, "Too many jobs wait in this lane")
INTERNAL = _kind("internal", 500, "The gateway failed")
UNAVAILABLE = _kind("unavailable", 503, "A service that is needed is away")

FULL_RETRY_AFTER_SECONDS = 10
RETRY_AFTER_SECONDS = 2
"""Seconds after which a client may retry where a service is away."""


class Problem(Exception):
    """Ends a request with a refusal.

    Args:
        kind: of the problem.
        detail: one sentence for people. It never holds what the caller sent.
        errors: the places that are wrong, if some are.
        headers: such as ``Retry-After``.
    """

    def __init__(
        self,
        kind: ProblemKind,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})

    @classmethod
    def at(cls, kind: ProblemKind, pointer: str, detail: str) -> "Problem":
        """A problem with one place of the request."""
        return cls(kind, detail, errors=[FieldError(pointer=pointer, detail=detail)])

    def fields(self, language: str) -> dict[str, Any]:
        """The members of its document but the request's id. What programs read is the same in each language."""
        document: dict[str, Any] = {
            "type": URN + self.kind.name,
            "title": translated(self.kind.title, language),
            "status": self.kind.status,
            "detail": writable(translated(self.detail, language)),
        }
        if self.errors:
            document["errors"] = [
                error.model_copy(update={"detail": writable(translated(error.detail, language))})
                for error in self.errors
            ]
        return document

    def response(self, request_id: str, language: str = ENGLISH) -> web.Response:
        """The problem as an HTTP answer."""
        document = ProblemDocument(**self.fields(language), request_id=request_id)
        spoken = {} if language == ENGLISH else {"Content-Language": language.replace("_", "-")}
        return web.Response(
            status=self.kind.status,
            body=document.model_dump_json(exclude_none=True).encode(),
            headers={**self.headers, **spoken, "Content-Type": MEDIA_TYPE},
        )


def wanted_language(request: web.Request) -> str:
    """The language of problems for this caller."""
    return accepted(request.headers.get("Accept-Language"))


def unavailable(detail: str) -> Problem:
    """A service is away; the same request may succeed soon."""
    return Problem(UNAVAILABLE, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def key_conflict() -> Problem:
    """An idempotency key that belongs to another job, perhaps another sender's: its id is withheld."""
    return Problem.at(
        CONFLICT,
        "/idempotency_key",
        "belongs to a job with another payload or of another sender",
    )


def queue_full(detail: str) -> Problem:
    """Too many jobs wait; the same request may succeed later."""
    return Problem(QUEUE_FULL, detail, headers={"Retry-After": str(FULL_RETRY_AFTER_SECONDS)})


def invalid(error: ContractError, body: Any) -> Problem:
    """A contract's refusal of a body."""
    errors = [
        FieldError(pointer=pointer(mistake.field, body), detail=mistake.problem)
        for mistake in (error, *error.others)
    ]
    detail = str(error) if errors[0].pointer else error.problem
    return Problem(INVALID, detail, errors=errors)


def pointer(field: str, body: Any) -> str:
    """The JSON pointer of a dotted path.

    A name may hold dots itself, so at each step the longest name that is there wins.
    """
    if field == "job":
        return ""
    steps = field.split(".")
    names: list[str] = []
    node: Any = body
    while steps:
        size = _longest(node, steps)
        name = ".".join(steps[:size])
        steps = steps[size:]
        names.append(name)
        node = member(node, name)
    text = "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in names)
    return text.encode("utf-8", "backslashreplace").decode()


def _longest(node: Any, steps: Sequence[str]) -> int:
    if isinstance(node, dict):
        for size in range(len(steps), 1, -1):
            if ".".join(steps[:size]) in node:
                return size
    return 1


def member(node: Any, name: str) -> Any:
    """The member of a JSON object or list at this name or index; None for none."""
    if isinstance(node, dict):
        return cast("dict[str, Any]", node).get(name)
    if isinstance(node, list) and name.isdecimal() and int(name) < len(node):
        return node[int(name)]
    return None


def json_response(
    document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """JSON values as an answer."""
    return web.Response(
        status=status,
        body=json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(
            "utf-8", "backslashreplace"
        ),
        headers={**(headers or {}), "Content-Type": "application/json"},
    )
