"""Campaigns as JSON: what is asked for, and what is answered beside the documents that clients know.

The texts of a message may hold ``{name}`` fields, filled in for each recipient. A field is a name and nothing more:
no attributes, no formats. ``{{`` and ``}}`` stand for braces.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, NamedTuple, Self, cast

from pydantic import (
    BaseModel,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from dingrelay_producers.client.campaign_documents import LONGEST_NAME, NAME, Plan
from dingrelay_producers.store import clock
from dingrelay_producers.zone import local
from dingrelay_tasks.contract import (
    TYPE_FIELD,
    AppName,
    ContractError,
    DepartmentId,
    Document,
    Moment,
    SenderName,
    UserId,
    contract_error,
)
from dingrelay_tasks.message import STATUS_BAR_USERS, Message, payload
from dingrelay_tasks.message_send import USERS_PER_CALL, MessageSend
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns.pace import QuietHours

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

ROOT = "message"

REMEMBERED = 256
"""Results kept: with few different ones, most recipients cost no filling in."""

_MARK = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")

_adapter: TypeAdapter[Message] = TypeAdapter(Message)


@dataclass(frozen=True, slots=True)
class _Text:
    """A text taken apart: literals, and the positions of values."""

    parts: tuple[str | int, ...]

    def fill(self, values: Sequence[str]) -> str:
        return "".join(part if isinstance(part, str) else values[part] for part in self.parts)


class FilledTemplate(NamedTuple):
    """A message that is filled in.

    Attributes:
        json: the ``msg`` object.
        digest: equal for equal messages, and else not.
    """

    json: str
    digest: bytes


class Template:
    """A message whose texts may hold fields.

    Attributes:
        source: the message as it was given.
        fields: the names of its fields, each once, in the order in which they appear.

    Raises:
        ContractError: it can't become a message whatever the fields hold, or a brace stands alone.
    """

    def __init__(self, message: Mapping[str, Any]) -> None:
        self.source = dict(message)
        _check_shape(self.source)
        names: dict[str, int] = {}
        self._tree = _compile(self.source, ROOT, names)
        self.fields = tuple(names)
        self.fill = lru_cache(REMEMBERED)(self._fill)
        if not self.fields:
            self.fill(())

    @property
    def message(self) -> dict[str, Any]:
        """The stored form of the message: itself, or the template if it has fields."""
        if self.fields:
            return self.source
        message: dict[str, Any] = json.loads(self.fill(()).json)
        return message

    def _fill(self, values: tuple[str, ...]) -> FilledTemplate:
        """The message with these values, one for each of `fields`.

        Raises:
            ContractError: it is none with these values, such as more than 5,000 characters.
        """
        filled = _filled(self._tree, values)
        try:
            message = json.dumps(payload(_adapter.validate_python(filled)))
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
            raise _contract_error(details, filled) from None
        return FilledTemplate(message, blake2b(message.encode(), digest_size=16).digest())


def _check_shape(message: dict[str, Any]) -> None:
    """Complain about what no value of a field can mend."""
    try:
        _adapter.validate_python(message)
    except ValidationError as error:
        details = [
            detail
            for detail in error.errors(include_url=False, include_input=False)
            # The first step is the type of the message, which is no field.
            if not (_about_a_text(detail["type"]) and _may_vary(message, detail["loc"][1:]))
        ]
        if details:
            raise _contract_error(details, message) from None


def _contract_error(details: Sequence["ErrorDetails"], message: Any) -> ContractError:
    for detail in details:
        detail["loc"] = (ROOT, *detail["loc"])
    return contract_error(details, {ROOT: message}, MessageSend)


def _about_a_text(problem: str) -> bool:
    return problem == "literal_error" or problem.startswith("string_")


def _may_vary(message: Any, path: tuple[int | str, ...]) -> bool:
    for step in path:
        message = message[step]
    return isinstance(message, str) and "{" in message


def _compile(node: Any, path: str, names: dict[str, int]) -> Any:
    """The node with its texts taken apart; adds the fields to `names`."""
    if isinstance(node, dict):
        pairs = cast("dict[str, Any]", node)
        return {
            name: value if name == TYPE_FIELD else _compile(value, f"{path}.{name}", names)
            for name, value in pairs.items()
        }
    if isinstance(node, list):
        items: list[Any] = node
        return [_compile(item, f"{path}.{at}", names) for at, item in enumerate(items)]
    return _parse(node, path, names) if isinstance(node, str) else node


def _parse(text: str, path: str, names: dict[str, int]) -> _Text:
    if "\0" in text:
        raise ContractError(path, "holds a NUL character")
    parts: list[str | int] = []
    end = 0
    for mark in _MARK.finditer(text):
        parts.append(text[end : mark.start()])
        end = mark.end()
        brace, name = mark[0], mark[1]
        if brace in {"{{", "}}"}:
            parts.append(brace[0])
        elif name is None:
            raise ContractError(path, en('a single "{}" must be written "{}"', brace, brace * 2))
        elif not name.strip():
            raise ContractError(path, "a field has no name: write {name}, or {{}} for the braces")
        else:
            parts.append(names.setdefault(name.strip(), len(names)))
    return _Text((*parts, text[end:]))


def _filled(node: Any, values: Sequence[str]) -> Any:
    if isinstance(node, _Text):
        return node.fill(values)
    if isinstance(node, dict):
        pairs = cast("dict[str, Any]", node)
        return {name: _filled(value, values) for name, value in pairs.items()}
    if isinstance(node, list):
        items: list[Any] = node
        return [_filled(item, values) for item in items]
    return node


LARGEST = 2**31 - 1
"""The largest number that the database keeps."""
MOST_NAMED = 10_000
"""People or departments that a request names one by one; a file names any number."""
MOST_PASTED = 500_000
"""Characters of pasted people."""
MOST_WITHOUT = 50
"""Campaigns whose people are left out."""

Departments = Annotated[
    list[DepartmentId], Field(max_length=MOST_NAMED, default_factory=list[DepartmentId])
]
Pasted = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=MOST_PASTED)]
CampaignIds = Annotated[
    list[Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")]],
    Field(max_length=MOST_WITHOUT, default_factory=list[str]),
]


def users_per_call(message: Mapping[str, Any]) -> int:
    """How many people a call with this message may have, whether its fields are filled in or not."""
    body: Any = message.get("oa")
    has_status_bar = isinstance(body, dict) and body.get("status_bar") is not None
    return STATUS_BAR_USERS if has_status_bar else USERS_PER_CALL


class _AsMessage:
    """Documents the schema of a message, which is checked once its fields are filled in."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(TypeAdapter[Any](Message).core_schema)


