"""Limits and durations of the sandbox: DingTalk's own figures unless set otherwise, and the breaches."""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, PlainSerializer, model_validator

from dingrelay_sandbox.clock import Clock, month
from dingrelay_sandbox.windows import Rate, Window, WindowKind, new_window


def _rate(value: object) -> object:
    if isinstance(value, str):
        return Rate.parse(value) if value else None
    return value


MaybeRate = Annotated[
    Rate | None,
    BeforeValidator(_rate),
    PlainSerializer(lambda rate: str(rate) if rate else "", return_type=str),
]
"""A rate such as ``20/1s``; an empty text lifts the limit."""


class Changeable(BaseModel, extra="forbid", frozen=True):
    """Values of which some can be set while the sandbox runs."""

    def changed(self, patch: Mapping[str, Any]) -> Self:
        """These values with some fields replaced.

        Raises:
            pydantic.ValidationError: when a field is unknown or its value makes no sense.
        """
        return type(self).model_validate({**self.model_dump(), **patch})


class Limits(Changeable, frozen=True, arbitrary_types_allowed=True):
    """Every limit, each with DingTalk's figure as its default (API §2.1, §2.8, §4.2, §6)."""

    calls: MaybeRate = Rate(20, 1)
    """Calls per app and API path."""
    apis: dict[str, MaybeRate] = Field(default_factory=dict)
    """Another rate than `calls` for the API paths that start so."""
    window: WindowKind = "calendar"
    """How `calls` are counted."""
    throttle_code: str = ""
    """The code of an answer to a call too many; empty: 90018 or QpsLimitForAppkeyAndApi."""
    egress: MaybeRate = Rate(10_000, 20)
    """Calls per address over all APIs."""
    egress_ban_seconds: float = 300
    egress_ban_answer: Literal["html", "json"] = "html"
    recipients: MaybeRate = Rate(5_000, 60)
    """People reached per app, in any interval; the rest get nothing, in silence."""
    recipients_per_call: Annotated[int, Field(ge=1)] = 5_000
    same_content: bool = True
    """Whether a person gets the same content of an app once a day only."""
    user_day: Annotated[int, Field(ge=1, le=65_000)] = 500
    """Work notifications of an app to one person a day."""
    everyone_day: Annotated[int, Field(ge=0)] = 3
    """Sends to everyone per app and day."""
    quota: Annotated[int, Field(ge=0)] | None = None
    """Counted calls per organisation and month; None counts without an end."""
    pushes: Annotated[int, Field(ge=0)] | None = None
    """Webhook & Stream messages per organisation and month: what webhooks post, and events but those of contacts."""
    robot: MaybeRate = Rate(20, 60)
    """Messages per webhook robot."""
    robot_penalty_seconds: float = 600
    robot_refusal: Literal["130101", "660026", "410100", "redirect", "punish"] = "410100"
    """How a call too many, and the ones of the penalty, are answered (API §12.3)."""
    robot_old_texts: bool = False
    """Whether a webhook explains 310000 as it did in 2019 (API §12.2)."""
    read_lag_seconds: float = 0
    """How long a message of an app's robot is being delivered; for half of that its key is not known (API §12.8)."""
    token_seconds: Annotated[int, Field(ge=1)] = 7_200
    listing_lag_seconds: float = 0
    """How long a new approval is missing from the lists."""
    terminate_after_seconds: float = 15
    """How old an approval must be to be terminated."""

    def calls_of(self, path: str) -> Rate | None:
        """The rate of calls on an API path: the longest matching prefix in `apis`, or `calls`."""
        if self.apis:
            best = max(
                (start for start in self.apis if path.startswith(start)), key=len, default=""
            )
            if best:
                return self.apis[best]
        return self.calls


