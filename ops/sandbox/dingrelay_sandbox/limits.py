"""What the sandbox limits, and by how much: DingTalk's own figures unless told otherwise."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, PlainSerializer

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
    """People reached per app, in any interval; the rest get nothing, and nobody is told."""
    recipients_per_call: Annotated[int, Field(ge=1)] = 5_000
    same_content: bool = True
    """Whether a person gets the same content of an app once a day only."""
    user_day: Annotated[int, Field(ge=1, le=65_000)] = 500
    """Work notifications of an app to one person a day."""
    everyone_day: Annotated[int, Field(ge=0)] = 3
    """Sends to everyone per app and day."""
    quota: Annotated[int, Field(ge=0)] | None = None
    """Counted calls per organisation and month; None counts without an end."""
    robot: MaybeRate = Rate(20, 60)
    """Messages per webhook robot."""
    robot_penalty_seconds: float = 600
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
