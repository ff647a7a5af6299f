"""Declarations of routes, and the objects that handlers work with.

The one table of routes builds both the router and the OpenAPI document.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from inspect import cleandoc
from time import monotonic
from typing import Any, BinaryIO, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel
from redis.asyncio import Redis

from dingrelay_producers.language import accepted, translated
from dingrelay_producers.settings import Settings
from dingrelay_tasks.sentence import TRANSLATE
from dingrelay_workers.http.api_keys import ApiKey
from dingrelay_workers.http.metrics import GatewayMetrics
from dingrelay_workers.http.records import EndWatch, GatewayRecords
from dingrelay_workers.http.steps import StepMaker

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

BODY_SECONDS = 10.0
"""Time within which a body must arrive; of a stream, each piece of it."""
BODY_LIMIT = 1_100_000
"""Bytes of a body unless its route says otherwise: a job of 1 MB, and some blanks."""

CALLER: web.RequestKey[str] = web.RequestKey("caller", str)
"""The id and name of the key, for the log."""

ROUTE: web.RequestKey[str] = web.RequestKey("route", str)
"""Name of the route in log and metrics, where the router has none."""

NDJSON = "application/x-ndjson"


@dataclass(slots=True)
class Upload:
    """A body with files, arrived whole.

    Attributes:
        fields: its JSON values.
        files: part → file, at its beginning.
        digests: part → SHA-256 of the file.
    """

    fields: Any
    files: dict[str, BinaryIO] = field(default_factory=dict[str, BinaryIO])
    digests: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True)
class HttpCall:
    """A request that passed the checks of its route, as its handler gets it.

    Attributes:
        request: for what the other fields don't hold, such as a streamed body.
        context: everything that the gateway holds.
        query: an instance of the route's `query`, or None.
        body: JSON values of the route's `body`, or None. They are valid JSON, and not yet checked
            against the contract: `checked` does that, after the handler has had its say.
        upload: the body with its files, where the route takes some; `body` is its fields then.
        caller: the key, where the route needs one; see `key`.
        once: a random name from which follow the ids of what this request makes, as long as its
            ``Idempotency-Key`` lives; None without one.
        status: of the answer, if it is not the first that the route declares.
        headers: of the answer.
    """

    request: web.Request
    context: "GatewayContext"
    query: Any = None
    body: Any = None
    upload: Upload | None = None
    caller: ApiKey | None = None
    once: str | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def key(self) -> ApiKey:
        """The key of the caller, on a route that needs one."""
        assert self.caller is not None, "the route needs no key"
        return self.caller

    @property
    def language(self) -> str:
        """The language of its texts for people that the caller prefers."""
        return accepted(self.request.headers.get("Accept-Language"))

    @property
    def serialization(self) -> dict[str, Any]:
        """The context in which documents of the answer are serialised: their sentences are in the caller's language."""
        return {TRANSLATE: partial(translated, language=self.language)}

    def path(self, name: str) -> str:
        """A parameter of the path."""
        return self.request.match_info[name]


Handler = Callable[[HttpCall], Awaitable[web.StreamResponse | BaseModel | None]]
"""Answers a request: by a document of the model that its route declares, by nothing, or by a response of its own."""
Finish = Callable[[HttpCall, web.Response], Awaitable[web.Response]]
"""Completes the answer of a request that has been carried out, now or earlier."""
Declare = Callable[[Handler], Handler]
"""Declares the route that a handler answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteAnswer:
    """One answer of a route that is no problem.

    Attributes:
        description: for the document.
        model: of its body; None for none. A dict is a JSON schema.
        media_type: of its body.
        headers: name → description.
        secret: whether it shows a secret, which nothing may keep in clear.
    """

    description: str
    model: type[BaseModel] | Mapping[str, Any] | None = None
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    secret: bool = False


def answer_of(model: type[BaseModel]) -> RouteAnswer:
    """The answer with a document, as its docstring describes it."""
    return RouteAnswer(description=_first_line(model), model=model)


def creates(description: str, model: type[BaseModel], location: str) -> Mapping[int, RouteAnswer]:
    """The answer of a route that makes an object, whose URL `location` describes."""
    headers = {"Location": location}
    return {201: RouteAnswer(description=description, model=model, headers=headers)}


def links(*operations: str) -> Mapping[str, Any]:
    """OpenAPI links from an answer to operations on the object that it describes, by its id."""
    return {
        name: {"operationId": name, "parameters": {"id": "$response.body#/id"}}
        for name in operations
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """Body of a route.

    Attributes:
        model: its contract. A dict is a JSON schema.
        media_types: that it may have. Bodies of other types than JSON are left for the handler.
        limit: bytes; None for any number, which the handler reads as a stream.
        required: whether it may be left out, and then is an empty object.
        others: media type → contract, for bodies of another form than `model`.
        reader: reads a body that may hold files, within so many seconds without a byte.
    """

    model: type[BaseModel] | Mapping[str, Any]
    media_types: tuple[str, ...] = ("application/json",)
    limit: int | None = BODY_LIMIT
    required: bool = True
    others: Mapping[str, type[BaseModel] | Mapping[str, Any]] = field(
        default_factory=dict[str, type[BaseModel] | Mapping[str, Any]]
    )

    reader: Callable[[web.Request, float], AbstractAsyncContextManager[Upload]] | None = None

    @property
    def streamed(self) -> bool:
        """Whether the handler reads it as it comes, and not the dispatcher before it."""
        return self.limit is None and self.reader is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation.

    Attributes:
        path: with its parameters in braces, such as ``/v1/jobs/{id}``.
        operation: its name in the document, such as ``getJob``.
        summary: one line.
        description: more, in CommonMark.
        scope: that the key must have; "" for any key, at which the handler looks closer; None
            where no key is needed.
        query: a model whose fields are the query's parameters.
        body: what it takes; None if nothing.
        answers: status → answer, for all that is no problem.
        problems: statuses of problems that its handler can raise, beyond those that follow from
            scope, query and body (`openapi.statuses`).
        path_parameters: name → JSON schema; a text if not named.
        tag: the group in the document.
        links: for the document: status → OpenAPI links.
        finish: makes the answer of what the handler did, each time that a request is repeated with its
            ``Idempotency-Key``; None where the repetition gets the first answer.
    """

    method: Method
    path: str
    handler: Handler
    operation: str
    summary: str
    tag: str
    answers: Mapping[int, RouteAnswer]
    description: str = ""
    scope: str | None = None
    query: type[BaseModel] | None = None
    body: Body | None = None
    problems: frozenset[int] = frozenset()
    path_parameters: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict[str, Mapping[str, Any]]
    )
    links: Mapping[int, Mapping[str, Any]] = field(default_factory=dict[int, Mapping[str, Any]])
    finish: Finish | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """All methods that it answers: what needs no key, such as health, takes ``HEAD``, too."""
        return ("GET", "HEAD") if self.method == "GET" and self.scope is None else (self.method,)

    @property
    def idempotent(self) -> bool:
        """Whether it honours an ``Idempotency-Key``: all that changes something for a caller does."""
        return self.scope is not None and self.method != "GET"

    @property
    def shows_secret(self) -> bool:
        """Whether one of its answers shows a secret."""
        return any(answer.secret for answer in self.answers.values())


