"""Documents of campaigns: the plan, the check, the state; and what is said with their verbs."""

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, BinaryIO, Literal, NamedTuple, Required, Self, TypedDict

from pydantic import AliasChoices, BaseModel, Field

from dingrelay_producers.store.states import CampaignStage, CampaignState
from dingrelay_tasks.addresses import AddressKind
from dingrelay_tasks.asked import Asked
from dingrelay_tasks.contract import (
    AppName,
    ContractError,
    Document,
    SenderName,
    UserId,
    UserIdText,
)
from dingrelay_tasks.sentence import Kept, en, joined, writable

NAME = r"^[^\x00-\x1f]*$"
LONGEST_NAME = 200

Recipients = str | os.PathLike[str] | BinaryIO | Iterable[object]
"""A path or an open binary file with CSV under a header or one JSON object a line; or userids, or
mappings with a ``userid``."""


Identifier = AddressKind | Literal["userid", "name"]
"""Kinds of what identifies a person."""
Cause = Literal["unknown", "left", "several", "different", "empty", "value", "malformed"]
"""Why a row is skipped: its person is not in the directory, or has left; its name is that of several people; its cells
are of different people; nothing stands where it should name one; it lacks a value of the text; or it can't be read."""
_UNMATCHED: frozenset[Cause] = frozenset({"unknown", "left", "several", "different"})


def split_causes(causes: Mapping[Cause, int]) -> tuple[int, int]:
    """How many rows with these causes are malformed, and how many can be read but do not match one person."""
    unmatched = sum(rows for cause, rows in causes.items() if cause in _UNMATCHED)
    return sum(causes.values()) - unmatched, unmatched


class Malformed(NamedTuple):
    """A row that names no person, and why.

    Attributes:
        line: of the file, from 1, or the row's number in an iterable; 0 where it has none.
        pasted: it is a line of the pasted text.
        text: what stands where the row should name a person; all of a row with nothing there.
        users: people that the row may mean, also those who have left.
        cause: of the problem.
        cells: what may identify further people, kind and value, until these are looked up.
    """

    line: int
    problem: str
    pasted: bool = False
    text: str = ""
    users: tuple[str, ...] = ()
    cause: Cause = "malformed"
    cells: tuple[tuple[Identifier, str], ...] = ()

    @property
    def candidates(self) -> Sequence[str]:
        """The choice of people that the row leaves."""
        return self.users if self.cause in {"several", "different"} else ()

    def __str__(self) -> str:
        if not self.line:
            return self.problem
        return en("{}: {}", self.place, self.problem)

    @property
    def outcome(self) -> Literal["malformed", "unmatched"]:
        """Its outcome in the report."""
        return "unmatched" if self.cause in _UNMATCHED else "malformed"

    @property
    def place(self) -> str:
        """The row's position in the file, for people."""
        if self.pasted:
            return en("line {} of the pasted text", self.line)
        return en("line {}", self.line)


class MalformedRecipients(ContractError):
    """Rows name no person, so nothing is done.

    Attributes:
        count: how many there are.
        counts: how many are malformed, and how many do not match one person, in words.
        first: some of them.
    """

    def __init__(self, what: str, causes: Mapping[Cause, int], first: Sequence[Malformed]) -> None:
        self.count = sum(causes.values())
        malformed, unmatched = split_causes(causes)
        words: list[str] = []
        if malformed:
            words.append(
                en("1 row is malformed")
                if malformed == 1
                else en("{} rows are malformed", malformed)
            )
        if unmatched:
            words.append(
                en("1 row does not match one person")
                if unmatched == 1
                else en("{} rows do not match one person", unmatched)
            )
        self.counts = joined(", ", words)
        self.first = tuple(first)
        lines = [str(row) for row in first]
        if self.count > len(first):
            lines.append(en("and {} more", self.count - len(first)))
        super().__init__(what, self.counts + ":\n" + joined("\n", lines))


