"""The status in a job's record, as people and programs read it."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Self, TypeVar, cast

from pydantic import BaseModel, Field

from dingrelay_producers.errors import JobNotFound, UnreadableRecord
from dingrelay_producers.store import record
from dingrelay_producers.store.record import NEWER, Draft, moment_of
from dingrelay_producers.store.states import State
from dingrelay_producers.store.transitions import RECORD_FORMAT
from dingrelay_tasks.contract import UserIdText
from dingrelay_tasks.kinds import KINDS
from dingrelay_tasks.person_fields import people_in
from dingrelay_tasks.robot_names import target_of
from dingrelay_tasks.sentence import Kept, en, from_parts

STEP = "step:"
"""Prefix of record fields that hold outcomes of steps."""

_OPEN = frozenset(state for state in State if not state.ended)
_T = TypeVar("_T")


class Candidate(BaseModel, frozen=True):
    """An approval instance that may be the one that a job created, or may not."""

    id: str
    title: str = ""
    """Title in DingTalk; empty if it can't be read."""
    created: str = ""
    """When it was made, in DingTalk's spelling."""
    link: str = ""
    """Link for people."""


class ErrorAnswer(BaseModel, frozen=True):
    """A refusal as DingTalk put it."""

    status: int
    """HTTP status."""
    body: dict[str, Any]


class JobError(BaseModel, frozen=True, populate_by_name=True):
    """Why a job did not succeed, or not yet."""

    error_class: str = Field(alias="class")
    """The class of the error, such as ``permission``."""
    code: str
    """DingTalk's code, or a word of ours."""
    message: Kept
    hint: Kept = ""
    """Remedy."""
    candidates: list[Candidate] = Field(
        default_factory=list[Candidate], exclude_if=lambda candidates: not candidates
    )
    """Instances that the call may have made though its answer was lost."""
    answer: ErrorAnswer | None = Field(default=None, exclude_if=lambda answer: answer is None)
    """DingTalk's own words, of an api-call."""

    @classmethod
    def from_record(cls, text: str) -> Self:
        """The error in a record."""
        return cls.model_validate(from_parts(_object(text)))

    @property
    def prefix(self) -> str:
        """The code, as it stands before the message; empty where the message begins with it."""
        begins = self.code == self.error_class or self.message.startswith(f"{self.code}:")
        return "" if begins else self.code


class Resolved(BaseModel, frozen=True):
    """A person's statement on a call whose answer was lost."""

    happened: bool
    """Whether DingTalk carried it out."""
    by: UserIdText = ""
    at: datetime


class WaitsFor(BaseModel, frozen=True):
    """Outage, hold or pause whose end a job waits for; all but a pause are probed now and then."""

    what: Literal["api", "host", "app", "pause"]
    """An API or a host of DingTalk's that does not answer as it should, the app, which DingTalk refuses, or the pause of a lane."""
    name: str


