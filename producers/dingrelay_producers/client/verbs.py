"""Verbs: each is declared once, at its body, and every door carries that body out.

The body of a verb of jobs, whose truth is in Redis, does no I/O: it is a generator that yields steps and receives
their answers. The drivers of `store/flows.py` run it; how a step is made is up to the door, which has the connections.
The body of a verb of a noun in SQL is an `async` method of the noun's service.
"""

import inspect
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from dingrelay_producers.errors import QueueFull
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.scripts import Call
from dingrelay_producers.store.served_names import ServedNames
from dingrelay_producers.store.transitions import WrittenJob


class Audit(NamedTuple):
    """Step: write down a change that is about to be made, one row an object. Answered by nothing.

    Attributes:
        action: the verb.
        kind: of the objects.
        names: their ids.
        app: theirs.
        lane: theirs.
        before: small values that the change replaces.
        after: small values that it leads to.
        reason: that is given with it; "" for none.
    """

    action: str
    kind: str
    names: Sequence[str]
    app: str
    lane: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    reason: str = ""


class Admit(NamedTuple):
    """Step: see which names workers serve, and which queues have no room. Answered by an `Admission`.

    Attributes:
        names: of jobs, as `names_of`.
        queues: theirs.
    """

    names: Collection[tuple[str, str]]
    queues: Collection[str] = ()


Admission = tuple[ServedNames, Mapping[str, QueueFull]]
"""The names that are served, and the refusals of queues that are full."""


class Accept(NamedTuple):
    """Step: accept these jobs. Answered by an `Enqueued` for each.

    Attributes:
        drafts: of the jobs.
        jobs: the same as `written`, where they were made already.
    """

    drafts: Sequence[Draft]
    jobs: Sequence[WrittenJob] | None = None


class Remember(NamedTuple):
    """Step: look up in the history a job that Redis may have no more. Answered by its `JobDetails`, or None."""

    job: str


class FindApproval(NamedTuple):
    """Step: look up an approval. Answered by its `ApprovalStatus`, or None if it is not followed."""

    app: str
    instance: str


Step = Call | Sequence[Call] | Audit | Admit | Accept | Remember | FindApproval
"""A step of a body. Calls in a list are one round trip, answered by a list."""

_R = TypeVar("_R")
Steps = Generator[Step, Any, _R]
"""The body of a verb, which returns its document."""


class Question(NamedTuple):
    """Question of the console before it carries a verb out.

    Attributes:
        title: what is about to happen, as a question.
        button: the verb.
        risk: what follows from it.
        ends: whether it ends, deletes or takes back something: its button is that of a danger.
    """

    title: str
    button: str
    risk: str
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Verb:
    """Declaration of a verb.

    Attributes:
        noun: of what it is done to, such as `job`.
        name: such as `cancel`.
        method: of HTTP; "" of a verb that the gateway does not have, whose path is empty as well.
        path: of its route, such as ``/v1/jobs/{id}/cancel``, or ``/v1/keys`` of one that makes an object.
        scope: that the actor must have.
        request: model of what is said with it; None if nothing is.
        required: whether that must be said: the body has no default for it.
        answer: model of the document that it returns; None for nothing.
        body: the method of the noun's class.
        question: asked in the console; None where the page's button does it at once, or the page has a form of its own.
        done: what the console says afterwards.
        operation: its name among all nouns' verbs, such as ``cancelJob``.
        creates: whether it makes an object, alone or of another one that it is done to.
    """

    noun: str
    name: str
    method: str
    path: str
    scope: str
    request: type[BaseModel] | None
    required: bool
    answer: type[BaseModel] | None
    body: Callable[..., Any]
    question: Question | None
    done: str
    operation: str
    creates: bool

    @property
    def summary(self) -> str:
        """The first line of its docstring, without a full stop."""
        return inspect.cleandoc(self.body.__doc__ or "").partition("\n")[0].removesuffix(".")

    @property
    def description(self) -> str:
        """The docstring below its first line."""
        return "\n".join(inspect.cleandoc(self.body.__doc__ or "").splitlines()[2:])

    @property
    def has_object(self) -> bool:
        """Whether it is done to an object, which its path names."""
        return "{" in self.path


_DECLARATION = "__verb__"
_NO_DEFAULT = inspect.Parameter.empty
_Body = TypeVar("_Body", bound=Callable[..., Any])


def verb(
    target: str = "",
    *,
    scope: str,
    question: Question | None = None,
    done: str = "",
    operation: str = "",
    creates: bool = False,
) -> Callable[[_Body], _Body]:
    """Declares a verb at its body.

    The first argument of the body behind `self` is the object's id, unless it makes one, and one that is a model
    what is said with it; the rest have defaults.

    Args:
        target: method and path over HTTP, such as ``POST /v1/jobs/{id}/cancel``; "" for no route.
        scope: as that of `Verb`.
        question: as that of `Verb`.
        done: as that of `Verb`.
        operation: as that of `Verb`; "" for the verb's name and the noun's.
        creates: as that of `Verb`; it is known of one whose path names no object.
    """

    def declare(body: _Body) -> _Body:
        setattr(body, _DECLARATION, (target, scope, question, done, operation, creates))
        return body

    return declare


def verbs_of(noun: type) -> list[Verb]:
    """The verbs of a noun's class, in the order of their declarations."""
    return [_verb(noun, body) for body in vars(noun).values() if hasattr(body, _DECLARATION)]


def declared(body: Callable[..., Any]) -> tuple[str, str]:
    """Action and kind of the audit row of a verb, of its body as a method of an object: ``("rotate", "key")``."""
    noun: Any = body.__self__  # type: ignore[attr-defined]
    assert hasattr(body, _DECLARATION), f"{body.__name__} is declared as no verb"
    return body.__name__, noun.NOUN


def _verb(noun: type, body: Callable[..., Any]) -> Verb:
    target, scope, question, done, operation, creates = getattr(body, _DECLARATION)
    method, _, path = target.partition(" ")
    hints = get_type_hints(body)
    answer = hints.pop("return")
    if get_origin(answer) is not None:
        *_, answer = get_args(answer)
    parameter = next((name for name, hint in hints.items() if _is_model(hint)), None)
    return Verb(
        noun=noun.NOUN,  # type: ignore[attr-defined]
        name=body.__name__,
        method=method,
        path=path,
        scope=scope,
        request=hints[parameter] if parameter else None,
        required=parameter is not None
        and inspect.signature(body).parameters[parameter].default is _NO_DEFAULT,
        answer=answer if _is_model(answer) else None,
        body=body,
        question=question,
        done=done,
        operation=operation or body.__name__ + noun.NOUN.capitalize(),  # type: ignore[attr-defined]
        creates=creates or (method == "POST" and "{" not in path),
    )


def _is_model(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseModel)
