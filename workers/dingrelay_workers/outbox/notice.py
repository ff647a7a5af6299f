"""A notice: one thing that happened, as subscribers get it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Self

from pydantic import BaseModel
from sqlalchemy import RowMapping

from dingrelay_producers.tracing import spans
from dingrelay_workers.http.api_keys import Names
from dingrelay_workers.outbox import notice_types

_NAMESPACE = uuid.UUID("3a0b1f57-58a4-4f3c-9b43-0a4b0f0a7c52")


def fresh_id() -> str:
    """An id that no other notice has."""
    return f"msg_{uuid.uuid4().hex}"


def id_of(*names: str) -> str:
    """The id of a notice that may be written more than once: the same for the same names."""
    return f"msg_{uuid.uuid5(_NAMESPACE, chr(10).join(names)).hex}"


class Subject(NamedTuple):
    """The fields by which an endpoint filters notices.

    Attributes:
        sender: of the job or campaign; empty without one.
        kind: of the job that ended; empty without one.
        target: of a job to robots, such as ``group:oncall``; empty without one.
    """

    type: str
    app: str
    sender: str
    kind: str
    target: str = ""


class Subscription(BaseModel, frozen=True, json_schema_serialization_defaults_required=True):
    """The notices that an endpoint gets."""

    name: str
    """Name for people and logs."""
    url: str
    """`https://…` or `celery://QUEUE/TASK`."""
    types: tuple[str, ...]
    """Types of notices; `job.*` for all that begin with `job.`, `*` for all."""
    apps: Names = frozenset()
    """Apps whose notices it receives, and robots and groups of jobs, such as `group:oncall`; empty for all."""
    senders: Names = frozenset()
    """Senders whose jobs, campaigns and approvals it receives; empty for all."""
    kinds: Names = frozenset()
    """Kinds of jobs whose ends it receives; empty for all."""

    def takes(self, subject: Subject) -> bool:
        """Whether it receives such a notice.

        Senders and kinds narrow only what has them: a change of the directory has neither.
        """
        if self.apps and self.apps.isdisjoint({subject.app, subject.target}):
            return False
        of_job = subject.type.startswith("job.")
        if self.kinds and of_job and subject.kind not in self.kinds:
            return False
        has_sender = notice_types.has_sender(subject.type)
        if self.senders and has_sender and subject.sender not in self.senders:
            return False
        return any(notice_types.matches(pattern, subject.type) for pattern in self.types)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that happened.

    What is read from SQL may be of a type that only a newer release knows: it is passed on all the
    same, or it would hold up all behind it. So types are checked where notices are written.

    Attributes:
        type: one of `notice_types`.
        app: whose it is.
        at: when it happened.
        data: what happened, as JSON values; no secret, since it leaves for other hosts.
        sender: of the job that ended; empty if not given.
        kind: of the job that ended; empty where none did.
        target: of the job that ended, if it was to robots.
        id: is no other's, and stays the same however often it is sent.
        trace: in which it happened (`tracing.spans`); empty for none.
    """

    type: str
    app: str
    at: datetime
    data: Mapping[str, Any]
    sender: str = ""
    kind: str = ""
    target: str = ""
    id: str = field(default_factory=fresh_id)
    trace: str = field(default_factory=spans.current)

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        """The notice that a row of SQL holds."""
        return cls(**{name: row[name] for name in cls.__slots__})

    @property
    def subject(self) -> Subject:
        """The properties by which an endpoint chooses."""
        return Subject(self.type, self.app, self.sender, self.kind, self.target)

    def columns(self) -> dict[str, Any]:
        """Columns of the notice in SQL."""
        return {name: getattr(self, name) for name in self.__slots__} | {"data": dict(self.data)}
