"""The forms of verbs: what is asked, its fields and what follows from the declaration."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeVar, get_args, get_origin
from urllib.parse import urlencode

from aiohttp import web
from annotated_types import MaxLen
from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

from dingrelay_producers.client.verbs import Verb, verbs_of
from dingrelay_producers.zone import zone
from dingrelay_tasks.contract import ContractError, Document
from dingrelay_tasks.sentence import en
from dingrelay_workers.console.declared import FormValues, Screen, State, act, at
from dingrelay_workers.console.sign_in import own_path
from dingrelay_workers.console.visit import Visit, text_of, texts_of

_Request = TypeVar("_Request", bound=BaseModel)
LONG = 500
"""Characters of which a field has several lines."""


class VerbField(NamedTuple):
    """A field of a form.

    Attributes:
        name: of the model's field.
        kind: type of the input, in HTML; ``textarea`` for several lines.
        label: for people, in English.
    """

    name: str
    kind: str
    label: str
    required: bool


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone())


_INPUTS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    str: ("text", str),
    int: ("number", int),
    bool: ("checkbox", "1".__eq__),
    AwareDatetime: ("datetime-local", _moment),
}
"""Type of a field → input, and how its text is read. A moment is of the reader's zone."""


def fields_of(model: type[BaseModel]) -> list[VerbField]:
    """The fields of a form for a model: those with a title."""
    return [
        VerbField(name, _kind_of(field), field.title, field.is_required())
        for name, field in model.model_fields.items()
        if field.title
    ]


def _kind_of(field: FieldInfo) -> str:
    longest = next((bound.max_length for bound in field.metadata if isinstance(bound, MaxLen)), 0)
    return "textarea" if longest >= LONG else _input(field)[0]


def read_request(model: type[_Request], form: FormValues, **given: object) -> _Request:
    """Read the request of a verb from a form.

    Args:
        model: of the request.
        form: text of each field, or the values of its boxes.
        given: values that stand for those of the form.

    Raises:
        ContractError: a value can't be read, or the model refuses it; names the field.
    """
    values: dict[str, Any] = {}
    for name, about in model.model_fields.items():
        if get_origin(about.annotation) is list:
            values[name] = texts_of(form, name)
            continue
        text = text_of(form, name)
        if not text:
            continue
        try:
            values[name] = _input(about)[1](text)
        except ValueError:
            raise ContractError(name, en("can't be read")) from None
    assert issubclass(model, Document)
    return model.parse(values | given)


def _input(field: FieldInfo) -> tuple[str, Callable[[str], Any]]:
    hint: Any = field.annotation
    parts = get_args(hint)
    # Of an optional type, the type is within its annotations.
    types = [hint, *parts, *(get_args(part)[0] for part in parts if get_args(part))]
    return next((_INPUTS[type_] for type_ in types if type_ in _INPUTS), _INPUTS[str])


def _came_from(visit: Visit) -> str:
    """The page of ours that led to a verb and is to be seen again after it; "" if the link names none."""
    page = visit.query("from")
    return own_path(visit.request, page).removeprefix(visit.context.prefix) if page else ""


def _query_of(page: str) -> str:
    return f"?{urlencode({'from': page})}" if page else ""


async def _carry_out(visit: Visit, noun: type, verb: Verb, arguments: tuple[Any, ...]) -> Any:
    context = visit.context
    if noun in context.services.by_class:
        return await getattr(visit.service(noun), verb.name)(*arguments)
    return await context.carry_out(getattr(noun(context.settings), verb.name)(*arguments))


@dataclass(frozen=True, slots=True, kw_only=True)
class VerbForms:
    """How verbs look in the console: each a form on the page of its object, or on one of its own that asks first.

    Attributes:
        noun: class with the verbs.
        page: path of an object's page, such as ``/jobs/{id}``; that of a verb's form is below it.
        state: of the object, as for `act`.
        check: refuses to ask what the object's state does not allow.
        following: path and sentence to which the document of a verb leads; back to the page, or to the list of a
            verb that leaves no object, with what the verb says, if not given.
        about: an object in words, where its page does not show it.
        back: where "go back" of a question leads; the page if empty.
        said: verb → what it says once it is done, from its document, where that differs from its declaration.
        pages: verb → the page that asks, where that is at another path.
        states: verb → the state for which its form is good, where that is another one; None for any.
    """

    noun: type
    page: str
    state: State
    check: Callable[[Visit, Verb], Awaitable[None]] | None = None
    following: Callable[[Verb, Any], tuple[str, str]] | None = None
    about: Callable[[Visit], Awaitable[str]] | None = None
    back: str = ""
    said: Mapping[str, Callable[[Any], str]] = field(
        default_factory=dict[str, Callable[[Any], str]]
    )
    pages: Mapping[str, Screen] = field(default_factory=dict[str, Screen])
    states: Mapping[str, State | None] = field(default_factory=dict[str, State | None])

    def declare(self, *, by_hand: Collection[str] = ()) -> None:
        """Declare the forms of all verbs but those `by_hand`."""
        for verb in verbs_of(self.noun):
            if verb.name not in by_hand:
                self._declare(verb)

    def _declare(self, verb: Verb) -> None:
        path = f"{self.page}/{verb.name}"
        fields = [] if verb.request is None else fields_of(verb.request)
        labels = {field.name: field.label for field in fields}
        of_object = self.states.get(verb.name, self.state)

        async def ask(visit: Visit) -> web.Response:
            if self.check:
                await self.check(visit, verb)
            return visit.page(
                "verb.html",
                action=self._path(visit, path) + _query_of(_came_from(visit)),
                question=verb.question,
                fields=fields,
                state=await of_object(visit) if of_object else {},
                about=await self.about(visit) if self.about else "",
                back=_came_from(visit) or self.back or self._path(visit, self.page),
            )

        async def carry_out(visit: Visit, form: FormValues) -> web.Response:
            request = () if verb.request is None else (read_request(verb.request, form),)
            document = await _carry_out(visit, self.noun, verb, (visit.part("id"), *request))
            if self.following:
                path_of, sentence = self.following(verb, document)
                return visit.redirect(_came_from(visit) or path_of, sentence)
            following = self.page if verb.answer else self.page.rpartition("/")[0]
            said = self.said[verb.name](document) if verb.name in self.said else verb.done
            return visit.redirect(self._path(visit, following), said)

        page = self.pages.get(verb.name)
        if verb.question:
            page = at(path, scope=verb.scope)(ask)
        act(path, scope=verb.scope, state=of_object, page=page, labels=labels)(carry_out)

    def _path(self, visit: Visit, path: str) -> str:
        return path.replace("{id}", visit.part("id"))
