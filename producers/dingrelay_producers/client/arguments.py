"""Arguments of the client, checked before Redis is called."""

import io
import math
import os
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict, cast

from dingrelay_producers.errors import InvalidArgument
from dingrelay_tasks.contract import Contract, Lane
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_producers.client.campaign_documents import Plan
    from dingrelay_tasks.api_call import Effect


class CallFields(TypedDict, total=False):
    """The fields of an `ApiCall` beside its method and path."""

    app: str
    lane: Lane
    sender: str
    query: Mapping[str, str | int | bool]
    body: Mapping[str, Any] | list[Any] | None
    effect: "Effect"
    idempotency_key: str | None
    send_at: datetime | str | None
    expires_at: datetime | str | None


def checked_job(job: Any) -> Contract:
    """A job of a kind.

    Raises:
        InvalidArgument: it is something else.
    """
    if not isinstance(job, Contract):
        raise InvalidArgument("job", "a job, such as a MessageSend", job)
    return job


def checked_jobs(jobs: Any) -> Iterable[Contract]:
    """Jobs in a list, a generator or another iterable; each is checked when its turn comes.

    Raises:
        InvalidArgument: it can't be iterated over, or is one job, or a text.
    """
    if isinstance(jobs, (Contract, str, bytes, dict)) or not isinstance(jobs, Iterable):
        raise InvalidArgument("jobs", "an iterable of jobs", jobs)
    return map(checked_job, jobs)


def checked_id(id_: Any, name: str = "job_id", noun: str = en("a job")) -> str:
    """The id of a job or of something else.

    Raises:
        InvalidArgument: it can't be one.
    """
    if not isinstance(id_, str) or not id_ or not id_.isprintable():
        raise InvalidArgument(name, en("the id of {}, a text", noun), id_)
    return id_


def checked_flag(flag: Any, name: str) -> bool:
    """Yes or no; not a text such as "false", which would count as yes.

    Raises:
        InvalidArgument: it is something else.
    """
    if not isinstance(flag, bool):
        raise InvalidArgument(name, "True or False", flag)
    return flag


def checked_users(users: Any, name: str = "users") -> Collection[Any]:
    """Userids, or departments; the look-up checks each of them.

    Raises:
        InvalidArgument: it is one value and not several, or can be read only once.
    """
    if isinstance(users, (str, bytes, Mapping)) or not isinstance(users, Collection):
        raise InvalidArgument(name, "a list", users)
    return users  # pyright: ignore[reportUnknownVariableType]


def checked_fields(fields: Any) -> None:
    """Values of a message's fields by name, or None.

    Raises:
        InvalidArgument: it is something else.
    """
    if fields is not None and not isinstance(fields, Mapping):
        raise InvalidArgument("fields", "a mapping", fields)


def checked_plan(plan: Mapping[str, Any]) -> "Plan":
    """The fields of a campaign, as far as they are no matter of its contract.

    Raises:
        InvalidArgument: there is no such field, one is missing, or one is of a wrong type.
    """
    from dingrelay_producers.client.campaign_documents import Plan

    fields = Plan.__annotations__
    for name, value in plan.items():
        if name not in fields:
            raise InvalidArgument(name, en("one of {}", ", ".join(fields)), value)
    for name in ("name", "message"):
        if name not in plan:
            raise InvalidArgument(name, "given", None)
    for name in ("recipients", "without"):
        _check_source(plan.get(name), name)
    for name in ("users", "departments", "without_departments"):
        checked_users(plan.get(name, ()), name)
    checked_flag(plan.get("everyone", False), "everyone")
    if (malformed := plan.get("malformed", "refuse")) not in ("refuse", "skip"):
        raise InvalidArgument("malformed", "'refuse' or 'skip'", malformed)
    return cast("Plan", plan)


def _check_source(source: Any, name: str) -> None:
    """A file or an iterable of recipients, if it is given."""
    expected = en("a path, a file opened with 'rb', or an iterable of recipients")
    if source is None or (isinstance(source, (str, os.PathLike)) and os.fspath(source)):  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        return
    is_single = isinstance(source, (str, bytes, Mapping, io.TextIOBase))
    if is_single or not (isinstance(source, Iterable) or hasattr(source, "read")):
        raise InvalidArgument(name, expected, source)


def checked_limit(limit: Any, name: str = "limit") -> int:
    """How many at most.

    Raises:
        InvalidArgument: it is no whole number above 0.
    """
    if not isinstance(limit, int) or isinstance(limit, bool) or not 0 < limit < 2**31:
        raise InvalidArgument(name, "a whole number above 0", limit)
    return limit


def checked_timeout(timeout: Any) -> float:
    """Seconds to wait; infinite is for ever.

    Raises:
        InvalidArgument: it is no number.
    """
    if not isinstance(timeout, (int, float)) or math.isnan(timeout):
        raise InvalidArgument("timeout", "seconds", timeout)
    return timeout
