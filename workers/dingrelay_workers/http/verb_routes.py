"""The routes of verbs: method, path, scope, body and answer follow from the declaration."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from dingrelay_producers.client.verbs import Verb, verbs_of
from dingrelay_tasks.contract import Document, Part
from dingrelay_workers.http import problems
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.routes import Body, HttpCall, RouteAnswer, Routes, answer_of, links

OBJECT = "id"
"""The parameter of a path that names what a verb is done to."""


class Nothing(Part):
    """An empty object, or no body at all."""


async def _carry_out(call: HttpCall, noun: type, verb: Verb, arguments: tuple[Any, ...]) -> Any:
    context = call.context
    if noun in context.services:
        return await getattr(context.service(noun), verb.name)(*arguments)
    steps = getattr(noun(context.settings), verb.name)(*arguments)
    return await context.steps.carry_out(steps)


@dataclass(frozen=True, slots=True)
class VerbRoutes:
    """How the verbs of a noun look over HTTP.

    Attributes:
        noun: class with the verbs.
        answers: document of a verb → describes the answer with it, for the document of the API, where the document's
            own docstring does not; by its status where that is not the usual one.
        carry_out: runs the body of a verb for a request; arguments as of the body, behind `self`. If not given,
            the noun's class is a service, or its bodies are steps.
        show: the response of a document; None for the usual one.
        links: status → links from an answer with it, of verbs that are done to an object.
        fields: others of the routes of verbs that are done to an object, as of `Route`.
    """

    noun: type
    answers: Mapping[type[BaseModel], RouteAnswer | Mapping[int, RouteAnswer]] = field(
        default_factory=dict[type[BaseModel], RouteAnswer | Mapping[int, RouteAnswer]]
    )
    carry_out: Callable[[HttpCall, type, Verb, tuple[Any, ...]], Awaitable[Any]] = _carry_out
    show: Callable[[HttpCall, Any], web.StreamResponse] | None = None
    links: Mapping[int, Any] = field(default_factory=dict[int, Any])
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def declare(self, routes: Routes) -> None:
        """Declare a route for each verb that has one, and none yet."""
        by_hand = {route.operation for route in routes}
        for verb in verbs_of(self.noun):
            if verb.path and verb.operation not in by_hand:
                self._declare(routes, verb)

    def _declare(self, routes: Routes, verb: Verb) -> None:
        async def handle(call: HttpCall) -> web.StreamResponse | BaseModel | None:
            ids = (call.path(OBJECT),) if verb.has_object else ()
            arguments = (*ids, *_read_request(verb.request, call.body))
            document = await self.carry_out(call, self.noun, verb, arguments)
            if verb.creates:
                call.headers["Location"] = f"/v1/{verb.noun}s/{document.id}"
            return self.show(call, document) if self.show and document is not None else document

        answers = self._answers(verb)
        takes_body = verb.request or verb.method != "DELETE"
        routes(
            f"{verb.method} {verb.path}",
            answers,
            operation=verb.operation,
            summary=verb.summary,
            description=verb.description,
            scope=verb.scope,
            body=Body(model=verb.request or Nothing, required=verb.required)
            if takes_body
            else None,
            links=self._links(verb, answers),
            **(self.fields if verb.has_object else {}),
        )(handle)

    def _answers(self, verb: Verb) -> Mapping[int, RouteAnswer]:
        if verb.answer is None:
            return {204: RouteAnswer(description="It is done, and there is nothing to show.")}
        answer = self.answers.get(verb.answer) or answer_of(verb.answer)
        if isinstance(answer, Mapping):
            return answer
        if verb.creates:
            headers = {"Location": f"Where the {verb.noun} can be looked at."}
            return {201: replace(answer, headers=headers)}
        return {200: answer}

    def _links(self, verb: Verb, answers: Mapping[int, RouteAnswer]) -> Mapping[int, Any]:
        """Links from the answers: from an object that is made, to its page and to what can be done to it."""
        if verb.creates:
            operations = (
                other_verb.operation
                for other_verb in verbs_of(self.noun)
                if other_verb.path and not other_verb.creates
            )
            return {201: links(f"get{verb.noun.capitalize()}", *operations)}
        return {status: linked for status, linked in self.links.items() if status in answers}


def check_nothing(body: Any) -> None:
    """Refuse a body that says something.

    Raises:
        Problem: it does (422).
    """
    if body:
        raise Problem.at(problems.INVALID, "", "the body must be an empty object, or none")


def _read_request(model: type[BaseModel] | None, body: Any) -> tuple[BaseModel, ...]:
    """The request of a verb, checked.

    Raises:
        ContractError: it is not what the model says.
        Problem: the verb takes nothing, and something is said (422).
    """
    if model is None:
        check_nothing(body)
        return ()
    assert issubclass(model, Document), "checks its own fields"
    return (model.parse(body, strict=True),)
