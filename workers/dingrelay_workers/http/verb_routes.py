"""The routes of verbs: method, path, scope, body and answer follow from the declaration."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from dingrelay_producers.client.verbs import Verb, verbs_of
from dingrelay_tasks.contract import Document, Part
from dingrelay_workers.http import problems
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.routes import Body, HttpCall, RouteAnswer, Routes

OBJECT = "id"
"""The parameter of a path that names what a verb is done to."""


class Nothing(Part):
    """An empty object, or no body at all."""


@dataclass(frozen=True, slots=True)
class VerbRoutes:
    """How the verbs of a noun look over HTTP.

    Attributes:
        noun: class with the verbs.
        carry_out: runs the body of a verb for a request; arguments as of the body, behind `self`.
        show: the response of a document.
        answer: describes the answer, for the document of the API.
        links: from it.
    """

    noun: type
    carry_out: Callable[[HttpCall, Verb, tuple[Any, ...]], Awaitable[Any]]
    show: Callable[[Any], web.StreamResponse]
    answer: RouteAnswer
    links: Mapping[int, Any] = field(default_factory=dict[int, Any])

    def declare(self, routes: Routes) -> None:
        """Declare a route for each verb."""
        for verb in verbs_of(self.noun):
            self._declare(routes, verb)

    def _declare(self, routes: Routes, verb: Verb) -> None:
        model = verb.request

        async def handle(call: HttpCall) -> web.StreamResponse | None:
            arguments = (call.path(OBJECT), *_said(model, call.body))
            document = await self.carry_out(call, verb, arguments)
            return None if verb.answer is None else self.show(document)

        gone = RouteAnswer(description="It is done, and there is nothing to show.")
        routes(
            f"{verb.method} {verb.path}",
            {204: gone} if verb.answer is None else {200: self.answer},
            operation=verb.operation,
            summary=verb.summary,
            description=verb.description,
            scope=verb.scope,
            body=Body(model=model or Nothing, required=model is not None),
            problems=frozenset({409, 422}),
            links={} if verb.answer is None else self.links,
        )(handle)


def _said(model: type[BaseModel] | None, body: Any) -> tuple[BaseModel, ...]:
    """The request of a verb, checked.

    Raises:
        ContractError: it is not what the model says.
        Problem: the verb takes nothing, and something is said (422).
    """
    if model is None:
        if body:
            raise Problem.at(problems.INVALID, "", "the body must be an empty object, or none")
        return ()
    assert issubclass(model, Document), "checks its own fields"
    return (model.parse(body, strict=True),)
