"""Verbs of lanes: what people do to the jobs of an app that go in one, or to those of one sender. See `verbs`."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BaseModel, Field

from dingrelay_producers.actor import current_actor, current_reach
from dingrelay_producers.client.verbs import Admit, Audit, Question, Steps, verb
from dingrelay_producers.errors import LaneConflict, NotPermitted
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import transitions
from dingrelay_producers.store.record import milliseconds, moment_of
from dingrelay_producers.store.served_names import app_name
from dingrelay_tasks.asked import Asked
from dingrelay_tasks.contract import LANES, ContractError, Document, Moment, UserIdText
from dingrelay_tasks.robot_names import ROBOTS
from dingrelay_tasks.sentence import en

ALL = "all"
"""Name of all lanes."""
USUAL = timedelta(days=1)
"""A pause without an end is over a day later: one that is forgotten does not keep jobs for ever."""
LONGEST = timedelta(days=7)
"""Jobs are kept for longer."""
_MS = timedelta(milliseconds=1)
_NAME = re.compile(r"([A-Za-z0-9_-]{1,64}):([a-z]+)(?::([A-Za-z0-9_-]{1,64}))?")
_SCOPE = "limits:write"


class LaneName(NamedTuple):
    """A lane of an app, or one sender's jobs in it.

    Attributes:
        lane: `ALL` for each.
        sender: "" for all senders.
    """

    app: str
    lane: str
    sender: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """The lane that a text such as ``hr:bulk`` or ``hr:all:payroll`` names.

        Raises:
            ContractError: it names none.
        """
        match = _NAME.fullmatch(text)
        if match is None or match[2] not in (*LANES, ALL):
            lanes = ", ".join((*LANES, ALL))
            raise ContractError(
                "id", en("must be APP:LANE or APP:LANE:SENDER; the lanes are {}", lanes)
            )
        return cls(match[1], match[2], match[3] or "")

    def __str__(self) -> str:
        return ":".join(filter(None, self))

    @property
    def lanes(self) -> Sequence[str]:
        """The lanes that it stands for."""
        return LANES if self.lane == ALL else (self.lane,)

    def has(self, app: str, lane: str, sender: str) -> bool:
        """Whether all jobs of this app, lane and sender are among it."""
        in_lane = lane in {self.lane, *self.lanes}
        return app == self.app and in_lane and self.sender in {"", sender}


class Pausing(Document):
    """How long a lane is paused, and why."""

    until: Annotated[
        Moment | None,
        Field(title=en("Until; a day from now if you leave it empty")),
        Asked("2026-01-31T09:00, or +2h from now; a day if not given, a week at most."),
    ] = None
    """When its jobs go on by themselves, in a week at most; a day from now if not given."""
    reason: Annotated[
        str,
        Field(title=en("Why, for those who find it paused"), max_length=200, pattern=r"^[^\x00]*$"),
        Asked("Why, for those who find it paused."),
    ] = ""
    """Shown with the pause. Paused again without one, a lane keeps it."""


FOR_A_DAY = Pausing()


class Pause(BaseModel, frozen=True):
    """A lane that is paused."""

    id: str
    """The lane, such as `hr:bulk`; `hr:all:payroll` for one sender's jobs in all lanes."""
    app: str
    lane: str
    """`all` for each."""
    sender: str = Field(default="", exclude_if=lambda name: not name)
    """Sender whose jobs are paused; empty for all."""
    since: datetime
    until: datetime
    """When its jobs go on by themselves."""
    by: UserIdText
    """The one who paused it: a userid, the name of an API key, or a user of a shell."""
    reason: str = Field(default="", exclude_if=lambda reason: not reason)
    """Why, in the words of the one who paused it; empty for none."""

    @property
    def name(self) -> LaneName:
        """The lane, taken apart."""
        return LaneName(self.app, self.lane, self.sender)

    @classmethod
    def of(cls, name: LaneName, until: int, since: int, by: str, reason: bytes) -> Self:
        """A pause between two moments (ms)."""
        return cls(
            **name._asdict(),
            id=str(name),
            since=moment_of(since),
            until=moment_of(until),
            by=by,
            reason=reason.decode(),
        )