class Routes(list[Route]):
    """The routes of a noun, each declared at its handler.

    Args:
        fields: what all of them have in common.
    """

    def __init__(self, **fields: Any) -> None:
        super().__init__()
        self._fields = fields

    def __call__(
        self,
        target: str,
        answers: type[BaseModel] | RouteAnswer | Mapping[int, RouteAnswer],
        **fields: Any,
    ) -> Declare:
        """Declares a route.

        The handler's name is that of the operation, and its docstring the summary and the description, unless
        they are given.

        Args:
            target: method and path, such as ``GET /v1/jobs/{id}``.
            answers: the document of a 200, or its answers by their statuses, the usual one first.
            fields: others of `Route`.
        """
        method, path = target.split(" ")
        if isinstance(answers, type):
            answers = answer_of(answers)
        answers_by_status = {200: answers} if isinstance(answers, RouteAnswer) else answers

        def declare(handler: Handler) -> Handler:
            verb, *object_words = handler.__name__.split("_")
            defaults: dict[str, Any] = {
                "operation": verb + "".join(map(str.capitalize, object_words)),
                "summary": _first_line(handler).removesuffix("."),
                "description": "\n".join(cleandoc(handler.__doc__ or "").splitlines()[2:]),
            }
            route_fields = defaults | self._fields | fields
            self.append(
                Route(
                    method=method,  # type: ignore[arg-type]
                    path=path,
                    handler=handler,
                    answers=answers_by_status,
                    **route_fields,
                )
            )
            return handler

        return declare


def _first_line(documented: object) -> str:
    return (documented.__doc__ or "").partition("\n")[0]


_S = TypeVar("_S")


@dataclass(slots=True)
class GatewayContext:
    """Objects for handlers.

    Attributes:
        settings: of this process.
        redis: a connection pool that gives up within 2 s.
        records: job records, over `redis`.
        steps: carries verbs of jobs out.
        services: class → the noun's service of that class; see `service`.
        verify: finds the live API key with this text; None if it is wrong, expired or revoked.
        throttle: counts a request of a key; the seconds to wait where the key is over its rate.
        metrics: counters of this process.
        ends: waits for the ends of jobs.
        upload_places: of files that the process receives at the same time, each in memory.
        door_answers: names of changes at the drop-in door whose answers have left, until that is noted.
        stopping: set from the first signal to stop on.
        clock: seconds that only grow.
    """

    settings: Settings
    redis: Redis
    records: GatewayRecords
    steps: StepMaker
    services: Mapping[type, Any]
    verify: Callable[[str], Awaitable[ApiKey | None]]
    throttle: Callable[[ApiKey], Awaitable[float | None]]
    metrics: GatewayMetrics
    ends: EndWatch
    upload_places: asyncio.Semaphore
    stopping: asyncio.Event
    clock: Callable[[], float] = monotonic
    door_answers: set[str] = field(default_factory=set[str])

    def service(self, kind: type[_S]) -> _S:
        """The service of this class, which the application put here. So a noun's routes need no import from above."""
        service: _S = self.services[kind]
        return service

    def sender_of(self, key: ApiKey) -> str:
        """The default sender of this key's jobs."""
        return key.default_sender or self.settings.sender


CONTEXT: web.AppKey[GatewayContext] = web.AppKey("gateway", GatewayContext)
