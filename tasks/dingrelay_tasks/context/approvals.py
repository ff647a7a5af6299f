"""Approvals as a body sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from dingrelay_tasks.context.approval_states import ApprovalChange


@dataclass(frozen=True, slots=True)
class Candidate:
    """An approval instance that may be the one of a call without an answer, or may not.

    Attributes:
        title: as DingTalk shows it; empty if the instance can't be read.
        created: when it was made, in DingTalk's spelling.
        link: where a person can look at it.
    """

    id: str
    title: str = ""
    created: str = ""
    link: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """What a look-up brought.

    Attributes:
        instance: the id of the one whose form is surely equal; it is this job's now.
        candidates: instances that may be this job's, if there is no `instance`.
    """

    instance: str | None = None
    candidates: Sequence[Candidate] = ()


class Approvals(Protocol):
    """Approval instances of the job's app."""

    async def check(self, process_code: str, form: Sequence[tuple[str, str]]) -> None:
        """Check a form against its template, if that can be read.

        Raises:
            ContractError: DingTalk would refuse it; names the field.
        """
        ...

    async def create(
        self,
        *,
        process_code: str,
        originator: str,
        department: int,
        form: Sequence[tuple[str, str]],
        approvers: Sequence[tuple[str, Sequence[str]]],
        target_actioners: Sequence[tuple[str, Sequence[str]]],
        cc: Sequence[str],
        cc_position: str | None,
    ) -> str:
        """Create an instance; its id. `form` holds (name, value as DingTalk's string)."""
        ...

    async def find(
        self,
        *,
        process_code: str,
        originator: str,
        form: Sequence[tuple[str, str]],
        since: datetime,
    ) -> Found:
        """The earliest instance with an equal form that no other job has, made since then.

        It is this job's for good. `since` is a moment of `Context.now`'s clock; the difference to
        DingTalk's is allowed for.
        """
        ...

    async def look(self, instance: str, *, patient: bool = False) -> ApprovalChange | None:
        """How an instance stands; None if DingTalk knows none with this id.

        Args:
            instance: its id.
            patient: no caller waits for the answer. If DingTalk can't be called now, no attempt is
                spent.

        Raises:
            Wait: DingTalk can't be called now, and the caller is patient.
        """
        ...