class Lanes:
    """Verbs of lanes, for the actor of the present task.

    A lane is named ``APP:LANE``, the jobs of one sender in it ``APP:LANE:SENDER``, and `ALL` stands for each lane. Each
    verb raises `ContractError` for what is no such name, `NotPermitted` where not all of it is the actor's, and
    `ServiceUnavailable` where Redis or the audit is away; `resume` raises `LaneConflict` where it is not paused.
    """

    NOUN = "lane"

    def __init__(self, _: Settings | None = None) -> None:
        """Needs no settings."""

    def paused(self, *, scope: str = "limits:read") -> Steps[list[Pause]]:
        """The lanes that are paused, of those that are the actor's to see, the latest first."""
        pauses = pauses_in((yield transitions.read_pauses()))
        return [pause for pause in pauses if _is_seen(pause, scope)]

    @verb(
        "POST /v1/lanes/{id}/pause",
        scope=_SCOPE,
        question=Question(
            en("Pause these jobs?"),
            en("Pause them"),
            en(
                "They are accepted as before and wait. What a worker has begun is finished, and messages can be taken back."
            ),
        ),
        done=en("The jobs are paused."),
    )
    def pause(self, lane: str, request: Pausing = FOR_A_DAY) -> Steps[Pause]:
        """Have no job of a lane, or of a sender in it, begin.

        Jobs are accepted as before and wait. What a worker has begun is finished, within seconds, and messages can be
        taken back. It ends by itself; paused once more, it ends at the new time. An app that no worker serves is refused.
        """
        name, ends = self._permitted(lane), milliseconds(request.until)
        if name.app != ROBOTS:
            names = [("id", app_name(name.app))]
            served, _ = yield Admit(names)
            served.check(names, current_reach().sees_name)
        by = current_actor().signature
        answer = yield from self._change(
            "pause",
            name,
            transitions.pause(
                name=str(name),
                ends=ends,
                usual=USUAL // _MS,
                longest=LONGEST // _MS,
                person=by,
                reason=request.reason,
            ),
            after={"until": None if ends is None else moment_of(ends).isoformat()},
            reason=request.reason,
        )
        if answer == b"late":
            raise ContractError("until", "must be in the future")
        if answer == b"far":
            raise ContractError("until", "must be within a week")
        until, since, reason = answer
        return Pause.of(name, until, since, by, reason)

    @verb(
        "POST /v1/lanes/{id}/resume",
        scope=_SCOPE,
        done=en("The jobs go on."),
    )
    def resume(self, lane: str) -> Steps[None]:
        """Let the jobs of a lane that is paused go on.

        They do so in the order in which they were accepted, as fast as the limits allow.
        """
        name = self._permitted(lane)
        if not (yield from self._change("resume", name, transitions.resume(name=str(name)))):
            raise LaneConflict(str(name), en("is not paused"))

    def _permitted(self, text: str) -> LaneName:
        name, reach = LaneName.parse(text), current_reach()
        for lane in name.lanes:
            # A lane is only whose all its senders are.
            if not reach.reaches(_SCOPE, app=name.app, lane=lane, sender=name.sender or "*"):
                raise NotPermitted("id", en("{} is not among what you may change", name))
            # A key sees jobs of all lanes, and changes those of its own.
            reach.check(_SCOPE, app=name.app, lane=lane, sender=name.sender)
        return name

    def _change(self, action: str, name: LaneName, call: Any, **more: Any) -> Steps[Any]:
        yield Audit(
            action, self.NOUN, [str(name)], name.app, "" if name.lane == ALL else name.lane, **more
        )
        return (yield call)


def pauses_in(answer: Sequence[Any]) -> list[Pause]:
    """The pauses in the answer of `transitions.read_pauses`, the latest first."""
    pauses = [
        Pause.of(LaneName.parse(name.decode()), until, since, by.decode(), reason)
        for name, until, since, by, reason in answer
    ]
    return sorted(pauses, key=lambda pause: pause.since, reverse=True)


def _is_seen(pause: Pause, scope: str) -> bool:
    reach = current_reach()
    return any(
        reach.reaches(scope, app=pause.app, lane=lane, sender=pause.sender)
        for lane in pause.name.lanes
    )
