"""Work notifications as a body sees them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dingrelay_tasks.names import Json


@dataclass(frozen=True, slots=True)
class DailyVerdict:
    """Which users a work notification may go to today (API §2.1: the rest would get nothing).

    Attributes:
        perhaps: of `users`, those who may have the content through a department.
    """

    users: list[str]
    duplicate: list[str] = field(default_factory=list)
    daily_cap: list[str] = field(default_factory=list)
    perhaps: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RecipientVerdict:
    """Which users a work notification can reach; the rest surely gets nothing (API §2.1).

    Attributes:
        unknown_user: DingTalk knows no user with this userid.
        out_of_scope: outside the app's visible range (API §11.11).
        unverified: of `users`, those that could not be looked up: DingTalk or the directory is away.
    """

    users: list[str]
    unknown_user: list[str] = field(default_factory=list)
    out_of_scope: list[str] = field(default_factory=list)
    unverified: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SentCall:
    """DingTalk took one work-notification call."""

    task_id: int
    request_id: str


SAME_CONTENT_CODE = "143106"
"""DingTalk's code for a user who has this content already that day (API §2.3)."""


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What DingTalk knows of a call's delivery (API §2.3). `finished` is False while it works."""

    finished: bool
    invalid: list[str] = field(default_factory=list)
    forbidden: list[Json] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def had_it(self) -> list[str]:
        """Users who have the content by an earlier call of that day."""
        return [each["userid"] for each in self.forbidden if each["code"] == SAME_CONTENT_CODE]


class Messages(Protocol):
    """Work notifications of the job's app."""

    @property
    def users_per_call(self) -> int:
        """How many users a call may have: what DingTalk takes, or what the app's limits allow."""
        ...

    async def reachable(self, users: Sequence[str]) -> RecipientVerdict:
        """Which of these users can be reached at all, as far as that is surely known.

        Raises:
            Wait: look-ups remain for the next run.
        """
        ...

    async def reserve(
        self, users: Sequence[str], message: Mapping[str, Any], *, step: str, anyway: bool
    ) -> DailyVerdict:
        """Reserve today's limits for these users; the same job may ask again.

        Args:
            users: the recipients of the call.
            message: DingTalk's ``msg`` object.
            step: whose call it is.
            anyway: reserve for all of them, whatever they have.

        Raises:
            Wait: another job's call may just be leaving, or the day ends.
        """
        ...

    async def reserve_departments(
        self, departments: Sequence[int], message: Mapping[str, Any], *, step: str, anyway: bool
    ) -> list[int]:
        """Reserve the message of today for these departments; those that have not got it yet.

        Raises:
            Wait: as of `reserve`.
        """
        ...

    async def reserve_everyone(
        self, message: Mapping[str, Any], *, step: str, anyway: bool
    ) -> bool:
        """Reserve one of the day's three sends to everyone; False: everyone has the message.

        Raises:
            Refused: the day's sends to everyone are used up.
            Wait: as of `reserve`.
        """
        ...

    async def send(
        self,
        message: Mapping[str, Any],
        *,
        users: Sequence[str] = (),
        departments: Sequence[int] = (),
        everyone: bool = False,
    ) -> SentCall:
        """One call: at most 100 users, or at most 20 departments, or everyone."""
        ...

    async def delivery(self, task_id: int) -> DeliveryReport:
        """What became of an accepted call (at most 100 recipients).

        Raises:
            CallForgotten: it is older than 24 hours.
        """
        ...

    async def withdraw_message(self, task_id: int) -> bool:
        """Take back what a call brought; False: DingTalk refuses, as it does after 24 hours."""
        ...
