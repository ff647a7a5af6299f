"""The specification of a campaign, checked before anything of it exists."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from dingrelay_producers.client.campaign_backend import Plan
from dingrelay_tasks.contract import AppName, Document, Moment, SenderName
from dingrelay_tasks.message import STATUS_BAR_USERS
from dingrelay_tasks.message_send import USERS_PER_CALL
from dingrelay_workers.campaigns.pace import QuietHours
from dingrelay_workers.campaigns.template import Template

LARGEST = 2**31 - 1
"""The largest number that the database keeps."""


class CampaignSpec(Document):
    """A campaign without its recipients: the fields of a `Plan` that are stored, checked."""

    name: Annotated[str, Field(pattern=r"^[^\x00-\x1f]{1,200}$")]
    app: AppName = "default"
    message: dict[str, Any]
    start_at: Moment | None = None
    quiet: str = ""
    rate: Annotated[int, Field(ge=1, le=LARGEST)] | None = None
    weight: Annotated[int, Field(ge=1, le=1_000)] = 1
    error_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    sender: SenderName = ""

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """The part of a plan that is not its recipients.

        Raises:
            ContractError: names the field that is wrong.
        """
        return cls.parse({name: getattr(plan, name) for name in cls.model_fields})

    @model_validator(mode="after")
    def _quiet_hours_and_template_can_be_read(self) -> Self:
        try:
            QuietHours.parse(self.quiet)
        except ValueError as error:
            raise ValueError(f"quiet: {error}") from None
        self.template  # noqa: B018 - its error names the field by itself
        return self

    @cached_property
    def template(self) -> Template:
        """`message`, understood."""
        return Template(self.message)

    @property
    def users_per_call(self) -> int:
        """How many people a call of it may have."""
        return users_per_call(self.message)


def users_per_call(message: Mapping[str, Any]) -> int:
    """How many people a call with this message may have, whether its fields are filled in or not."""
    body: Any = message.get("oa")
    has_status_bar = isinstance(body, dict) and body.get("status_bar") is not None
    return STATUS_BAR_USERS if has_status_bar else USERS_PER_CALL