class JobStatus(BaseModel, frozen=True):
    """A job as its record shows it."""

    id: str
    kind: str
    app: str
    lane: str
    sender: str = Field(default="", exclude_if=lambda name: not name)
    """Sender; empty if unnamed."""
    target: str = Field(default="", exclude_if=lambda name: not name)
    """Robot, group or session of a message to robots, such as `group:oncall`; empty for other jobs."""
    state: State
    attempts: int = 0
    """Attempts made; waiting for a limit costs none."""
    throttles: int = 0
    """Throttling answers of DingTalk that the job met."""
    created_at: datetime
    started_at: datetime | None = None
    settled_at: datetime | None = None
    due_at: datetime | None = None
    """When a job that waits runs next; of one that `waits_for` an outage, when that is probed next; of one that is paused, when that ends by itself."""
    waits_for: WaitsFor | None = Field(default=None, exclude_if=lambda awaited: awaited is None)
    """Outage, hold or pause whose end it waits for, if it does."""
    result: dict[str, Any] | None = None
    error: JobError | None = None
    resolved: Resolved | None = Field(
        default=None, exclude_if=lambda resolution: resolution is None
    )
    """How a person resolved it, if one did."""

    @classmethod
    def from_record(cls, job_id: str, record: Mapping[bytes, bytes]) -> Self:
        """The status in a record's Redis hash.

        Raises:
            UnreadableRecord: a field is missing or can't be read; it is named.
        """
        fields = _Fields(job_id, record)
        state = fields.needed("state", State)
        waits = not state.ended and state != State.RUNNING
        return cls(
            id=job_id,
            kind=fields.needed("kind", str),
            app=fields.needed("app", str),
            lane=fields.needed("lane", str),
            sender=fields.read("sender", str) or "",
            target=target_of(fields.needed("app", str), fields.read("summary", str) or ""),
            state=state,
            attempts=fields.read("attempts", int) or 0,
            throttles=fields.read("throttles", int) or 0,
            created_at=fields.needed("created", moment_of),
            started_at=fields.read("started", moment_of),
            settled_at=fields.read("settled", moment_of),
            due_at=fields.read("due", moment_of) if waits else None,
            waits_for=fields.read("waits_for", WaitsFor.model_validate_json)
            if state == State.SNOOZED
            else None,
            result=_result(fields, state),
            error=fields.read("error", JobError.from_record),
            resolved=fields.read("resolved", Resolved.model_validate_json),
        )

    @classmethod
    def from_answer(cls, job_id: str, answer: Sequence[Sequence[bytes]]) -> Self:
        """The status in the answer of `record.read`.

        Raises:
            JobNotFound: there is no record.
            UnreadableRecord: as `from_record`.
        """
        fields = record.fields(answer)
        if b"state" not in fields:
            raise JobNotFound(job_id)
        return cls.from_record(job_id, fields)

    @classmethod
    def of_draft(cls, draft: Draft, *, created: datetime) -> Self:
        """The status of a job that was written just now."""
        return cls(
            id=draft.id,
            kind=draft.kind,
            app=draft.app,
            lane=draft.lane,
            sender=draft.sender,
            target=target_of(draft.app, draft.summary),
            state=State.QUEUED,
            created_at=created,
            due_at=max(created, moment_of(draft.due)),
        )

    def to_json(self, context: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The job as JSON values, the same on the command line and over HTTP. `context`: pydantic's."""
        return self.model_dump(mode="json", by_alias=True, context=context)


class _Fields:
    """The fields of a record, each read in its own way."""

    def __init__(self, job_id: str, record: Mapping[bytes, bytes]) -> None:
        self.job_id = job_id
        self._record = record

    def needed(self, name: str, parse: Callable[[str], _T]) -> _T:
        """A field that every record has."""
        value = self._record.get(name.encode())
        if not value:
            raise UnreadableRecord(self.job_id, name, "is missing")
        return self._parsed(name, value, parse)

    def read(self, name: str, parse: Callable[[str], _T]) -> _T | None:
        """An optional field."""
        value = self._record.get(name.encode())
        return self._parsed(name, value, parse) if value else None

    def steps(self) -> dict[str, Any]:
        """The outcomes of steps, by name."""
        fields = {name.decode(errors="replace"): value for name, value in self._record.items()}
        return {
            name.removeprefix(STEP): self._parsed(name, value, json.loads)
            for name, value in fields.items()
            if name.startswith(STEP)
        }

    def _parsed(self, name: str, value: bytes, parse: Callable[[str], _T]) -> _T:
        # Invalid UTF-8 is reported here, if it matters.
        text = value.decode(errors="replace")
        try:
            return parse(text)
        except (ValueError, OverflowError, OSError):
            # Only of the state, since other fields may hold what only their reader may see.
            shown = en("is {!r:.60}, which ", text) if name == "state" else ""
            raise UnreadableRecord(self.job_id, name, en("{}can't be read", shown)) from None


def state_of(job_id: str, text: bytes) -> State:
    """The state in a record.

    Raises:
        UnreadableRecord: this release has no such state, or `text` is `NEWER`.
    """
    if text == NEWER:
        raise UnreadableRecord(
            job_id, "v", en("is more than {}, the last that this release knows", RECORD_FORMAT)
        )
    return _Fields(job_id, {b"state": text}).needed("state", State)


def _result(fields: _Fields, state: State) -> dict[str, Any] | None:
    """The result, or what a job that ended otherwise had done until then."""
    result = fields.read("result", _object)
    if result is not None:
        return result
    kind = KINDS.get(fields.needed("kind", str))
    if not state.ended or kind is None or kind.so_far is None:
        return None
    return kind.so_far(fields.steps())


def _object(text: str) -> dict[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError  # noqa: TRY004 - it is read, and its value is wrong
    return cast("dict[str, Any]", document)


def people_of(document: Mapping[str, Any]) -> set[str]:
    """The userids in a job as JSON: in its result, in DingTalk's own words, and that of the person who resolved it."""
    kind = KINDS.get(str(document.get("kind")))
    people = people_in(document, _PERSON_FIELDS)
    return people | kind.people({}, document.get("result") or {}, {}) if kind else people


_PERSON_FIELDS = ("error.answer.body.**", "resolved.by")


def json_object(text: bytes) -> dict[str, Any]:
    """The object that a field of a record holds as JSON; an empty one where it holds none."""
    try:
        document = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", document) if isinstance(document, dict) else {}


def steps_in(record: Mapping[bytes, bytes]) -> dict[str, dict[str, Any]]:
    """The outcomes of a record's steps by name, as far as they can be read."""
    prefix = STEP.encode()
    return {
        name.removeprefix(prefix).decode(errors="replace"): json_object(value)
        for name, value in record.items()
        if name.startswith(prefix)
    }


def recipients(
    kind: str, state: str, job: Mapping[str, Any], record: Mapping[bytes, bytes]
) -> dict[str, str]:
    """The outcome of each user that a job is for; ``waiting`` while that is open.

    Of a job without an outcome for a user, ``unknown`` says that a call whose answer was lost may have
    reached them. Empty for jobs of departments, of other kinds, and for what another release wrote.
    """
    definition = KINDS.get(kind)
    if definition is None or definition.outcomes is None or not job:
        return {}
    try:
        by_user = definition.outcomes(dict(job), steps_in(record))
    except (KeyError, TypeError, AttributeError):
        return {}
    unsent = "waiting" if state in _OPEN else "unknown" if state == State.UNKNOWN else "not_sent"
    return {user: unsent if was == "not_sent" else was for user, was in by_user.items()}
