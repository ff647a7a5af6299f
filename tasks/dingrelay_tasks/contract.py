"""The base of every contract: what a business application may ask, checked where it enters."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar, cast, get_args

from pydantic import (
    VERSION,
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)

from dingrelay_tasks.person_fields import DINGTALK_FIELDS, USERID
from dingrelay_tasks.sentence import Sentence, en, joined

if TYPE_CHECKING:
    from pydantic_core import CoreSchema, ErrorDetails

_Value = TypeVar("_Value")

Json = dict[str, Any]
"""An object of JSON."""

Lane = Literal["urgent", "normal", "bulk"]
"""Priority of a job when a limit is reached."""

LANES: tuple[Lane, ...] = ("urgent", "normal", "bulk")

DIRECTORY_QUEUE = "dingrelay.directory"
"""The queue of walks through the organisation."""
EVENTS_QUEUE = "dingrelay.events"
"""The queue of events that update our data: walks and campaigns do not delay it."""
WEBHOOKS_QUEUE = "dingrelay.webhooks"
"""The queue of deliveries: a slow receiver delays other receivers only."""
QUEUES = (*(f"dingrelay.{lane}" for lane in LANES), DIRECTORY_QUEUE, EVENTS_QUEUE, WEBHOOKS_QUEUE)
"""One queue a lane, and one each for user-sync, events and webhooks, so that each can have workers of its own."""

APP_NAME = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
AppName = Annotated[str, Field(pattern=APP_NAME.pattern)]
_SENDER = r"^[A-Za-z0-9_-]{0,64}$"
SenderName = Annotated[str, Field(pattern=_SENDER)]
"""The sender of a job; senders share a lane's rate evenly. Empty: unnamed."""
_USER_ID = r"^[^,\s\x00-\x1f]{1,64}$"
UserId = Annotated[str, Field(pattern=_USER_ID), USERID]
"""A DingTalk userid. Commas and blanks are refused: ids travel comma-separated (API §2.1)."""
UserIdText = Annotated[str, USERID]
"""A userid in an answer, as DingTalk or an older record spells it."""
DingTalkJson = Annotated[dict[str, Any], DINGTALK_FIELDS]
"""An object of DingTalk's, which names people in fields that are called as DingTalk calls them."""


def _not_zero(department: int) -> int:
    if department == 0:
        raise ValueError("must not be 0")
    return department


DepartmentId = Annotated[
    int,
    Field(strict=True, ge=1 - 2**63, le=2**63 - 1, json_schema_extra={"not": {"const": 0}}),
    AfterValidator(_not_zero),
]
"""A DingTalk department id; 1 is the whole organisation (API §3.1).

A school's contacts have negative ones (API §11.3).
"""

LARGEST_JOB = 1_000_000
"""Bytes of a job as JSON. DingTalk takes messages of kilobytes and forms of some hundred; what is
larger would hold up everything else that passes through Redis."""

DEEPEST = 64
"""Levels of lists and objects in JSON that comes from outside. No contract has more than ten, and DingTalk's
events have four; what is deeper can't be stored."""

_EARLIEST, _LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def within_reach(moment: datetime) -> datetime:
    """The moment itself, if the calendar goes on around it.

    Raises:
        ValueError: it does not.
    """
    # Near either end of the calendar, changing the zone or adding a duration overflows.
    if not _EARLIEST <= moment <= _LATEST:
        raise ValueError("must be between the years 1900 and 9000")
    return moment


RFC_3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:[Zz]|[+-]\d{2}:?\d{2})?",
    re.ASCII,
)


def _read_moment(moment: Any) -> Any:
    # A strict validator takes no text for a datetime, and JSON has no other form for one.
    if isinstance(moment, str) and RFC_3339.fullmatch(moment):
        try:
            return datetime.fromisoformat(moment.upper())
        except ValueError:
            return moment
    return moment


Moment = Annotated[AwareDatetime, BeforeValidator(_read_moment), AfterValidator(within_reach)]
"""A point in time with its zone, ISO 8601 in JSON."""


TYPE_FIELD = "msgtype"
"""The discriminator of a part that comes in several types."""


MOST_NAMED = 20
"""Mistakes of one job that are named."""


class ContractError(ValueError):
    """A job is not what its contract says.

    Attributes:
        field: the dotted path of the offending field, such as ``to.users.3``.
        problem: what is wrong with it, in one sentence.
        code: the same for programs, such as ``missing`` or ``string_too_long``; pydantic's names.
        others: the other mistakes of the job; its text names them all.
    """

    def __init__(
        self,
        field: str,
        problem: str,
        code: str = "value_error",
        others: Sequence["ContractError"] = (),
    ) -> None:
        sentence = en("{}: {}", field, problem)
        super().__init__(joined("; ", (sentence, *map(str, others))) if others else sentence)
        self.field = field
        self.problem = problem
        self.code = code
        self.others = tuple(others)


