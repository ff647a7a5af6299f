"""A job that came as a Celery message, as plain JSON.

Celery's JSON carries more than JSON: a `datetime`, `Decimal` or `UUID` of the client is one again
in the worker. A contract reads them as texts, and a record can hold nothing else.
"""

from collections.abc import Callable, Mapping
from datetime import date, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from dingrelay_producers.store.record import canonical_json
from dingrelay_tasks.contract import ContractError

_TEXTS: Mapping[type, Callable[[Any], str]] = {
    date: lambda value: value.isoformat(),  # and datetime, which is one
    time: lambda value: value.isoformat(),
    Decimal: str,
    UUID: str,
    bytes: bytes.decode,
}
TOO_DEEP = {"": "nested too deeply"}
"""Stands for a job that can't be read to its end."""


def plain_json(job: Any) -> tuple[Any, ContractError | None]:
    """A job with texts for values that only Celery can carry, and the error of the first other one.

    A value that can't be carried is replaced by the name of its type; the error names its field.
    """
    try:
        canonical_json(job)
    except (TypeError, ValueError):
        pass
    except RecursionError:
        return TOO_DEEP, ContractError("job", "nested too deeply")
    else:
        return job, None
    problems: list[ContractError] = []
    try:
        return _plain(job, "", problems), problems[0] if problems else None
    except RecursionError:
        return TOO_DEEP, ContractError("job", "nested too deeply")


def _plain(value: Any, path: str, problems: list[ContractError]) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case dict():
            return {
                str(name): _plain(inner, f"{path}.{name}" if path else str(name), problems)
                for name, inner in value.items()
            }
        case list() | tuple():
            return [
                _plain(inner, f"{path}.{index}" if path else str(index), problems)
                for index, inner in enumerate(value)
            ]
        case _:
            return _text(value, path or "job", problems)


def _text(value: Any, path: str, problems: list[ContractError]) -> str:
    for known, text in _TEXTS.items():
        if isinstance(value, known):
            try:
                return text(value)
            except ValueError:  # bytes that are no UTF-8
                break
    name = type(value).__name__
    problems.append(ContractError(path, f"a value of type {name} can't be written as JSON"))
    return f"<{name}>"
