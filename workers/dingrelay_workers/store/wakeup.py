"""A wake-up as it reaches the worker, checked, and what a message of Celery carries as plain JSON."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from dingrelay_producers.publisher import FORMAT_HEADER, WAKEUP_FORMAT, WOKEN_HEADER
from dingrelay_producers.settings import DEFAULT_APP
from dingrelay_producers.store import record
from dingrelay_producers.store.record import Draft, canonical_json
from dingrelay_producers.tracing import spans
from dingrelay_producers.tracing.spans import TRACEPARENT, TRACESTATE
from dingrelay_tasks.contract import (
    APP_NAME,
    LANES,
    Contract,
    ContractError,
    Deliverable,
    check_size,
    within_reach,
)
from dingrelay_tasks.kinds import Kind
from dingrelay_tasks.sentence import en

ETA_HEADER = "dingrelay-eta"
"""Field of a Celery request: the `eta` of a bare client's message, which the worker has renamed."""
NOT_CARRIED_OUT_HEADER = "dingrelay-not-carried-out"
"""Field of a Celery request: the first thing that its client wants to follow, such as `link`."""
LONGEST_ID = 255
LATEST = 2**53
"""Later milliseconds are alike in Lua."""
NOTHING_FOLLOWS = en(
    "nothing follows a job here: enqueue it once a webhook or `wait` says that the job has ended"
)

BAD_ID_NAMESPACE = uuid.UUID("0f0b7b3a-98d5-4f39-8f8c-6b1c1c1d5a10")


@dataclass(frozen=True, slots=True)
class ReceivedWakeup:
    """One wake-up of one job.

    Attributes:
        job: what the message carries; anything, until the contract has looked at it. A wake-up of
            ours carries no more than the app and the lane.
        woken: when it was published, in ms of Redis's clock; 0 from a foreign client.
        nonce: distinguishes this wake-up from every other.
        expires: when the client's message expires, in ms; None for never. It is the job's
            `expires_at` where that has none.
        eta: when the client's message is due, in ms; 0 for now.
        problem: what is wrong with the message around the job, if anything.
        newer: it is of a newer release, and says no more to this one than which job to look at.
        trace: that a foreign client names; a job of ours has its own in its record.
    """

    id: str
    kind: Kind
    job: Any
    queue: str
    woken: int
    nonce: str
    problem: ContractError | None = None
    newer: bool = False
    expires: int | None = None
    eta: int = 0
    trace: str = ""

    @classmethod
    def from_request(cls, kind: Kind, request: Mapping[str, Any]) -> "ReceivedWakeup":
        """The wake-up in a Celery request. Never raises: what is wrong is kept as `problem`."""
        woken = _moment(request.get(WOKEN_HEADER))
        newer = _format(request.get(FORMAT_HEADER)) > WAKEUP_FORMAT
        info = request.get("delivery_info") or {}
        kwargs: Mapping[str, Any] = request["kwargs"]
        job, problem = kwargs.get("job"), _envelope_problem(request["args"], kwargs)
        eta = request.get(ETA_HEADER)
        due = None if eta is None else _moment_of(eta)
        if eta is not None and due is None:
            problem = problem or ContractError(
                "eta", "must be a moment between the years 1900 and 9000, as Celery writes it"
            )
        if follows := request.get(NOT_CARRIED_OUT_HEADER):
            problem = problem or ContractError(str(follows), NOTHING_FOLLOWS)
        trace = ""
        if not (
            woken or newer
        ):  # what our own publisher sends is JSON already, and holds nothing to hide
            job, unwritable = plain_json(kind.contract.without_secrets(job))
            problem = problem or unwritable
            trace = spans.read(request.get(TRACEPARENT), request.get(TRACESTATE))
        wakeup = cls(
            id=_job_id(request.get("id")),
            kind=kind,
            job=job,
            queue=str(info.get("routing_key") or "dingrelay.normal"),
            woken=woken,
            nonce=uuid.uuid4().hex,
            problem=None if newer else problem,
            newer=newer,
            expires=_moment_of(request.get("expires")),
            eta=due or 0,
            trace=trace,
        )
        return wakeup._bounded() if wakeup.bare else wakeup

    def _bounded(self) -> "ReceivedWakeup":
        """The same, but for a job that is too large to be written down: that is a problem of it."""
        try:
            check_size(self.job, record.canonical_json(self.job))
        except ContractError as error:
            return replace(self, job={"app": self.app, "lane": self.lane}, problem=error)
        except (TypeError, ValueError, RecursionError):
            return self  # a value that is no JSON is reported where the record is written
        return self

    @property
    def bare(self) -> bool:
        """Whether it is the message of a client without our package: the job itself."""
        return not (self.woken or self.newer or self.kind.ephemeral)

    def contract(self) -> Contract:
        """The job as its contract.

        Raises:
            ContractError: names the field that is wrong.
        """
        if self.problem:
            raise self.problem
        return self.kind.contract.parse(self.job)

    @property
    def app(self) -> str:
        """The app that the job names; `default` where it names none that could exist."""
        name = self._text("app", DEFAULT_APP)
        return name if APP_NAME.fullmatch(name) else DEFAULT_APP

    @property
    def lane(self) -> str:
        """The lane that the job names; `normal` where it names none that there is."""
        lane = self._text("lane", self.kind.contract.model_fields["lane"].default)
        return lane if lane in LANES else "normal"

    def draft(self) -> Draft:
        """The job as it is written down where there is no record of it."""
        contract: Contract | None = None
        with suppress(ContractError):
            contract = self.contract()
        times = contract if isinstance(contract, Deliverable) else None
        send_at = (record.milliseconds(times.send_at) if times else None) or 0
        expires = record.milliseconds(times.expires_at) if times else None
        return Draft(
            id=self.id,
            kind=self.kind.name,
            app=self.app,
            lane=self.lane,
            queue=self.queue,
            job=self.job,
            summary=self.kind.name,
            # A job that is wrong ends at once.
            due=max(send_at, self.eta) if contract else 0,
            expires=self.expires if expires is None else expires,
            bare=True,
            batch_key=record.batch_key(contract) if contract else "",
            recipients=contract.recipients if contract else 0,
            sender=contract.sender if contract else "",
            trace=self.trace,
        )

    def _text(self, field: str, default: str) -> str:
        value = self.job.get(field) if isinstance(self.job, dict) else None
        return value if isinstance(value, str) and value else default


