"""What a campaign is to be, and how it stands."""

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Literal, Required, TypedDict

from dingrelay_producers.client.malformed_rows import Malformed
from dingrelay_producers.store.states import CampaignState

Recipients = str | os.PathLike[str] | BinaryIO | Iterable[object]
"""A path or an open binary file with CSV under a header or one JSON object a line; or userids, or
mappings with a ``userid``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a campaign is to be. Each person that the recipients, users and departments name gets it once.

    Attributes:
        name: for people; it need not be unique.
        message: DingTalk's own ``msg`` object; its texts may hold ``{name}`` fields.
        app: by which app it is sent.
        recipients: a file or an iterable of any length; see `Recipients`.
        users: ids of users.
        departments: these and all below them, as the directory has them.
        everyone: all in the directory.
        without: people to leave out, as `recipients`.
        without_departments: leave out people in or below them.
        malformed: whether rows that name no person are refused, and nothing is created, or skipped.
        start_at: not before this moment, which has a zone.
        quiet: hours of Beijing's day without calls, such as ``22:00-08:00``.
        rate: recipients a minute at most; None for DingTalk's limits only.
        weight: its share beside other campaigns that run.
        error_share: share of failed recipients at which it pauses itself.
        sender: as for a job.
        without_users: people to leave out, by their ids.
        encoding: of the files, such as ``gb18030``; empty for UTF-8 or GB18030, by their bytes.
    """

    name: str
    message: dict[str, Any]
    app: str = "default"
    recipients: Recipients | None = None
    users: Sequence[str] = ()
    departments: Sequence[int] = ()
    everyone: bool = False
    without: Recipients | None = None
    without_departments: Sequence[int] = ()
    malformed: Literal["refuse", "skip"] = "refuse"
    start_at: datetime | None = None
    quiet: str = ""
    rate: int | None = None
    weight: int = 1
    error_share: float = 0.1
    sender: str = ""
    without_users: Sequence[str] = ()
    encoding: str = ""


class PlanFields(TypedDict, total=False):
    """The fields of a `Plan` as keyword arguments."""

    name: Required[str]
    message: Required[dict[str, Any]]
    app: str
    sender: str
    recipients: Recipients | None
    users: Sequence[str]
    departments: Sequence[int]
    everyone: bool
    without: Recipients | None
    without_users: Sequence[str]
    without_departments: Sequence[int]
    malformed: Literal["refuse", "skip"]
    start_at: datetime | None
    quiet: str
    rate: int | None
    weight: int
    error_share: float
    encoding: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignPreview:
    """What a campaign will take, with all limits to itself.

    Attributes:
        recipients: people, each once.
        calls: how many calls that takes.
        plain_calls: how many it would be if all got the same message.
        not_in_directory: people who are looked up at DingTalk before their calls, and left out if it does
            not know them; None where there are no look-ups.
        minutes: of sending.
        limit: what makes it take that long; "" for nothing.
        starts_at: when it may send first.
        ends_at: when it is through, after the quiet hours in between.
        quota_used: calls of this month that are used already.
        quota_limit: calls of the month; None for no limit.
        quota_share: of the month's calls that this campaign takes; None without a limit.
        fits: whether it gets through before broadcasts have to stop.
        duplicates: rows that repeated a person.
        malformed: rows that name no person and are skipped.
        excluded: people who were named and taken out; 0 for a campaign that is stored.
    """

    recipients: int
    calls: int
    plain_calls: int
    minutes: float
    limit: str
    starts_at: datetime
    ends_at: datetime
    quota_used: int
    quota_limit: int | None
    quota_share: float | None
    fits: bool
    duplicates: int
    malformed: int
    excluded: int = 0
    not_in_directory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedCampaign:
    """A new draft.

    Attributes:
        excluded: people who were named and taken out.
        skipped: some of the rows that name no person.
    """

    id: str
    excluded: int
    skipped: tuple[Malformed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Which campaigns a list holds.

    Attributes:
        apps: those of these apps; None for any.
        sender: those of this sender; None for any.
        state: those in this state; None for any.
        after: behind the campaign with this moment of creation and this id.
    """

    apps: Collection[str] | None = None
    sender: str | None = None
    state: CampaignState | None = None
    after: tuple[datetime, str] | None = None


ALL = Chosen()


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignStatus:
    """A campaign as it stands.

    Attributes:
        reason: why it is paused, in one sentence.
        recipients: people, each once.
        duplicates: rows that repeated a person.
        malformed: rows that were skipped.
        planned: calls that it takes.
        ended: those of them that have ended. The counts below belong to these.
        calls: calls that DingTalk took.
        accepted: people in the calls that it took.
        left_out: people left out since DingTalk would silently have dropped the message.
        failed: people whose call was refused, or whose outcome is unknown.
    """

    id: str
    name: str
    app: str
    state: CampaignState
    reason: str
    recipients: int
    duplicates: int
    malformed: int
    planned: int
    ended: int
    calls: int
    accepted: int
    left_out: int
    failed: int
    created_at: datetime
    start_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    sender: str = ""
