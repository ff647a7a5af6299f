"""What a job's record tells, as people and programs read it."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from dingrelay_producers.states import State
from dingrelay_tasks.kinds import KINDS

STEP = "step:"
"""What the fields of a record that hold outcomes of steps begin with."""


class Candidate(BaseModel):
    """An approval instance that may be the one that a job created, or may not."""

    model_config = ConfigDict(frozen=True)

    id: str
    title: str = ""
    """As DingTalk shows it; empty if it can't be read."""
    created: str = ""
    """When it was made, in DingTalk's spelling."""
    link: str = ""
    """Where a person can look at it."""


class JobError(BaseModel):
    """Why a job did not succeed, or not yet."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    error_class: str = Field(alias="class")
    """The class of the error, such as ``permission``."""
    code: str
    """DingTalk's code, or a word of ours."""
    message: str
    hint: str = ""
    """What to do about it."""
    candidates: list[Candidate] = Field(
        default_factory=list[Candidate], exclude_if=lambda found: not found
    )
    """What may be the effect of a call whose answer was lost."""


class Resolved(BaseModel):
    """What a person said of a call whose answer was lost."""

    model_config = ConfigDict(frozen=True)

    happened: bool
    """Whether DingTalk carried it out."""
    by: str = ""
    at: datetime


class JobStatus(BaseModel):
    """A job as its record shows it."""

    model_config = ConfigDict(frozen=True)

    id: str
    kind: str
    app: str
    lane: str
    state: State
    attempts: int = 0
    """Attempts made; waiting for a limit costs none."""
    throttles: int = 0
    """Throttling answers of DingTalk that the job met."""
    created_at: datetime
    started_at: datetime | None = None
    settled_at: datetime | None = None
    due_at: datetime | None = None
    """When a job that waits is looked at next."""
    result: dict[str, Any] | None = None
    error: JobError | None = None
    resolved: Resolved | None = Field(default=None, exclude_if=lambda said: said is None)
    """What a person said of it, if somebody did."""

    @classmethod
    def from_record(cls, job_id: str, record: Mapping[bytes, bytes]) -> Self:
        """The status in a record's Redis hash."""
        text = {name.decode(): value.decode() for name, value in record.items()}
        state = State(text["state"])
        return cls(
            id=job_id,
            kind=text["kind"],
            app=text["app"],
            lane=text["lane"],
            state=state,
            attempts=int(text.get("attempts", 0)),
            throttles=int(text.get("throttles", 0)),
            created_at=_moment(text["created"]),
            started_at=_moment_or_none(text.get("started")),
            settled_at=_moment_or_none(text.get("settled")),
            due_at=None
            if state.ended or state == State.RUNNING
            else _moment_or_none(text.get("due")),
            result=_result(text, state),
            error=JobError.model_validate_json(text["error"]) if text.get("error") else None,
            resolved=Resolved.model_validate_json(text["resolved"])
            if text.get("resolved")
            else None,
        )

    def to_json(self) -> dict[str, Any]:
        """The job as JSON values, the same on the command line and over HTTP."""
        return self.model_dump(mode="json", by_alias=True)


def _result(text: Mapping[str, str], state: State) -> dict[str, Any] | None:
    """The result, or what a job that ended otherwise had done until then."""
    if text.get("result"):
        result: dict[str, Any] = json.loads(text["result"])
        return result
    kind = KINDS.get(text["kind"])
    if not state.ended or kind is None or kind.so_far is None:
        return None
    return kind.so_far(
        {
            name.removeprefix(STEP): json.loads(value)
            for name, value in text.items()
            if name.startswith(STEP)
        }
    )


def _moment(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def _moment_or_none(milliseconds: str | None) -> datetime | None:
    return _moment(milliseconds) if milliseconds else None