_DEFERS = tuple(map(int, re.findall(r"\d+", VERSION)[:3])) >= (2, 14, 4)
"""Whether a contract is built when it is first used: a process needs few of those that it imports. Before this release of
pydantic, threads that use one at the same time for the first time could be refused."""


class Part(BaseModel):
    """A piece of a contract: immutable, and closed to fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=_DEFERS)

    @model_validator(mode="before")
    @classmethod
    def _null_means_default(cls, data: Any) -> Any:
        # Most are a dict, and asking an abstract class costs more than all else here.
        if not (type(data) is dict or isinstance(data, Mapping)) or None not in data.values():
            return data
        fields = cls.model_fields
        # An unknown field is refused whatever it holds.
        return {
            name: value for name, value in data.items() if value is not None or name not in fields
        }

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: "CoreSchema", handler: GetJsonSchemaHandler
    ) -> Json:
        schema = handler(core_schema)
        definition = handler.resolve_ref_schema(schema)
        if handler.mode == "validation":
            for name, field in definition.get("properties", {}).items():
                if name not in definition.get("required", ()) and _NULL not in field.get(
                    "anyOf", ()
                ):
                    about = {keyword: field.pop(keyword) for keyword in _ABOUT if keyword in field}
                    definition["properties"][name] = {**about, "anyOf": [field, _NULL]}
        return schema


_NULL = {"type": "null"}
_ABOUT = ("title", "default", "description")


class Document(Part):
    """A complete request, whose errors are reported to the caller.

    Raises:
        ContractError: it is not what its contract says; names each field that is wrong.
    """

    # Hidden from type checkers, which derive the keyword arguments from the fields.
    if not TYPE_CHECKING:

        def __init__(self, /, *unnamed: Any, **fields: Any) -> None:
            if unnamed:
                name = type(self).__name__
                raise ContractError(
                    "job", en("give its fields by name, or a dict to {}.parse", name)
                )
            try:
                super().__init__(**fields)
            except ValidationError as error:
                problems = error.errors(include_url=False, include_input=False)
                raise contract_error(problems, fields, type(self)) from None

    @classmethod
    def parse(cls, data: object, *, strict: bool = False) -> Self:
        """The document in `data` (JSON as Python values).

        Args:
            data: a mapping.
            strict: refuse a value of another type, such as ``"yes"`` for a flag, as the JSON schema
                does, where it would otherwise be converted.

        Raises:
            ContractError: names each field that is wrong.
        """
        if not isinstance(data, Mapping):
            raise ContractError("job", "must be an object")
        for name in cast("Mapping[object, Any]", data):
            if not _is_text(name):
                raise ContractError(ascii(name), "field names must be Unicode text")
        fields = cast("Mapping[str, Any]", data)
        return cls._strictly(fields) if strict else cls(**fields)

    @classmethod
    def _strictly(cls, fields: Mapping[str, Any]) -> Self:
        document = cls.__new__(cls)
        try:
            cls.__pydantic_validator__.validate_python(
                dict(fields), strict=True, self_instance=document
            )
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)
            raise contract_error(problems, fields, cls) from None
        return document


class Contract(Document):
    """A job that can be enqueued.

    `@kind` sets its `kind`, its queue and what its line says.
    """

    kind: ClassVar[str]
    own_queue: ClassVar[str] = ""
    """The queue of a kind whose jobs have one of their own, whatever their lane."""
    summary_format: ClassVar[str] = ""
    """Format of `summary` after app, lane and sender (`Kind.summary`)."""

    needs_app: ClassVar[bool] = True
    """Whether a worker must serve its app: not of robots, which have none, nor where DingTalk is asked nothing."""

    app: AppName = "default"
    lane: Lane = "normal"
    sender: SenderName = ""

    def wire(self) -> dict[str, Any]:
        """The job as JSON values, as it travels in ``kwargs={"job": …}``."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @classmethod
    def without_secrets(cls, job: Any) -> Any:
        """A job as it came, without what must not be written down; anything else as it is."""
        return job

    @property
    def queue(self) -> str:
        """The Celery queue that carries this job."""
        return self.own_queue or f"dingrelay.{self.lane}"

    @property
    def identity(self) -> str | None:
        """Identity within the app and kind: a job with the same one is the same job; None: each is new."""
        return None

    @property
    def recipients(self) -> int:
        """How many named recipients the job has; 0 where that makes no sense."""
        return 0

    @property
    def batch_digest(self) -> str | None:
        """Digest that jobs of one app must share to leave in one call; None: this job goes alone."""
        return None

    def summary(self) -> str:
        """One short line for Flower and logs, free of the job's text."""
        sender = f" sender={self.sender}" if self.sender else ""
        details = f" {self.summary_format.format(self)}" if self.summary_format else ""
        return f"{self.kind} app={self.app} lane={self.lane}{sender}{details}"