class Plan(TypedDict, total=False):
    """The plan of a campaign. Each person that the recipients, users and departments name gets it once.

    Attributes:
        name: for people; it need not be unique.
        message: DingTalk's own ``msg`` object; its texts may hold ``{name}`` fields.
        app: by which app it is sent.
        sender: as for a job.
        recipients: a file or an iterable of any length; see `Recipients`.
        users: ids of users.
        departments: these and all below them, as the directory has them.
        everyone: all in the directory.
        pasted: people, one a line or separated by commas: userids, mobiles, job numbers or names; or rows of a
            table that was copied, with tabs and its headings.
        without: people to leave out, as `recipients`.
        without_users: people to leave out, by their ids.
        without_departments: leave out people in or below them.
        without_pasted: people to leave out, as `pasted`.
        without_campaigns: leave out the people of these campaigns, by their ids.
        malformed: whether rows that name no person are refused, and nothing is created, or skipped.
        start_at: not before this moment, which has a zone.
        quiet: hours of Beijing's day without calls, such as ``22:00-08:00``.
        rate: recipients a minute at most; None for DingTalk's limits only.
        weight: its share beside its sender's other campaigns that run.
        error_share: share of failed recipients at which it pauses itself.
        encoding: of the files, such as ``gb18030``; empty for UTF-8 or GB18030, by their bytes.
        column: of the recipients, which names people: ``NAME`` if it holds userids, or ``KIND=NAME``, such as
            ``mobile=phone``; empty for the usual names.
    """

    name: Required[str]
    message: Required[dict[str, Any]]
    app: str
    sender: str
    recipients: Recipients | None
    users: Sequence[str]
    departments: Sequence[int]
    everyone: bool
    pasted: str
    without: Recipients | None
    without_users: Sequence[str]
    without_departments: Sequence[int]
    without_pasted: str
    without_campaigns: Sequence[str]
    malformed: Literal["refuse", "skip"]
    start_at: datetime | None
    quiet: str
    rate: int | None
    weight: int
    error_share: float
    encoding: str
    column: str


class SkippedRow(BaseModel, frozen=True):
    """A row that names no person, and was skipped."""

    line: int
    problem: Kept
    pasted: bool = False
    """Whether it is a line of the pasted text, not of the file."""
    users: list[UserIdText] = Field(default_factory=list[str], exclude_if=lambda users: not users)
    """People that it may mean."""
    cause: Cause = "malformed"

    @classmethod
    def of(cls, row: Malformed) -> Self:
        """The row as JSON can spell it: what it quotes may be no Unicode."""
        return cls(
            line=row.line,
            problem=writable(row.problem),
            pasted=row.pasted,
            users=[*row.users],
            cause=row.cause,
        )

    def __str__(self) -> str:
        return str(Malformed(self.line, self.problem, self.pasted))

    @property
    def place(self) -> str:
        """See `Malformed`."""
        return Malformed(self.line, self.problem, self.pasted).place


class FirstRecipient(BaseModel, frozen=True):
    """One of the first people of a campaign, and what they get."""

    userid: UserIdText
    name: str
    """Name in the directory; empty if it has none."""
    message: dict[str, Any]
    """DingTalk's `msg` object with its fields filled in."""


class CampaignPreview(BaseModel, frozen=True, json_schema_serialization_defaults_required=True):
    """Cost of a campaign, and the people that it will not reach, as far as that is known now."""

    recipients: int
    """People, each once."""
    calls: int
    plain_calls: int
    """How many calls it would be if all got the same message."""
    not_in_directory: int | None
    """People who are looked up at DingTalk before their calls, and left out if it does not know them; null
    where there are no look-ups."""
    left: int | None
    """How many of those have left; null as well for more than 200,000 people, like the three counts below."""
    out_of_range: int | None
    """People in the directory who do not see the app; null where its range is not known."""
    had_it_today: int | None
    """People who have this content from the app today, and would not get it again."""
    at_daily_limit: int | None
    """People who have 500 messages of the app today, and would get no more."""
    minutes: float
    """Duration of sending with all limits to itself."""
    waiting_minutes: float
    """Until what waits already, or runs as another campaign of the app, is through."""
    limit: Kept
    """The limit that decides the duration; empty for none."""
    starts_at: datetime
    """When it may send first."""
    ends_at: datetime
    """When it is through, after what waits already and the quiet hours in between."""
    quota_used: int
    """Calls of this month that are used already."""
    quota_limit: int | None
    """Calls of the month; null for no limit."""
    quota_share: float | None
    """Share of the month's calls that this campaign takes; null without a limit."""
    fits: bool
    """Whether it gets through before broadcasts have to stop."""
    duplicates: int
    """Rows that repeated a person."""
    malformed: int
    """Rows that are skipped since they name no person, can't be read, or lack a value of the text."""
    unmatched: int = 0
    """Rows that are skipped since they do not match one person of the directory."""
    causes: dict[Cause, int] = {}
    """Causes of both; empty of a check of an older release."""
    excluded: int = 0
    """People who were named and taken out."""
    file_rows: int = 0
    """Rows of the file that names people."""
    checked_at: datetime
    """When this was found."""
    absent: list[UserIdText] = []
    """Up to ten people who are not in the directory and have not left."""
    skipped: list[SkippedRow] = []
    """Some of the rows that are skipped."""
    first: list[FirstRecipient] = []