class Latency(BaseModel, extra="forbid", frozen=True):
    """A delay drawn evenly between two numbers of milliseconds."""

    min_ms: Annotated[float, Field(ge=0)] = 0
    max_ms: Annotated[float, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_ms > self.max_ms:
            raise ValueError("min_ms must not be above max_ms")
        return self

    @classmethod
    def parse(cls, text: str) -> Self:
        """The latency in ``MIN-MAX`` milliseconds, or in one number.

        Raises:
            ValueError: when `text` is neither.
        """
        low, dash, high = text.partition("-")
        try:
            return cls(min_ms=float(low), max_ms=float(high if dash else low))
        except ValueError:
            raise ValueError(f"not a latency such as 5-30: {text!r}") from None

    def draw(self) -> float:
        """One way of one call, in seconds."""
        if not self.max_ms:
            return 0
        return random.uniform(self.min_ms, self.max_ms) / 1_000


Seconds = Annotated[float, Field(ge=0)]


class DeliveryTimes(Changeable, frozen=True):
    """DingTalk's own figures, in seconds.

    Attributes:
        scale: what the waits between tries are multiplied with: ``retries``, ``redelivery``,
            ``closing``, ``ping`` and ``dead_fed``. How long an answer may take stays as it is, for
            a busy machine takes as long as ever.
        push_timeout: in which an HTTP push must be answered.
        retries: after which an HTTP push is tried again.
        failed_kept: for how long what failed can be fetched; DingTalk speaks of 3 to 5 minutes.
        failed_hollow: whether what can be fetched has no ids, as some have seen (API §7.1).
        acknowledgement: in which a frame must be answered.
        redelivery: after which a frame without an acknowledgement is sent again.
        redeliveries: how often; DingTalk says nothing of it.
        ticket: for how long a ticket may be used.
        ping: between two pings of the server on a connection.
        closing: between ``disconnect`` and the end of the connection.
        dead_fed: for how long a connection that is gone is still fed, under that fault.
    """

    scale: Annotated[float, Field(gt=0)] = 1
    push_timeout: Annotated[float, Field(gt=0)] = 2.5
    retries: tuple[Seconds, ...] = (10, 30)
    failed_kept: Seconds = 300
    failed_hollow: bool = False
    acknowledgement: Annotated[float, Field(gt=0)] = 3
    redelivery: Annotated[float, Field(gt=0)] = 16
    redeliveries: Annotated[int, Field(ge=0)] = 10
    ticket: Seconds = 90
    ping: Annotated[float, Field(gt=0)] = 20
    closing: Seconds = 10
    dead_fed: Seconds = 60

    def scaled(self, seconds: float) -> float:
        """A wait as it is here."""
        return seconds * self.scale


@dataclass(frozen=True, slots=True)
class Breach:
    """A call too many.

    Attributes:
        rate: the rate that it breaks.
        until: when there is room again, in Unix seconds.
    """

    rate: Rate
    until: float


class Limiter:
    """Counts against the limits. All times are Unix seconds of the sandbox's clock.

    Months and calendar windows follow it. Whatever else is counted in seconds goes on as before when it is set,
    as no second becomes longer by a wrong clock.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self.limits = limits
        """The limits in force. Each rate is counted by itself, so what is counted against an unchanged one stays."""
        self.clock = clock
        self._windows: dict[tuple[str, str, Rate, WindowKind], Window] = {}
        self._closed_until: dict[tuple[str, str, Rate], float] = {}
        self.used: dict[str, int] = {}
        """Counted calls by ``organisation month``."""
        self.messages: Counter[str] = Counter()
        """Webhook & Stream messages likewise, and those of robots by ``token month``."""

    def call(self, app_key: str, method: str, path: str, at: float) -> Breach | None:
        """Count a call of an app on an API, or say why not: one path has an API for each of its methods."""
        rate, kind = self.limits.calls_of(path), self.limits.window
        if rate is None:
            return None
        window = self._window(app_key, f"{method} {path}", rate, kind)
        moment = at if kind == "calendar" else self.clock.steady(at)
        if window.room(moment) >= 1:
            window.take(moment)
            return None
        return Breach(rate, window.frees_at(moment) + at - moment)

    def egress(self, address: str, at: float) -> bool:
        """Count a call from an address; False while it is banned (API §6)."""
        limits = self.limits
        return self._allowed("egress", address, at, limits.egress, limits.egress_ban_seconds)

    def recipient(self, app_key: str, at: float) -> bool:
        """Count a recipient of an app's messages; False where this minute has none left."""
        return self._allowed("recipients", app_key, at, self.limits.recipients, 0)

    def quota(self, organisation: str, at: float) -> bool:
        """Count a call against an organisation's month; False when the month is used up."""
        return _take(self.used, f"{organisation} {month(at)}", self.limits.quota)

    def push(self, organisation: str, at: float) -> bool:
        """Count a Webhook & Stream message likewise."""
        return _take(self.messages, f"{organisation} {month(at)}", self.limits.pushes)

    def robot_month(self, token: str, at: float, most: int | None) -> bool:
        """Count a message of a webhook whose administrator lets it post so many a month."""
        return _take(self.messages, f"{token} {month(at)}", most)

    def robot(self, token: str, at: float) -> bool:
        """Count a message of a webhook robot; False for the whole penalty (API §2.8)."""
        limits = self.limits
        return self._allowed("robot", token, at, limits.robot, limits.robot_penalty_seconds)

    def _allowed(self, what: str, key: str, at: float, rate: Rate | None, penalty: float) -> bool:
        """Count one; False where the window is full, and for so many seconds after that."""
        if rate is None:
            return True
        moment, window = self.clock.steady(at), self._window(what, key, rate, "sliding")
        if moment < self._closed_until.get((what, key, rate), 0):
            return False
        if window.room(moment) < 1:
            self._closed_until[what, key, rate] = moment + penalty
            return False
        window.take(moment)
        return True

    def _window(self, what: str, key: str, rate: Rate, kind: WindowKind) -> Window:
        return self._windows.setdefault((what, key, rate, kind), new_window(kind, rate))


def _take(counts: dict[str, int], key: str, most: int | None) -> bool:
    """Count one, unless there are as many as there may be."""
    if most is not None and counts.get(key, 0) >= most:
        return False
    counts[key] = counts.get(key, 0) + 1
    return True