TYPED_WITHIN = timedelta(minutes=1)
"""Age of a time that counts as the present one: forms name minutes."""


class CampaignFields(Document):
    """Stored fields of a campaign beside its people; a draft may lack some.

    Attributes:
        name: for people; it need not be unique.
        message: DingTalk's own ``msg`` object; its texts may hold ``{name}`` fields.
        start_at: not before this moment.
        quiet: hours of Beijing's day without calls, such as ``22:00-08:00``.
        rate: recipients a minute at most; null for DingTalk's limits only.
        weight: its share beside its sender's other campaigns that run.
        error_share: share of failed recipients at which it pauses itself.
    """

    name: Annotated[str, Field(pattern=NAME, max_length=LONGEST_NAME, default="")]
    app: AppName = "default"
    message: Annotated[dict[str, Any], Field(default_factory=dict[str, Any])]
    start_at: Moment | None = None
    quiet: Annotated[str, Field(max_length=16)] = ""
    rate: Annotated[int, Field(ge=1, le=LARGEST)] | None = None
    weight: Annotated[int, Field(ge=1, le=1_000)] = 1
    error_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    sender: SenderName = ""

    @model_validator(mode="after")
    def _quiet_hours_can_be_read(self) -> Self:
        try:
            QuietHours.parse(self.quiet)
        except ValueError as error:
            raise ContractError("quiet", str(error)) from None
        return self


def check_start_at(start_at: datetime | None) -> None:
    """Refuse a time of a campaign that was over before it was chosen, but for the minute in which it is typed.

    Raises:
        ContractError: names the field.
    """
    if start_at is not None and start_at < clock.now() - TYPED_WITHIN:
        raise ContractError("start_at", en("{} is over: choose a time to come", local(start_at)))


class CampaignSpec(CampaignFields):
    """A campaign without its recipients: the fields of a `Plan` that are stored, checked."""

    name: Annotated[str, Field(pattern=NAME, min_length=1, max_length=LONGEST_NAME)]
    message: Annotated[dict[str, Any], _AsMessage]

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """The part of a plan that is not its recipients.

        Raises:
            ContractError: names the field that is wrong.
        """
        given = cast("dict[str, Any]", plan)
        return cls.parse({name: given[name] for name in CampaignSpec.model_fields if name in given})

    @model_validator(mode="after")
    def _template_can_be_read(self) -> Self:
        self.template  # noqa: B018 - its error names the field by itself
        return self

    @cached_property
    def template(self) -> Template:
        """`message`, understood."""
        return Template(self.message)

    @property
    def users_per_call(self) -> int:
        """How many people a call of it may have."""
        return users_per_call(self.message)