class CampaignStatus(
    BaseModel, frozen=True, from_attributes=True, json_schema_serialization_defaults_required=True
):
    """A campaign: what it sends, how, and how far it has come."""

    id: str
    name: str
    app: str
    sender: str = ""
    state: CampaignState
    """In the words of 0.2.0: `draft` until it is started, whether it is ready or not."""
    stage: CampaignStage
    """Position in its life; of a draft the `state` says the same until it is `ready`, and of a `scheduled` one `running`."""
    version: int = 1
    """One more with each change of what is written of it; 1 of one of 0.2.0."""
    reason: Kept
    """Why it is paused, in one sentence."""
    waits: Kept = ""
    """Why none of its calls leaves now, or why they leave slowly, in one sentence; only where one campaign is looked at."""
    message: dict[str, Any]
    """DingTalk's own `msg` object; its texts may hold `{name}` fields. Empty of a draft in a list."""
    quiet: str
    """Hours of Beijing's day without calls, such as `22:00-08:00`; empty for none."""
    rate: int | None
    """Recipients a minute at most; null for DingTalk's limits only."""
    weight: int
    """Share of the limits beside its sender's other campaigns that run; senders share them evenly."""
    error_share: float
    """Share of failed recipients at which it pauses itself."""
    recipients: int
    """People, each once."""
    duplicates: int
    """Rows that repeated a person."""
    malformed: int
    """Rows that were skipped since they name no person, can't be read, or lack a value of the text."""
    unmatched: int = 0
    """Rows that were skipped since they do not match one person of the directory."""
    excluded: int
    """People who were named and taken out."""
    planned: Annotated[int, Field(validation_alias=AliasChoices("planned", "chunks"))]
    """Calls that it takes."""
    ended: Annotated[int, Field(validation_alias=AliasChoices("ended", "settled"))]
    """How many of them have ended. The counts below belong to these."""
    calls: int
    """Calls that DingTalk took."""
    accepted: int
    """People in the calls that it took."""
    left_out: int
    """People left out since DingTalk would silently have dropped the message."""
    failed: int
    """People whose call was refused, or whose outcome is unknown."""
    created_at: datetime
    updated_at: datetime | None = None
    """When its text, people or rules were changed last; null of one of 0.2.0."""
    updated_by: UserIdText = ""
    start_at: datetime | None
    """Not before this moment."""
    started_at: datetime | None
    ended_at: datetime | None
    skipped: list[SkippedRow] = []
    """Some of the rows that were skipped; only until its start, where one campaign is looked at."""
    preview: CampaignPreview | None = None
    """Result of the check when the campaign was made, without `first`; only where one campaign is looked at. Null of
    one of 0.2.0, and where Redis could not be used."""


class StartRequest(Document):
    """The version of a campaign that is started."""

    version: Annotated[int, Field(ge=1)] | None = None
    """Version that was read: refused where the campaign has another one by now (409). Null for the present one."""


class ApproveRequest(StartRequest):
    """The version of a campaign that is decided on."""


ANY_VERSION = ApproveRequest()


class RejectRequest(ApproveRequest):
    """Why a campaign is rejected."""

    reason: Annotated[
        str,
        Field(
            title=en("Why, for those who wrote it"),
            min_length=1,
            max_length=500,
            pattern=r"^[^\x00]*$",
        ),
    ]


class CopyRequest(Document):
    """The parts of a campaign that a copy takes with it."""

    people: bool = True
    """Whether it has the same people, as they were chosen, or the text and the rules alone."""


WITH_PEOPLE = CopyRequest()


class ConfirmRequest(Document):
    """Calls whose delivery is queried; null for all of the last 24 hours."""

    sample: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None


ALL_CALLS = ConfirmRequest()


class TestRequest(Document):
    """The recipients of a campaign's test."""

    users: Annotated[list[UserId], Field(max_length=5, default_factory=list[UserId])]
    """Writers or reviewers of it; without them the person who asks."""
    fields: Annotated[dict[str, str], Field(max_length=100, default_factory=dict[str, str])]
    """Values of the message's fields; without them it is that of the first recipient."""


class TemplateRequest(Document):
    """A message to be kept under a name."""

    name: Annotated[
        str,
        Field(pattern=NAME, min_length=1, max_length=LONGEST_NAME),
        Asked("A name for people, one of its app and sender.", "NAME", argument=True),
    ]
    app: AppName = "default"
    message: Annotated[
        dict[str, Any],
        Asked(
            "DingTalk's own msg object; its texts may hold {name} fields.", metavar="JSON|@FILE|@-"
        ),
    ]
    """DingTalk's own `msg` object, complete or not; its texts may hold `{name}` fields."""
    sender: SenderName = ""
    replaces: Annotated[
        str,
        Field(max_length=64),
        Asked(
            "Revision of the template of this name that you have read, as `template show` names it."
        ),
    ] = ""
    """Revision that was read of the template with this name, which is replaced: refused where it has another one by now
    (409). Empty for a name without a template."""


class MessageTemplate(BaseModel):
    """A message that is kept, from which campaigns are begun."""

    id: str
    name: str
    app: str
    sender: str
    message: dict[str, Any]
    revision: str
    """Digest of the message: another one after each change."""
    kept_by: UserIdText = ""
    """The one who changed it last: a userid, the id of an API key or a user of a shell; empty where the audit of the
    last 400 days has no change."""
    kept_at: datetime | None = None
