"""Paging: how many rows, and behind which. A cursor is opaque to clients."""

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    create_model,
)
from pydantic_core import core_schema

from dingrelay_producers.client.filters import ListFilter, askable
from dingrelay_producers.client.job_list import Position
from dingrelay_tasks.contract import RFC_3339, AppName, SenderName

LARGEST = 2**63 - 1
"""Number that the database takes."""
LARGEST_MOMENT = 10**14
"""Milliseconds since the epoch, in the year 5138."""


def unknown_cursor() -> ValueError:
    """The error for a cursor that is none of ours."""
    return ValueError("is no cursor of an earlier answer")


def encode(*parts: str | int | datetime) -> str:
    """A cursor that `decode` takes apart."""
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"), default=datetime.isoformat)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str, *types: type) -> Sequence[Any]:
    """The parts of a cursor, which must have these types. A database takes each of them.

    Raises:
        ValueError: it is none of ours.
    """
    padded = cursor + "=" * (-len(cursor) % 4)
    try:
        parts = json.loads(base64.b64decode(padded.encode("ascii"), b"-_", validate=True))
        json.dumps(parts, ensure_ascii=False).encode()
    except (ValueError, RecursionError):  # such as of base64 or of Unicode
        raise unknown_cursor() from None
    spelled = [str if type_ is datetime else type_ for type_ in types]
    if not isinstance(parts, list) or [type(part) for part in parts] != spelled:
        raise unknown_cursor()
    if any(abs(part) > LARGEST if isinstance(part, int) else "\0" in part for part in parts):
        raise unknown_cursor()
    return [
        _moment(part) if type_ is datetime else part
        for part, type_ in zip(parts, types, strict=True)
    ]


def position(parts: Sequence[Any]) -> Position:
    """The place in a list of jobs that a cursor of theirs holds.

    Raises:
        ValueError: it is none of ours.
    """
    place = Position(*parts)
    if not 0 <= place.at < LARGEST_MOMENT:
        raise unknown_cursor()
    return place


def _moment(text: str) -> datetime:
    try:
        return _within_reach(datetime.fromisoformat(text))
    except (TypeError, ValueError):  # one without a zone can't be compared
        raise unknown_cursor() from None


class Behind:
    """Marks the field of a query that is a cursor: its value are the parts, which have these types."""

    def __init__(self, *types: type) -> None:
        self._types = types

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """A text for who asks."""
        return core_schema.no_info_after_validator_function(
            lambda cursor: decode(cursor, *self._types), core_schema.str_schema(max_length=1_000)
        )


def behind(page: Sequence[Any], limit: int, *names: str) -> str | None:
    """The cursor of the page behind these, which is made of these fields; None where this is the last."""
    return encode(*(getattr(page[-1], name) for name in names)) if len(page) == limit else None


class Query(BaseModel, extra="forbid"):
    """Parameters of a query."""

    def filters(self) -> dict[str, Any]:
        """The conditions on the list."""
        return self.model_dump()


class Paging(Query):
    """Page of a list. Each list has cursors of its own."""

    limit: Annotated[int, Field(ge=1, le=500)] = 100
    """Entries at most."""
    cursor: Any = None
    """`next` of the page before."""

    def filters(self) -> dict[str, Any]:
        """The conditions on the list."""
        return self.model_dump(exclude=set(Paging.model_fields))


_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def _within_reach(moment: datetime) -> datetime:
    # Near either end of the calendar, changing the zone overflows.
    if not _EARLIEST <= moment <= _LATEST:
        raise ValueError("must be between the years 1970 and 9000")
    return moment


def _spelled(moment: str) -> datetime:
    # A query spells a blank as a plus, and a plus sign, unless it is escaped, as well.
    text = moment.replace(" ", "+")
    if not RFC_3339.fullmatch(text):
        raise ValueError("must be a date and time such as 2026-11-25T08:00:00Z")
    return datetime.fromisoformat(text.upper())


Moment = Annotated[AwareDatetime, BeforeValidator(_spelled), AfterValidator(_within_reach)]
Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00]+$")]
TYPES: Mapping[str, Any] = {
    "app": AppName,
    "sender": SenderName,
    "kind": Annotated[str, Field(pattern=r"^[a-z][a-z-]{0,63}$")],
}
"""Parameters of a query that are more than a text."""


def page_of(name: str, about: str, **listed: type[BaseModel]) -> type[BaseModel]:
    """The document of a page: what is listed, and `next`, the cursor of the page behind, null on the last.

    Args:
        name: of the document.
        about: the first sentence, and more.
        listed: the field's name, and what is in its list.
    """
    fields: dict[str, Any] = {field: (list[item], ...) for field, item in listed.items()}  # type: ignore[valid-type]
    return create_model(name, __doc__=about, **fields, next=(str | None, None))


_Q = TypeVar("_Q", bound=Query)


def query_of(model: type[ListFilter], base: type[_Q], names: Collection[str] = ()) -> type[_Q]:
    """The query of a list: its paging, if it has one, and a parameter for each field of its filter.

    Args:
        model: the filter.
        base: the paging, or a plain `Query`.
        names: the only fields; all that a caller may ask for if there is none.
    """
    fields_of_filter = askable(model)
    fields: dict[str, Any] = {}
    for name in names or fields_of_filter:
        kind, option = fields_of_filter[name]
        plain = {datetime: Moment, str: Name}.get(get_args(kind)[0], kind)
        kind = TYPES.get(name, plain)
        fields[name] = (kind | None, Field(default=None, description=option.help))
    return create_model(f"{model.__name__}Query", __base__=base, **fields)