def _moment(header: object) -> int:
    """When a wake-up was published; 0 where the header is none of ours."""
    if isinstance(header, int) and not isinstance(header, bool) and 0 < header < LATEST:
        return header
    return 0


def _format(header: object) -> int:
    """The number of a wake-up's format; 0 from a release that did not write it, and foreign clients."""
    return header if isinstance(header, int) and not isinstance(header, bool) else 0


def is_wakeup(headers: object) -> bool:
    """Whether a message is a wake-up: its job has a record. Others are the job itself."""
    return isinstance(headers, Mapping) and (
        _moment(headers.get(WOKEN_HEADER)) > 0
        or _format(headers.get(FORMAT_HEADER)) > WAKEUP_FORMAT
    )


def _moment_of(header: object) -> int | None:
    """A moment of Celery's message, in ms; None where the header is none within reach."""
    try:
        moment = datetime.fromisoformat(header) if isinstance(header, str) else header
        if not isinstance(moment, datetime):
            return None
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return record.milliseconds(within_reach(aware))
    except (ValueError, OverflowError):
        return None


def _job_id(task_id: object) -> str:
    # Ids become parts of Redis keys and log lines; a foreign client may put anything there.
    if isinstance(task_id, str) and 0 < len(task_id) <= LONGEST_ID and task_id.isprintable():
        return task_id
    return str(uuid.uuid5(BAD_ID_NAMESPACE, repr(task_id)))


def _envelope_problem(args: Sequence[Any], kwargs: Mapping[str, Any]) -> ContractError | None:
    if args:
        return ContractError("args", 'no positional arguments; send kwargs={"job": {...}}')
    unknown = sorted(str(name) for name in kwargs if name != "job")
    if unknown:
        return ContractError(unknown[0][:64], 'unknown argument; send kwargs={"job": {...}}')
    if not isinstance(kwargs.get("job"), dict):
        return ContractError("job", "must be an object with the fields of the contract")
    return None


_TEXTS: Mapping[type, Callable[[Any], str]] = {
    date: lambda value: value.isoformat(),  # and datetime, which is one
    time: lambda value: value.isoformat(),
    Decimal: str,
    UUID: str,
    bytes: bytes.decode,
}
TOO_DEEP = {"": en("nested too deeply")}
"""Stands for a job that can't be read to its end."""


def plain_json(job: Any) -> tuple[Any, ContractError | None]:
    """A job with texts for values that only Celery can carry, and the error of the first other one.

    A value that can't be carried is replaced by the name of its type; the error names its field.
    """
    try:
        canonical_json(job)
    except (TypeError, ValueError):
        pass
    except RecursionError:
        return TOO_DEEP, ContractError("job", "nested too deeply")
    else:
        return job, None
    problems: list[ContractError] = []
    try:
        return _plain(job, "", problems), problems[0] if problems else None
    except RecursionError:
        return TOO_DEEP, ContractError("job", "nested too deeply")


def _plain(value: Any, path: str, problems: list[ContractError]) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case dict():
            return {
                str(name): _plain(inner, f"{path}.{name}" if path else str(name), problems)
                for name, inner in value.items()
            }
        case list() | tuple():
            return [
                _plain(inner, f"{path}.{index}" if path else str(index), problems)
                for index, inner in enumerate(value)
            ]
        case _:
            return _text(value, path or "job", problems)


def _text(value: Any, path: str, problems: list[ContractError]) -> str:
    for type_, text in _TEXTS.items():
        if isinstance(value, type_):
            try:
                return text(value)
            except ValueError:  # bytes that are no UTF-8
                break
    name = type(value).__name__
    problems.append(ContractError(path, en("a value of type {} can't be written as JSON", name)))
    return f"<{name}>"
