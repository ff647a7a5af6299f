"""The sections of the TOML file, each about one feature."""

import re
from datetime import timedelta
from math import inf
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, field_validator

from dingrelay_tasks.sentence import en

LOOKS = (600.0, 1_800.0, 7_200.0, 21_600.0)
"""Most approvals are decided within hours, and each look is one of the month's calls."""
SHORTEST_SYNC = timedelta(minutes=10)
"""A large organisation takes minutes to read, at 20 calls a second."""
LONGEST_SYNC = timedelta(days=28)
"""After 30 days without a sync the directory is not used to check recipients any more."""
Seconds = Annotated[float, Field(gt=0, le=10 * 366 * 86_400)]
"""A length of time: ten years at most, so that moments and milliseconds can be computed from it."""
SHORTEST_KEPT = timedelta(days=1)
"""Data read before a person left is written by then, and can't bring them back."""
LONGEST_KEPT = timedelta(days=3_650)


_DURATION = re.compile(r"(0|[1-9][0-9]{0,4})(s|m|h|d)", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str) -> timedelta:
    """The length of a text such as ``90d``, ``12h``, ``30m`` or ``0s``, 99,999 of a unit at most.

    Raises:
        ValueError: it can't be read; the message says how it should look.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("must be like 90d, 12h or 30m")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _between(shortest: timedelta, longest: timedelta, problem: str) -> AfterValidator:
    """Checks that a length of time is from one to another, if it is given at all."""

    def check(text: str) -> str:
        if text and not shortest <= duration(text) <= longest:
            raise ValueError(problem)
        return text

    return AfterValidator(check)


class QuotaSettings(BaseModel, extra="forbid", frozen=True):
    """The organisation's monthly calls (API §6)."""

    edition: str = ""
    """``standard`` (5,000 calls, 3,000 Webhook & Stream messages), ``professional`` (200,000 and 50,000), a number of
    calls, or empty: count and show only."""

    @property
    def monthly_calls(self) -> int | None:
        """The number of calls a month, or None for no limit."""
        editions = {"": None, "standard": 5_000, "professional": 200_000}
        return editions[self.edition] if self.edition in editions else int(self.edition)

    @property
    def monthly_pushes(self) -> int | None:
        """The number of Webhook & Stream messages a month, if it is known: they are counted and shown only."""
        return {"standard": 3_000, "professional": 50_000}.get(self.edition)

    @field_validator("edition")
    @classmethod
    def _known_edition(cls, edition: str) -> str:
        if edition not in {"", "standard", "professional"} and not edition.isdecimal():
            raise ValueError("must be standard, professional, a number of calls, or empty")
        return edition


class ApprovalSettings(BaseModel, extra="forbid", frozen=True):
    """How approvals are followed after their creation."""

    follow: Literal["own", "all", "none"] | tuple[str, ...] = "own"
    """``own``: approvals that jobs create; ``all``: also those that people create, from their first
    event on; ``none``; or the process codes of templates of which all are followed, beside our own."""
    look_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the month's calls that may be spent on look-ups of approvals without events."""
    looks: Annotated[tuple[Seconds, ...], Field(min_length=1)] = LOOKS
    """Seconds without an event of an approval before its first look-up, its second …; the last one
    repeats."""


class CampaignSettings(BaseModel, extra="forbid", frozen=True):
    """Conditions for the start of campaigns, and retention of their data."""

    approve: str = "off"
    """Campaigns that need the approval of a second person to start: ``off`` (none), ``over 500`` (those to more
    people than that) or ``always``."""
    reviewers: tuple[str, ...] = ()
    """Userids of those who get a link to a campaign that is to be approved; empty: people with the role ``approve``."""
    shell_users: dict[str, str] = {}
    """Users of the operating system, such as ``alice`` or ``alice@host``, who are people: their userids. Others
    approve nothing on the command line."""
    keep_days: Annotated[int, Field(ge=0, le=3_650)] = 400
    """Days for which campaigns are kept with their people and their reports after their end, or, ready and never
    started, after their last change; 0: for ever."""
    unread_days: Annotated[int, Field(ge=0, le=365)] = 30
    """Days for which the names of those are kept who had not read it when DingTalk was asked; 0: not at all."""

    @property
    def approved_above(self) -> float:
        """The number of people above which a campaign needs an approval."""
        bounds = {"off": inf, "always": -1}
        return bounds[self.approve] if self.approve in bounds else int(self.approve.split()[1])

    def shell_person(self, user: str) -> str:
        """The userid of a user with a host, as `actor.system_user` names it; "" for one who is no person."""
        return self.shell_users.get(user) or self.shell_users.get(user.partition("@")[0], "")

    @field_validator("approve")
    @classmethod
    def _known_rule(cls, approve: str) -> str:
        if not re.fullmatch(r"off|always|over [0-9]{1,9}", approve):
            raise ValueError('must be "off", "always", or like "over 500"')
        return approve


class OidcSettings(BaseModel, extra="forbid", frozen=True):
    """An OpenID provider through which people sign in to the console."""

    issuer: str = ""
    """URL of the provider, as it names itself; empty: none."""
    client_id: str = ""
    """The console's id at the provider; `oidc_secret` belongs to it."""
    claim: str = "email"
    """The claim of ID tokens that identifies a person in the directory: ``email``, or one that holds the userid."""


class HistorySettings(BaseModel, extra="forbid", frozen=True):
    """Retention of ended jobs in SQL."""

    days: Annotated[int, Field(ge=0, le=3_650)] = 90
    """Days for which it is kept; 0: nothing is written."""
    content: bool = False
    """Whether the texts of messages are kept, too: they may be personal data."""


class SyncSettings(BaseModel, extra="forbid", frozen=True):
    """When the directory is synced automatically, for how long it keeps people who left, and what it is used for."""

    every: Annotated[str, _between(SHORTEST_SYNC, LONGEST_SYNC, en("must be from 10m to 28d"))] = ""
    """Length of the periods in each of which everything is read once, such as ``24h``, 10m to 28d;
    empty: only on request."""
    apps: tuple[str, ...] = ()
    """Apps whose directories are synced; all apps if empty."""
    keep_left: Annotated[
        str, _between(SHORTEST_KEPT, LONGEST_KEPT, en("must be from 1d to 3650d"))
    ] = ""
    """How long people who left stay in the directories of all apps, such as ``90d``, 1d to 3650d; empty:
    for ever."""
    check_recipients: bool = True
    """Whether users that do not exist, or are outside the app's visible range, are reported and not sent to, once
    the directory is synced; DingTalk drops their messages silently."""

    @property
    def every_ms(self) -> int:
        """The same in milliseconds; 0 for none."""
        return int(duration(self.every).total_seconds() * 1000) if self.every else 0

    @property
    def kept_left(self) -> timedelta | None:
        """How long people who left stay; None for ever."""
        return duration(self.keep_left) if self.keep_left else None