class PeopleFields(CampaignFields):
    """Fields of a campaign, and which people get it. It may be half-filled; what is there has the form that a campaign needs.

    Attributes:
        departments: these and all below them, as the directory has them.
        everyone: all in the directory.
        pasted: people, one a line or separated by commas: userids, mobiles, job numbers or names; or rows of a
            table that was copied, with tabs and its headings.
        without_departments: leave out people in or below them.
        without_pasted: people to leave out, as `pasted`.
        without_campaigns: leave out the people of these campaigns.
        column: of the file that names people, such as ``job_number=编号``; empty for its usual names.
        encoding: of the files, such as ``gb18030``; empty for UTF-8 or GB18030, by their bytes.
    """

    departments: Departments
    everyone: bool = False
    pasted: Pasted = ""
    without_departments: Departments
    without_pasted: Pasted = ""
    without_campaigns: CampaignIds
    column: Annotated[str, Field(max_length=256)] = ""
    encoding: Annotated[str, Field(max_length=32)] = ""


class DraftContent(PeopleFields):
    """Content of a draft.

    Attributes:
        other_messages: those of other types, as they were written before the type was changed; they are not sent.
    """

    other_messages: Annotated[
        dict[str, dict[str, Any]], Field(max_length=10, default_factory=dict[str, dict[str, Any]])
    ]


Version = Annotated[int, Field(ge=1)]


class DraftChange(DraftContent):
    """A change of a campaign before its start. What is left out stays as it is; null is a field's default.

    Attributes:
        version: of the campaign, from which the change was made.
    """

    version: Version

    @model_validator(mode="wrap")
    @classmethod
    def _keep_nulls(cls, data: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        change = validate(data)
        change.model_fields_set.update(data)
        return change

    @property
    def changes(self) -> dict[str, Any]:
        """Field of the content → its new value."""
        return {name: getattr(self, name) for name in self.model_fields_set - {"version"}}


class DraftVersion(Document):
    """The version of a draft that becomes ready."""

    version: Version


class CampaignRequest(CampaignSpec, PeopleFields):
    """The request for a campaign. At least one of the fields that name people is needed.

    Attributes:
        recipients: rows, as in a file: an object with a ``userid`` and the fields of the message.
        users: ids of users.
        without_users: people to leave out.
        malformed: whether rows that name no person are refused, and nothing is created, or skipped.
    """

    recipients: Annotated[
        list[dict[str, Any]], Field(max_length=MOST_NAMED, default_factory=list[dict[str, Any]])
    ]
    users: Annotated[list[UserId], Field(max_length=MOST_NAMED, default_factory=list[UserId])]
    without_users: Annotated[
        list[UserId], Field(max_length=MOST_NAMED, default_factory=list[UserId])
    ]
    malformed: Literal["refuse", "skip"] = "refuse"

    @property
    def names_people(self) -> bool:
        """Whether it names people itself, without a file."""
        named = self.recipients or self.users or self.departments or self.pasted
        return bool(named or self.everyone)

    def plan(self, *, recipients: BinaryIO | None, without: BinaryIO | None) -> Plan:
        """The campaign, with the files that came with it."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        fields["recipients"] = recipients or self.recipients or None
        return cast("Plan", {**fields, "without": without})


NAMED_IDS = 100
"""Ids of accepted jobs that an answer over HTTP names."""

UPLOAD_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["campaign"],
    "properties": {
        "campaign": {"$ref": "#/components/schemas/CampaignRequest"},
        "recipients": {
            "type": "string",
            "contentMediaType": "application/octet-stream",
            "description": "CSV or .xlsx with a header, or one JSON object a line.",
        },
        "without": {
            "type": "string",
            "contentMediaType": "application/octet-stream",
            "description": "People to leave out, in the same form.",
        },
    },
    "additionalProperties": False,
}
"""A request with files: what each part of the form is."""


class JobsDocument(BaseModel):
    """Jobs that were accepted."""

    jobs: int
    """How many there are; 0 where nothing is to be done."""
    ids: Annotated[list[str], PlainSerializer(lambda ids: ids[:NAMED_IDS], return_type=list[str])]
    """The first hundred."""


class FollowUpCost(BaseModel, json_schema_serialization_defaults_required=True):
    """Reach and cost of a recall, or of a delivery query, at present."""

    chunks: int
    """Calls of the campaign that it is about."""
    people: int
    """How many it is about."""
    calls: int
    """Calls to DingTalk; each counts against the month."""
    too_old: int
    """Calls that are left alone: DingTalk knows nothing of them after 24 hours."""
    under_way: int = 0
    """Calls that may still be made, and are waited for."""
    repeated: int = 0
    """People of calls that repeat one whose answer was lost: those that the first one reached keep its message."""
    unknown: int = 0
    """People of calls whose outcome is unknown, which can't be recalled."""
