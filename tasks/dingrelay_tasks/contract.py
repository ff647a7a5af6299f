"""The base of every contract: what a business application may ask, checked where it enters."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

Lane = Literal["urgent", "normal", "bulk"]
"""Who goes first when a limit is reached."""

LANES: tuple[Lane, ...] = ("urgent", "normal", "bulk")

AppName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
UserId = Annotated[str, Field(pattern=r"^[^,\s\x00-\x1f]{1,64}$")]
"""A DingTalk userid. Commas and blanks are refused: ids travel comma-separated (API §2.1)."""

Moment = AwareDatetime
"""A point in time with its zone, ISO 8601 in JSON."""


class ContractError(ValueError):
    """A job is not what its contract says.

    Attributes:
        field: the dotted path of the offending field, such as ``to.users.3``.
        problem: what is wrong with it, in one sentence.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class Part(BaseModel):
    """A piece of a contract: immutable, and closed to fields it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _null_means_default(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            return {name: value for name, value in data.items() if value is not None}
        return data


class Contract(Part):
    """A job that can be enqueued.

    A subclass sets `kind` and overrides `queue` and `summary` where the default does not fit.
    """

    kind: ClassVar[str]

    app: AppName = "default"
    lane: Lane = "normal"

    @classmethod
    def parse(cls, data: object) -> Self:
        """The job in `data` (JSON as Python values).

        Raises:
            ContractError: names the first field that is wrong.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise _contract_error(error) from None

    def wire(self) -> dict[str, Any]:
        """The job as JSON values, as it travels in ``kwargs={"job": …}``."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def queue(self) -> str:
        """The Celery queue that carries this job."""
        return f"dingrelay.{self.lane}"

    @property
    def recipients(self) -> int:
        """How many named recipients the job has; 0 where that makes no sense."""
        return 0

    def summary(self) -> str:
        """One short line for Flower and logs, free of the job's text."""
        return f"{self.kind} app={self.app} lane={self.lane}"


class Deliverable(Contract):
    """A job with a time before which it must not, and one after which it need not be done."""

    idempotency_key: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    send_at: Moment | None = None
    expires_at: Moment | None = None

    @model_validator(mode="after")
    def _expires_after_it_is_sent(self) -> Self:
        if self.send_at and self.expires_at and self.expires_at <= self.send_at:
            raise ValueError("expires_at must be later than send_at")
        return self


def _contract_error(error: ValidationError) -> ContractError:
    """The first problem that pydantic found, in our words: a path and a sentence without input."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = ".".join(str(step) for step in first["loc"]) or "job"
    message = first["msg"].removeprefix("Value error, ")
    # A validator over several fields has no path of its own; it names the field in its message.
    head, colon, tail = message.partition(": ")
    if first["type"] == "value_error" and colon and " " not in head:
        path = head if path == "job" else f"{path}.{head}"
        message = tail
    return ContractError(path, message)