class Deliverable(Contract):
    """A job with a time before which it must not, and one after which it need not be done."""

    idempotency_key: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    send_at: Moment | None = None
    expires_at: Moment | None = None

    @property
    def identity(self) -> str | None:
        """The key that the business application gave it."""
        return self.idempotency_key

    @model_validator(mode="after")
    def _expires_after_it_is_sent(self) -> Self:
        if self.send_at and self.expires_at and self.expires_at <= self.send_at:
            raise ContractError("expires_at", "must be later than send_at")
        return self


def check_size(job: object, text: str) -> None:
    """Refuse a job that is too large.

    Args:
        job: JSON as Python values.
        text: the same as text.

    Raises:
        ContractError: names the field that takes the most.
    """
    # UTF-8 takes four bytes a character at most, so most jobs need no closer look.
    if len(text) <= LARGEST_JOB // 4 or (size := len(text.encode())) <= LARGEST_JOB:
        return
    fields = cast("Mapping[str, Any]", job) if isinstance(job, Mapping) else {}
    largest = max(fields, key=lambda name: len(json.dumps(fields[name])), default="job")
    problem = en("the job is {:.1f} MB as JSON, most of it here; it may be 1 MB", size / 1000000.0)
    raise ContractError(largest, problem)


def batched(values: Iterable[_Value], size: int) -> Iterator[list[_Value]]:
    """The values in lists of so many; the last one may be shorter."""
    ahead = iter(values)
    while batch := list(islice(ahead, size)):
        yield batch


def too_deep(values: object, text: str) -> bool:
    """Whether the values of a JSON text have too many levels."""
    # Brackets within texts count as well: then the exact look below decides.
    if text.count("[") + text.count("{") <= DEEPEST:
        return False
    level: list[Any] = [[values]]
    for _ in range(DEEPEST + 1):
        if not level:
            break
        inner = (node.values() if isinstance(node, dict) else node for node in level)
        level = [child for members in inner for child in members if isinstance(child, dict | list)]
    return bool(level)


def _is_text(name: object) -> bool:
    """Whether it is a string that UTF-8 can spell: JSON can also carry half a character."""
    if not isinstance(name, str):
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


MOMENT = en("must be a date and time such as 2026-01-31T09:00:00+08:00")
NUMBER = en("must be a number")
WHOLE = en("must be a whole number")
BOOLEAN = en("must be true or false")
TEXT = en("must be a text")
LIST = en("must be a list")
OBJECT = en("must be an object")

_SENTENCES: Mapping[str, str] = {
    "missing": en("is required"),
    "extra_forbidden": en("there is no such field"),
    "string_type": TEXT,
    "string_unicode": en("must be Unicode text"),
    "string_too_long": en("may have {:,} characters at most"),
    "string_too_short": en("must have {:,} characters or more"),
    "string_pattern_mismatch": en("is not spelled as it must be: {}"),
    "literal_error": en("must be {}"),
    "enum": en("must be {}"),
    "int_type": WHOLE,
    "int_parsing": WHOLE,
    "int_parsing_size": en("is too large"),
    "int_from_float": WHOLE,
    "float_type": NUMBER,
    "float_parsing": NUMBER,
    "finite_number": en("must be a finite number"),
    "bool_type": BOOLEAN,
    "bool_parsing": BOOLEAN,
    "list_type": LIST,
    "tuple_type": LIST,
    "dict_type": OBJECT,
    "mapping_type": OBJECT,
    "model_type": OBJECT,
    "model_attributes_type": OBJECT,
    "too_long": en("may have {:,} entries at most"),
    "too_short": en("must have {:,} entries or more"),
    "greater_than": en("must be above {}"),
    "greater_than_equal": en("must be {} or more"),
    "less_than": en("must be below {}"),
    "less_than_equal": en("must be {} or less"),
    "datetime_type": MOMENT,
    "datetime_parsing": MOMENT,
    "datetime_from_date_parsing": MOMENT,
    "datetime_object_invalid": MOMENT,
    "timezone_aware": en("needs its time zone, as in 2026-01-31T09:00:00+08:00"),
    "date_type": en("must be a date such as 2026-01-31"),
    "date_parsing": en("must be a date such as 2026-01-31"),
    "date_from_datetime_parsing": en("must be a date such as 2026-01-31"),
}
"""Type of pydantic's error → the sentence, with the bound from its context."""
_SPELLED: Mapping[str, str] = {
    _USER_ID: en(
        "must be one userid, of at most 64 characters, without a comma and without a blank"
    ),
    _SENDER: en("may have at most 64 letters, digits, _ and -"),
    APP_NAME.pattern: en("must be a name of 1 to 64 letters, digits, _ and -"),
}
"""Pattern → how that is said to people."""
_BOUNDS = ("max_length", "min_length", "pattern", "expected", "gt", "ge", "lt", "le")


