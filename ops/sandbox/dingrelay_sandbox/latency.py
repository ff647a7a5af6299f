"""How long a call is on its way, each way."""

import random
from typing import Annotated, Self

from pydantic import BaseModel, Field, model_validator


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
