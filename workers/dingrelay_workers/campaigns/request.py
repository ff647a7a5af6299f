"""What a campaign over HTTP is to be. Its recipients may come in the same request, as a file."""

from typing import Annotated, Any, BinaryIO, Literal

from pydantic import Field, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from dingrelay_producers.client.campaign_backend import Plan
from dingrelay_tasks.contract import AppName, DepartmentId, Document, Moment, SenderName, UserId
from dingrelay_tasks.message import Message

LARGEST_NUMBER = 2**31 - 1
MOST_NAMED = 10_000
"""People or departments that a request names one by one; a file names any number."""


class _AsMessage:
    """Documents the schema of a message, which is checked once its fields are filled in."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(TypeAdapter[Any](Message).core_schema)


class CampaignRequest(Document):
    """The request for a campaign. At least one of the fields that name people is needed.

    Attributes:
        name: for people; it need not be unique.
        message: DingTalk's own ``msg`` object; its texts may hold ``{name}`` fields.
        recipients: rows, as in a file: an object with a ``userid`` and the fields of the message.
        users: ids of users.
        departments: these and all below them, as the directory has them.
        everyone: all in the directory.
        without_users: people to leave out.
        without_departments: leave out people in or below them.
        malformed: whether rows that name no person are refused, and nothing is created, or skipped.
        start_at: not before this moment.
        quiet: hours of Beijing's day without calls, such as ``22:00-08:00``.
        rate: recipients a minute at most; null for DingTalk's limits only.
        weight: its share beside other campaigns that run.
        error_share: share of failed recipients at which it pauses itself.
        encoding: of the files, such as ``gb18030``; empty for UTF-8 or GB18030, by their bytes.
    """

    app: AppName = "default"
    sender: SenderName = ""
    name: Annotated[str, Field(pattern=r"^[^\x00-\x1f]{1,200}$")]
    message: Annotated[dict[str, Any], _AsMessage]
    recipients: Annotated[
        list[dict[str, Any]], Field(max_length=MOST_NAMED, default_factory=list[dict[str, Any]])
    ]
    users: Annotated[list[UserId], Field(max_length=MOST_NAMED, default_factory=list[UserId])]
    departments: Annotated[
        list[DepartmentId], Field(max_length=MOST_NAMED, default_factory=list[DepartmentId])
    ]
    everyone: bool = False
    without_users: Annotated[
        list[UserId], Field(max_length=MOST_NAMED, default_factory=list[UserId])
    ]
    without_departments: Annotated[
        list[DepartmentId], Field(max_length=MOST_NAMED, default_factory=list[DepartmentId])
    ]
    malformed: Literal["refuse", "skip"] = "refuse"
    start_at: Moment | None = None
    quiet: Annotated[str, Field(max_length=16)] = ""
    rate: Annotated[int, Field(ge=1, le=LARGEST_NUMBER)] | None = None
    weight: Annotated[int, Field(ge=1, le=1_000)] = 1
    error_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    encoding: Annotated[str, Field(max_length=32)] = ""

    @property
    def names_people(self) -> bool:
        """Whether it names people itself, without a file."""
        return bool(self.recipients or self.users or self.departments or self.everyone)

    def plan(self, *, sender: str, recipients: BinaryIO | None, without: BinaryIO | None) -> Plan:
        """The campaign, with the files that came with it."""
        fields: dict[str, Any] = dict(self)
        fields |= {"sender": sender, "recipients": recipients or self.recipients or None}
        return Plan(**fields, without=without)


UPLOAD_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["campaign"],
    "properties": {
        "campaign": {"$ref": "#/components/schemas/CampaignRequest"},
        "recipients": {
            "type": "string",
            "contentMediaType": "application/octet-stream",
            "description": "CSV with a column `userid` under a header, or one JSON object a line.",
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
