"""Scripted faults: what goes wrong, for which calls, how often, and before or after the effect."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

from dingrelay_sandbox.answers import Dialect
from dingrelay_sandbox.call import Call

FaultKind = Literal[
    "throttle",
    "error",
    "token_expired",
    "credentials_refused",
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

AFTER_EFFECT = frozenset({"truncated", "wrong_types", "reset_after", "lost_answer"})
"""The kinds that let the call have its effect first, unless told otherwise."""
FIXED = frozenset({"reset_before", "reset_after"})
"""The kinds whose name says when they strike."""
TOKEN_APIS = ("/gettoken", "/v1.0/oauth2/")
"""Where tokens are fetched."""
ENDED_KEPT = 1_000
"""How many faults that are over can still be asked about."""


class FaultSpec(BaseModel, extra="forbid", frozen=True):
    """One scripted fault.

    Attributes:
        kind: what happens. ``throttle`` and ``error`` answer with a code, ``token_expired`` also
            ends the caller's tokens, ``credentials_refused`` meets token calls only, ``http`` and
            ``html`` answer what is no JSON, ``hang`` never answers, ``latency`` delays,
            ``truncated`` and ``wrong_types`` spoil the answer, ``reset_before`` and
            ``reset_after`` reset the connection, ``lost_answer`` closes it without an answer.
        effect: whether the call is carried out first. None: only with ``truncated``,
            ``wrong_types``, ``reset_after`` and ``lost_answer``. A ``latency`` with an effect
            delays the answer, one without the arrival.
        api: the calls it meets, by the start of their path, or several such; ``*`` for all.
        dialect: only calls to this one of DingTalk's two hosts.
        app: only calls of the app with this key.
        match: parameters (body or query) that a call must carry with these values, too.
        count: how many calls it meets; None: any number.
        starts_in: seconds until it is in force.
        seconds: how long it lasts from then on; None: until it is deleted.
        share: the probability with which a call is met.
        code, message: of the answer to ``throttle``, ``error`` and ``http``.
        status, body, headers: of any answer; a body replaces the kind's own, a text as it is,
            anything else as JSON.
        min_ms, max_ms: of ``latency``.
    """

    kind: FaultKind
    effect: bool | None = None
    api: str | tuple[str, ...] = "*"
    dialect: Dialect | None = None
    app: str | None = None
    match: dict[str, str | int | bool] = Field(default_factory=dict[str, str | int | bool])
    count: Annotated[int, Field(ge=1)] | None = None
    starts_in: Annotated[float, Field(ge=0)] = 0
    seconds: Annotated[float, Field(gt=0)] | None = None
    share: Annotated[float, Field(gt=0, le=1)] = 1
    code: str | None = None
    message: str = ""
    status: Annotated[int, Field(ge=200, le=599)] | None = None
    body: Any = None
    headers: dict[str, str] = Field(default_factory=dict[str, str])
    min_ms: Annotated[float, Field(ge=0)] = 0
    max_ms: Annotated[float, Field(ge=0)] = 1_000

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
        if self.kind in FIXED and self.effect is not None:
            raise ValueError(f"effect: {self.kind} says when it strikes")
        return self

    @property
    def after_effect(self) -> bool:
        """Whether the call is carried out first."""
        return self.kind in AFTER_EFFECT if self.effect is None else self.effect

    @property
    def apis(self) -> tuple[str, ...]:
        """The starts of the paths that it meets."""
        starts = (self.api,) if isinstance(self.api, str) else self.api
        return tuple("" if start == "*" else start for start in starts)

    def fits(self, call: Call) -> bool:
        """Whether it is about a call like this."""
        if not call.path.startswith(self.apis):
            return False
        if self.kind == "credentials_refused" and not call.path.startswith(TOKEN_APIS):
            return False
        if self.dialect not in {None, call.dialect} or self.app not in {None, call.app_key}:
            return False
        if not self.match:
            return True
        given = call.fault_parameters
        return all(str(given.get(name)) == str(value) for name, value in self.match.items())


class Fault:
    """A fault in force, or waiting for its time."""

    def __init__(self, number: int, spec: FaultSpec, now: float) -> None:
        self.id = number
        self.spec = spec
        self.met = 0
        self._starts = now + spec.starts_in
        self._ends = None if spec.seconds is None else self._starts + spec.seconds

    def waits(self, now: float) -> bool:
        """Whether its time has not come."""
        return now < self._starts

    def over(self, now: float) -> bool:
        """Whether it can meet no call any more."""
        spent = self.spec.count is not None and self.met >= self.spec.count
        return spent or (self._ends is not None and now >= self._ends)

    def report(self, *, over: bool) -> dict[str, Any]:
        """The fault as JSON values."""
        spec = self.spec.model_dump(exclude_unset=True)
        return {"id": self.id, "met": self.met, "over": over, **spec}


class Faults:
    """All faults; the oldest that fits meets the call, latency adds up.

    Args:
        clock: seconds that never jump.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rng = random.Random()
        self._faults: dict[int, Fault] = {}
        self._ended: dict[int, Fault] = {}
        self._last = 0

    def __bool__(self) -> bool:
        """Whether there may be a fault in force."""
        return bool(self._faults)

    def add(self, spec: FaultSpec) -> int:
        """Put a fault in force; its id."""
        self._last += 1
        self._faults[self._last] = Fault(self._last, spec, self._clock())
        return self._last

    def delete(self, number: int | None = None) -> int:
        """End a fault, or all; how many ended."""
        numbers = list(self._faults) if number is None else [number]
        return sum(self._end(each) for each in numbers)

    def delay(self, call: Call, *, effect: bool) -> float:
        """Seconds by which faults delay the arrival of this call, or its answer."""
        met = self._met(call, lambda spec: spec.kind == "latency" and spec.after_effect is effect)
        return sum(self._rng.uniform(spec.min_ms, spec.max_ms) for spec in met) / 1_000

    def draw(self, call: Call) -> FaultSpec | None:
        """The fault that meets this call, if one does."""
        return next(self._met(call, lambda spec: spec.kind != "latency"), None)

    def report(self) -> list[dict[str, Any]]:
        """The faults in force and those whose time is to come."""
        self._forget()
        return [fault.report(over=False) for fault in self._faults.values()]

    def find(self, number: int) -> dict[str, Any]:
        """One fault, in force or over.

        Raises:
            LookupError: there is none with that id, or it ended long ago.
        """
        self._forget()
        fault = self._faults.get(number) or self._ended.get(number)
        if fault is None:
            raise LookupError(f"fault {number} does not exist")
        return fault.report(over=number in self._ended)

    def _met(self, call: Call, wanted: Callable[[FaultSpec], bool]) -> Iterator[FaultSpec]:
        self._forget()
        now = self._clock()
        for fault in list(self._faults.values()):
            spec = fault.spec
            if not wanted(spec) or fault.waits(now) or not spec.fits(call):
                continue
            if spec.share < 1 and self._rng.random() >= spec.share:
                continue
            fault.met += 1
            yield spec

    def _forget(self) -> None:
        now = self._clock()
        for number in [n for n, fault in self._faults.items() if fault.over(now)]:
            self._end(number)

    def _end(self, number: int) -> bool:
        fault = self._faults.pop(number, None)
        if fault is None:
            return False
        self._ended[number] = fault
        if len(self._ended) > ENDED_KEPT:
            del self._ended[next(iter(self._ended))]
        return True
