"""Scripted faults: what goes wrong, for which calls, how often."""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dingrelay_sandbox.answers import (
    HTML_PAGE,
    MESSAGES,
    Answer,
    Dialect,
    OapiRefusal,
    Refusal,
    RestRefusal,
    json_answer,
    throttled,
)

FaultKind = Literal[
    "throttle",
    "error",
    "token_expired",
    "http",
    "html",
    "hang",
    "latency",
    "truncated",
    "wrong_types",
    "reset_before",
    "reset_after",
    "lost_answer",
]

MAY_HAVE_EFFECT = frozenset({"error", "http", "html", "hang"})
AFTER_EFFECT = frozenset({"truncated", "wrong_types", "reset_after", "lost_answer"})


class FaultSpec(BaseModel):
    """One scripted fault.

    Attributes:
        kind: what happens. The call has its effect before ``truncated``, ``wrong_types``,
            ``reset_after`` and ``lost_answer``, and none with the others.
        api: the calls it meets, by the start of their path; ``*`` for all.
        match: parameters (body or query) that a call must carry with these values, too.
        count: how many calls it meets; None: any number.
        seconds: how long it lasts; None: until it is deleted.
        share: the probability with which a call is met.
        code, message, status, body: of the answer to ``throttle``, ``error`` and ``http``.
        min_ms, max_ms: of ``latency``, added before the call arrives.
        effect: lets ``error``, ``http``, ``html`` and ``hang`` come after the effect.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: FaultKind
    api: str = "*"
    match: dict[str, str | int | bool] = Field(default_factory=dict[str, str | int | bool])
    count: Annotated[int, Field(ge=1)] | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None
    share: Annotated[float, Field(gt=0, le=1)] = 1
    code: str | None = None
    message: str = ""
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    body: Any = None
    min_ms: Annotated[float, Field(ge=0)] = 0
    max_ms: Annotated[float, Field(ge=0)] = 1_000
    effect: bool = False

    @model_validator(mode="before")
    @classmethod
    def _code_as_text(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("code"), int):
            return {**data, "code": str(data["code"])}
        return data

    @model_validator(mode="after")
    def _delays_are_ordered(self) -> Self:
        if self.min_ms > self.max_ms:
            raise ValueError("min_ms must not be above max_ms")
        return self

    @model_validator(mode="after")
    def _effect_makes_sense(self) -> Self:
        if self.effect and self.kind not in MAY_HAVE_EFFECT:
            raise ValueError(f"effect: not with {self.kind}")
        return self

    @property
    def after_effect(self) -> bool:
        """Whether the call is carried out first."""
        return self.effect or self.kind in AFTER_EFFECT


class Fault:
    """A fault in force."""

    def __init__(self, number: int, spec: FaultSpec, now: float) -> None:
        self.id = number
        self.spec = spec
        self.met = 0
        self._ends = None if spec.seconds is None else now + spec.seconds

    def over(self, now: float) -> bool:
        """Whether it can meet no call any more."""
        spent = self.spec.count is not None and self.met >= self.spec.count
        return spent or (self._ends is not None and now >= self._ends)

    def fits(self, path: str, parameters: Mapping[str, Any]) -> bool:
        """Whether it is about a call like this."""
        if self.spec.api != "*" and not path.startswith(self.spec.api):
            return False
        return all(str(parameters.get(name)) == str(v) for name, v in self.spec.match.items())

    def report(self) -> dict[str, Any]:
        """The fault as JSON values."""
        return {"id": self.id, "met": self.met, **self.spec.model_dump(exclude_unset=True)}


class Faults:
    """All faults in force; the oldest that fits meets the call, latency adds up."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rng = random.Random()
        self._faults: dict[int, Fault] = {}
        self._last = 0

    def add(self, spec: FaultSpec) -> int:
        """Put a fault in force; its id."""
        self._last += 1
        self._faults[self._last] = Fault(self._last, spec, self._clock())
        return self._last

    def delete(self, number: int | None = None) -> int:
        """End a fault, or all; how many ended."""
        if number is not None:
            return 0 if self._faults.pop(number, None) is None else 1
        ended = len(self._faults)
        self._faults.clear()
        return ended

    def delay(self, path: str, parameters: Mapping[str, Any]) -> float:
        """Seconds by which faults delay the arrival of this call."""
        if not self._faults:
            return 0
        met = self._met(path, parameters, latency=True)
        return sum(self._rng.uniform(f.spec.min_ms, f.spec.max_ms) for f in met) / 1_000

    def draw(self, path: str, parameters: Mapping[str, Any]) -> FaultSpec | None:
        """The fault that meets this call, if one does."""
        if not self._faults:
            return None
        for fault in self._met(path, parameters, latency=False):
            return fault.spec
        return None

    def report(self) -> list[dict[str, Any]]:
        """The faults in force."""
        self._forget()
        return [fault.report() for fault in self._faults.values()]

    def _met(self, path: str, parameters: Mapping[str, Any], *, latency: bool) -> Iterator[Fault]:
        self._forget()
        for fault in list(self._faults.values()):
            if (fault.spec.kind == "latency") is latency and fault.fits(path, parameters):
                if fault.spec.share < 1 and self._rng.random() >= fault.spec.share:
                    continue
                fault.met += 1
                yield fault

    def _forget(self) -> None:
        now = self._clock()
        for number in [n for n, fault in self._faults.items() if fault.over(now)]:
            del self._faults[number]


def faulty_answer(spec: FaultSpec, dialect: Dialect, path: str, request_id: str) -> Answer:
    """The answer that a fault gives instead of DingTalk's own."""
    match spec.kind:
        case _ if spec.body is not None:
            return _verbatim(spec, dialect)
        case "html":
            return Answer(spec.status or 200, HTML_PAGE, "text/html")
        case "http":
            body = spec.message or "upstream connect error"
            return Answer(spec.status or 502, body.encode(), "text/plain")
        case "throttle":
            return throttled(
                dialect,
                path,
                code=spec.code or "",
                message=spec.message,
                status=spec.status or 403,
            ).answer(request_id)
        case _:
            return _error(spec, dialect).answer(request_id)


def fault_code(spec: FaultSpec) -> str:
    """How the audit names the fault's answer."""
    return spec.code or (str(spec.status) if spec.status else spec.kind)


def truncated(answer: Answer) -> Answer:
    """The first half of an answer."""
    return Answer(answer.status, answer.body[: len(answer.body) // 2], answer.content_type)


def wrong_types(answer: Answer) -> Answer:
    """An answer whose fields have other types than documented."""
    content = json.loads(answer.body)
    return json_answer({name: _other_type(value) for name, value in content.items()}, answer.status)


def _verbatim(spec: FaultSpec, dialect: Dialect) -> Answer:
    status = spec.status or (200 if dialect == "oapi" else 400)
    if isinstance(spec.body, str):
        return Answer(status, spec.body.encode())
    return json_answer(spec.body, status)


def _error(spec: FaultSpec, dialect: Dialect) -> Refusal:
    code = spec.code or ("-1" if dialect == "oapi" else "systemError")
    message = spec.message or MESSAGES.get(code, MESSAGES["-1"])
    if dialect == "oapi":
        return OapiRefusal(code, message)
    return RestRefusal(code, message, status=spec.status or 500)


def _other_type(value: object) -> object:
    match value:
        case bool() | int() | float():
            return [value]
        case str():
            return {"value": value}
        case _:
            return "[object Object]"