def sentence(problem: "ErrorDetails") -> str:
    """The error without the value, which may be a secret.

    Errors of our own validators keep their words; so does what is not in the table.
    """
    context: Mapping[str, Any] = problem.get("ctx", {})
    if problem["type"] == "string_too_short" and context.get("min_length") == 1:
        return en("must not be empty")
    if spelled := _SPELLED.get(str(context.get("pattern"))):
        return spelled
    if template := _SENTENCES.get(problem["type"]):
        bounds = [context[name] for name in _BOUNDS if name in context]
        if "expected" in context:
            *choices, last_choice = context["expected"].split(" or ")
            bounds = (
                [en("{} or {}", " or ".join(choices), last_choice)] if choices else [last_choice]
            )
        return Sentence(template, *bounds)
    error = context.get("error")
    return problem["msg"] if error is None else str(getattr(error, "problem", error))


def contract_error(
    problems: Sequence["ErrorDetails"], job: Mapping[str, Any], contract: Any
) -> ContractError:
    """The problems that pydantic found, in our words: paths and sentences without input.

    A field that does not exist comes first: with its name corrected, another is not missing.

    Args:
        problems: at least one.
        job: what was validated.
        contract: its type.
    """
    # A default that follows from a wrong field is no mistake of its own.
    mistakes = [problem for problem in problems if problem["type"] != "default_factory_not_called"]
    by_importance = sorted(mistakes, key=lambda problem: problem["type"] != _UNKNOWN_FIELD)
    first, *others = (
        _contract_error(problem, job, contract) for problem in by_importance[:MOST_NAMED]
    )
    return ContractError(first.field, first.problem, first.code, others)


_UNKNOWN_FIELD = "extra_forbidden"


def _contract_error(
    problem: "ErrorDetails", job: Mapping[str, Any], contract: Any
) -> ContractError:
    path = _path(problem["loc"], job)
    message = sentence(problem)
    context = problem.get("ctx", {})
    if problem["type"].startswith("union_tag_"):
        path = [*path, context["discriminator"].strip("'")]
        message = (
            en("must be one of {}", context["expected_tags"])
            if "tag" in context
            else en("is required")
        )
    elif problem["type"] == _UNKNOWN_FIELD:
        message += _nearest_field(path, contract)
    # A validator over several fields has no path of its own; its error names the field.
    if isinstance(error := context.get("error"), ContractError):
        path.append(error.field)
    code = "missing" if message == "is required" else problem["type"]
    return ContractError(".".join(path) or "job", message, code)


def _nearest_field(path: Sequence[str], contract: Any) -> str:
    """The end of a sentence about a field that does not exist, where a similar one does."""
    parts = _parts(contract)
    for step in path[:-1]:
        fields = [part.model_fields[step] for part in parts if step in part.model_fields]
        # An index of a list is no field.
        parts = [part for field in fields for part in _parts(field.annotation)] or parts
    names = sorted({name for part in parts for name in part.model_fields})
    near = get_close_matches(path[-1], names, n=1)
    return en("; did you mean `{}`?", near[0]) if near else ""


def _parts(annotation: Any) -> list[type[BaseModel]]:
    """The models in a type, such as those of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [part for argument in get_args(annotation) for part in _parts(argument)]


def _path(location: tuple[int | str, ...], job: Mapping[str, Any]) -> list[str]:
    """The steps to a field as the job spells them.

    Below a part that comes in several types, pydantic's path also names the type, once.
    """
    steps: list[str] = []
    part: Any = job
    for step in location:
        if isinstance(part, Mapping) and part.get(TYPE_FIELD) == step != TYPE_FIELD:
            part = {name: value for name, value in part.items() if name != TYPE_FIELD}
            continue
        steps.append(str(step))
        try:
            part = part[step]
        except (LookupError, TypeError):
            part = None
    return steps
