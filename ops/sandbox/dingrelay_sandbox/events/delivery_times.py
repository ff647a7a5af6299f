"""How long DingTalk waits when it tells of an event, and how often it tries (API §7.1, §7.4)."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field

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
        failed_hollow: whether what can be fetched tells of no ids, as some have seen (API §7.1).
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
