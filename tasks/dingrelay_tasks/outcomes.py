"""How a body ends other than by returning its result."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar

from dingrelay_tasks.sentence import en


class Interruption(Exception):
    """Base of what a body raises to say how its job goes on or ends."""


class Wait(Interruption):
    """Run me again later. What `Context.once` remembers is kept.

    Attributes:
        delay: how long until the job is looked at again. An event may wake it earlier.
        reason: what it waits for, one short phrase.
    """

    def __init__(self, delay: timedelta, reason: str) -> None:
        super().__init__(en("waits {:g} s: {}", delay.total_seconds(), reason))
        self.delay = delay
        self.reason = reason


class Unknown(Interruption):
    """The call left, no answer came, and the effect cannot be looked up: the job ends `unknown`.

    Attributes:
        candidates: what may be the effect, as JSON objects with an ``id`` and a ``link`` each.
    """

    def __init__(self, reason: str, *, candidates: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.candidates = list(candidates)


class Refused(Interruption):
    """The job can't be carried out as asked, whatever DingTalk would say: it ends `dead`.

    Attributes:
        code: a short machine word, such as ``departments_failed``.
        hint: what to do about it.
    """

    def __init__(self, code: str, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.hint = hint


class CallRefused(Exception):
    """DingTalk refuses a call for good: it did nothing, and would be refused again. Not caught, it ends the job `dead`.

    Attributes:
        name: the class of the refusal: ``permanent``, ``permission``, ``not_found`` or ``quota``.
        code: DingTalk's own, such as ``60121`` or ``todo.taskCreate.paramError``.
        message: DingTalk's own words, without secrets.
    """

    name: ClassVar[str]
    code: str
    message: str


class OutOfScope(Refused):
    """DingTalk does not show this department or user to the app (API §3.1: 50002, 50004).

    It may exist or not.
    """

    def __init__(self, what: str) -> None:
        super().__init__(
            "out_of_scope",
            en("{} is outside the app's contacts scope", what),
            en("Widen the contacts scope of the app in DingTalk's developer console."),
        )


class CallForgotten(Refused):
    """DingTalk has no report on a call of work notifications: it is over a day old (API §2.2, §2.3)."""

    def __init__(self) -> None:
        super().__init__(
            "call_forgotten",
            en("DingTalk says nothing about the call: it is older than 24 hours, or unknown"),
            en("Deliveries can be asked about for 24 hours."),
        )


class CampaignDeleted(Refused):
    """The campaign that the job is about was deleted, and with it what is known of its calls."""

    def __init__(self) -> None:
        super().__init__(
            "campaign_deleted",
            en("the campaign has been deleted"),
            en("Recall or confirm a campaign before you delete it."),
        )


class Withdrawn(Interruption):
    """The owner of the job, such as a campaign, no longer wants its call: it ends `cancelled`."""


class Duplicate(Interruption):
    """Every recipient has this content, or the day's messages, already: it ends `duplicate`.

    Attributes:
        result: the result to keep in the record.
    """

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(en("every recipient has this content, or the day's messages, already"))
        self.result = result
