"""Checks of a kind's declaration: every door reads it, and so does an erasure of a person's data."""

import re
from collections.abc import Callable, Iterator
from inspect import iscoroutinefunction
from string import Formatter
from typing import TYPE_CHECKING, Any

from dingrelay_tasks.contract import QUEUES, Contract
from dingrelay_tasks.person_fields import paths_of, undeclared_in
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_tasks.kinds import Kind

_PACKAGE = __name__.partition(".")[0]
_NAME = re.compile(r"(?=.{1,64}$)[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_SCOPE = re.compile(r"[a-z][a-z0-9-]*:[a-z]+")
_PATH = re.compile(r"/v1/[a-z][a-z0-9-]*")


def problems_of(kind: "Kind", run: Callable[..., Any]) -> Iterator[str]:
    """Problems of a declaration, in sentences; none if it is right.

    Args:
        kind: as declared.
        run: its body.
    """
    if not _NAME.fullmatch(kind.name):
        yield en("its name must be small letters, digits and -, such as acme-todo")
    if not iscoroutinefunction(run):
        yield en("its body must be an async function of a job and a context")
    yield from _problems_of_settings(kind, is_ours=run.__module__.partition(".")[0] == _PACKAGE)
    if Contract in kind.contract.__mro__:
        yield from _problems_of_fields(kind)
    else:
        yield en("its contract must be a `Contract`, such as a `Deliverable`")


def _problems_of_settings(kind: "Kind", *, is_ours: bool) -> Iterator[str]:
    if kind.queue and kind.queue not in QUEUES:
        yield en("queue: no worker takes from {}; there are {}", kind.queue, ", ".join(QUEUES))
    if kind.scope and not _SCOPE.fullmatch(kind.scope):
        yield en("scope: must be like todos:write")
    if kind.path and not _PATH.fullmatch(kind.path):
        yield en("path: must be like /v1/todos")
    if kind.is_public and kind.result is None:
        yield en("result: a kind that applications enqueue needs a model of its result")
    for api in kind.rules:
        # All other limits are known here, and hold for all kinds.
        if not is_ours and not api.startswith("/"):
            yield en("rules: {} must be a path such as /v1.0/todo/users/*/tasks", api)


def _problems_of_fields(kind: "Kind") -> Iterator[str]:
    try:
        names = [name for _, name, _, _ in Formatter().parse(kind.summary) if name is not None]
    except ValueError as error:
        yield en("summary: {}", error)
        names = []
    for name in names:
        job, field, *_ = [*re.split(r"[.\[]", name), ""]
        has_field = field in kind.contract.model_fields or hasattr(kind.contract, field)
        if job != "0" or not has_field:
            yield en("summary: {} is no field of the job, such as 0.lane", name)
    person_fields = {*paths_of(kind.contract)}
    for path in kind.users:
        if person_fields.isdisjoint({path, f"{path}.*"}):
            yield en("users: {} is no field of userids (`UserId`)", path)
    for model in filter(None, (kind.contract, kind.result)):
        for field in undeclared_in(model):
            yield en(
                "{}.{}: userids must be declared as such (`UserId`), or an erasure misses them",
                model.__name__,
                field,
            )
