"""What the sandbox limits, and how long things take: DingTalk's own figures unless set otherwise."""

import random
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, PlainSerializer, model_validator

from dingrelay_sandbox.windows import Rate, WindowKind


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


class Limits(BaseModel, extra="forbid", frozen=True, arbitrary_types_allowed=True):
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
    robot_text_code: bool = False
    """Whether a webhook answers its errcode as a text."""
    robot_old_texts: bool = False
    """Whether a webhook explains 310000 as it did in 2019 (API §12.2)."""
    read_lag_seconds: float = 0
    """How long a message of an app's robot is being delivered; for half of that its key is not known (API §12.8)."""
    token_seconds: Annotated[int, Field(ge=1)] = 7_200
    listing_lag_seconds: float = 0
    """How long a new approval is missing from the lists."""
    terminate_after_seconds: float = 15
    """How old an approval must be to be terminated."""

    def changed(self, patch: Mapping[str, Any]) -> Self:
        """These limits with some fields replaced.

        Raises:
            pydantic.ValidationError: when a field is unknown or its value makes no sense.
        """
        return type(self).model_validate({**self.model_dump(), **patch})

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


class DeliveryTimes(BaseModel, extra="forbid", frozen=True):
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

    def changed(self, patch: Mapping[str, Any]) -> Self:
        """These times with some fields replaced.

        Raises:
            pydantic.ValidationError: when a field is unknown or its value makes no sense.
        """
        return type(self).model_validate({**self.model_dump(), **patch})

    def scaled(self, seconds: float) -> float:
        """A wait as it is here."""
        return seconds * self.scale
