"""Campaigns as JSON over HTTP."""

from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, Field

from dingrelay_producers.client.campaign_backend import CampaignStatus, CreatedCampaign
from dingrelay_producers.client.malformed_rows import Malformed
from dingrelay_producers.store.states import CampaignState
from dingrelay_tasks.contract import Document, UserId


class CampaignDocument(BaseModel, from_attributes=True):
    """A campaign as it stands."""

    id: str
    name: str
    app: str
    sender: str
    state: CampaignState
    reason: str
    """Why it is paused, in one sentence."""
    recipients: int
    """People, each once."""
    duplicates: int
    """Rows that repeated a person."""
    malformed: int
    """Rows that were skipped."""
    planned: int
    """Calls that it takes."""
    ended: int
    """Those of them that have ended. The counts below belong to these."""
    calls: int
    """Calls that DingTalk took."""
    accepted: int
    """People in the calls that it took."""
    left_out: int
    """People left out since DingTalk would silently have dropped the message."""
    failed: int
    """People whose call was refused, or whose outcome is unknown."""
    created_at: datetime
    start_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None


class SkippedRow(BaseModel):
    """A row that names no person."""

    line: int
    problem: str

    @classmethod
    def of(cls, row: Malformed) -> Self:
        """The row as JSON can spell it: what it quotes may be no Unicode."""
        return cls(line=row.line, problem=row.problem.encode("utf-8", "backslashreplace").decode())


class CreatedDocument(CampaignDocument):
    """A new draft."""

    excluded: int
    """People who were named and taken out."""
    skipped: list[SkippedRow]
    """Some of the rows that were skipped."""

    @classmethod
    def made(cls, status: CampaignStatus, created: CreatedCampaign) -> Self:
        """The draft with what was left out of it."""
        known = CampaignDocument.model_validate(status).model_dump()
        skipped = [SkippedRow.of(row) for row in created.skipped]
        return cls(**known, excluded=created.excluded, skipped=skipped)


class CampaignPage(BaseModel):
    """Some campaigns, latest first."""

    campaigns: list[CampaignDocument]
    next: str | None = None
    """Cursor of the next page; null where this is the last."""


class PreviewDocument(BaseModel, from_attributes=True):
    """What a campaign will take, with all limits to itself."""

    recipients: int
    calls: int
    plain_calls: int
    """How many calls it would be if all got the same message."""
    not_in_directory: int | None
    """People who are looked up at DingTalk before their calls, and left out if it does not know them; null
    where there are no look-ups."""
    minutes: float
    limit: str
    """What makes it take that long; empty for nothing."""
    starts_at: datetime
    ends_at: datetime
    quota_used: int
    """Calls of this month that are used already."""
    quota_limit: int | None
    quota_share: float | None
    """Of the month's calls that this campaign takes; null without a limit."""
    fits: bool
    """Whether it gets through before broadcasts have to stop."""
    duplicates: int
    malformed: int
    excluded: int


class ReasonDocument(BaseModel):
    """Why so many people did not get it."""

    outcome: str
    reason: str
    people: int


class ReportDocument(BaseModel, extra="allow"):
    """What became of a campaign's people, in figures."""

    id: str
    recipients: int
    outcomes: dict[str, int]
    """Outcome → people; together they are the recipients."""
    reasons: list[ReasonDocument]


class JobsDocument(BaseModel):
    """Jobs that were accepted."""

    jobs: int
    """How many there are; 0 where nothing is to be done."""
    ids: list[str]
    """The first hundred."""


class ConfirmRequest(Document):
    """Which calls to ask DingTalk about; null for all of the last 24 hours."""

    sample: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None


class TestRequest(Document):
    """The recipients of a campaign's test."""

    users: Annotated[list[UserId], Field(min_length=1, max_length=100)]
    fields: Annotated[dict[str, str], Field(max_length=100, default_factory=dict[str, str])]
    """Values of the message's fields; without them it is that of the first recipient."""
