"""Endpoints as they are asked for and shown: the same on the command line and over HTTP."""

import difflib
import re
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field

from dingrelay_producers.client.filters import DeliveryStateName
from dingrelay_tasks.asked import Asked
from dingrelay_tasks.contract import Document, Moment
from dingrelay_tasks.kinds import TASK_PREFIX, reported_kinds
from dingrelay_tasks.sentence import Kept, en
from dingrelay_workers.http.api_keys import SENDER
from dingrelay_workers.keys.documents import printable
from dingrelay_workers.outbox import notice_types
from dingrelay_workers.outbox.notice import Subscription
from dingrelay_workers.webhooks.endpoints import Endpoint

LONGEST_URL = 2_000
MOST = 100
"""Types, apps, senders or kinds of one endpoint."""

QUEUE = re.compile(r"^[A-Za-z0-9_.:-]{1,128}$", re.ASCII)
TASK = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]{0,199}$", re.ASCII)
URL_PATTERN = r"^(?:https?|celery)://[\x21-\x7e]+$"

OWN = (TASK_PREFIX, "celery.")
"""Prefixes that names of tasks may not have: a notice must not run a job of ours, or Celery's own."""

KIND_NAMES = tuple(sorted(reported_kinds()))
"""Kinds of jobs whose ends are reported."""


def celery_target(url: str) -> tuple[str, str] | None:
    """Queue and task of a ``celery://`` URL; None of another one."""
    if not url.startswith("celery://"):
        return None
    queue, _, task = url.removeprefix("celery://").partition("/")
    return queue, task


def _url(text: str) -> str:
    if len(text) > LONGEST_URL:
        raise ValueError(en("must have {} characters at most", LONGEST_URL))
    if not re.fullmatch(URL_PATTERN, text, re.ASCII):
        raise ValueError(
            "must be https://… or celery://QUEUE/TASK, in ASCII (xn--… for other domains), without blanks"
        )
    target = celery_target(text)
    if target is None:
        _check_http(text)
    else:
        _check_celery(*target)
    return text


def _check_http(text: str) -> None:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("is not a valid URL") from None
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise ValueError(
            "must not hold a user name or a password, since endpoints are listed with their URLs"
        )
    if parts.fragment or "#" in text:
        raise ValueError("must not have a fragment, which is never sent")
    if not parts.hostname:
        raise ValueError("must name a host")
    if port == 0:
        raise ValueError("must not have the port 0")


def _check_celery(queue: str, task: str) -> None:
    if not QUEUE.fullmatch(queue) or not TASK.fullmatch(task):
        raise ValueError("must name a queue and a task, as celery://crm/crm.tasks.on_notice does")
    if queue.startswith(TASK_PREFIX) or task.startswith(OWN):
        raise ValueError("must be a queue and a task of the application's own")


def _type(text: str) -> str:
    if text == "*" or (notice_types.is_type(text) and text != notice_types.TEST):
        return text
    if text.endswith(".*") and any(name.startswith(text[:-1]) for name in notice_types.TYPES):
        return text
    if text == "dingtalk.*":
        return text
    near = difflib.get_close_matches(text, notice_types.TYPES, 1, cutoff=0.5)
    hint = en('did you mean "{}"?', near[0]) if near else en("the guide lists the types")
    raise ValueError(en("there is no such type of notice; {}", hint))


def _kind(text: str) -> str:
    if text not in KIND_NAMES:
        raise ValueError(en("must be one of {}", ", ".join(KIND_NAMES)))
    return text


Type = Annotated[
    str,
    AfterValidator(_type),
    Field(
        json_schema_extra={
            "pattern": rf"^(?:\*|(?:{'|'.join(notice_types.FAMILIES)})\.(?:\*|[A-Za-z0-9_.:-]+))$",
            "examples": ["job.*"],
        }
    ),
]
AppChoice = Annotated[str, Field(pattern=r"^(?:(?:robot|group):)?[A-Za-z0-9_-]{1,64}$")]
SenderChoice = Annotated[str, Field(pattern=rf"^{SENDER.pattern}$")]
KindChoice = Annotated[
    str, AfterValidator(_kind), Field(json_schema_extra={"enum": list(KIND_NAMES)})
]


class EndpointRequest(Document):
    """An endpoint to be added.

    Attributes:
        name: for people and logs.
        url: where notices go: ``https://…``, or ``celery://QUEUE/TASK`` for a Celery application on the
            same broker.
        types: types of notices, such as ``job.dead``; ``job.*`` for all that begin with ``job.``, ``*``
            for all.
        apps: apps whose notices it receives, and robots and groups of jobs, such as ``group:oncall``; all if none is
            named.
        senders: senders whose jobs, campaigns and approvals it receives; all if none is named.
        kinds: kinds of jobs whose ends it receives; all if none is named.
    """

    name: Annotated[
        str,
        Field(max_length=64),
        AfterValidator(printable),
        Asked("A name, for people and logs."),
    ] = ""
    url: Annotated[
        str,
        AfterValidator(_url),
        Field(
            json_schema_extra={
                "pattern": URL_PATTERN,
                "maxLength": LONGEST_URL,
                "examples": ["https://crm.example.com/dingrelay"],
            }
        ),
        Asked("https://…, or celery://QUEUE/TASK on this broker.", argument=True),
    ]
    types: Annotated[
        list[Type],
        Field(min_length=1, max_length=MOST),
        Asked(
            "Types of notices, such as job.dead, directory.* or *; repeatable, or a,b.",
            option="--type",
        ),
    ]
    apps: Annotated[
        list[AppChoice],
        Field(max_length=MOST),
        Asked("For this DingTalk application only; repeatable, or a,b.", option="--app"),
    ] = Field(default_factory=list[str])
    senders: Annotated[
        list[SenderChoice],
        Field(max_length=MOST),
        Asked(
            "Only jobs, campaigns and approvals of this sender; repeatable, or a,b.",
            option="--sender",
        ),
    ] = Field(default_factory=list[str])
    kinds: Annotated[
        list[KindChoice],
        Field(max_length=MOST),
        Asked("Only jobs of this kind in job.*; repeatable, or a,b.", option="--kind"),
    ] = Field(default_factory=list[str])

    def subscription(self) -> Subscription:
        """The subscription that the request describes."""
        return Subscription.model_validate(
            self.model_dump() | {"types": tuple(dict.fromkeys(self.types))}
        )


class ResumeRequest(Document):
    """How an endpoint is resumed.

    Attributes:
        skip: drop the notices of the time in which it was paused or disabled.
        since: deliver once more the notices from this moment on.
        until: deliver once more the notices before this moment: those from `since` on, or all that are kept.
        numbers: deliver once more the notices with these numbers, which the list of deliveries has.
    """

    skip: Annotated[bool, Asked("Drop the notices since it was paused.")] = False
    since: Annotated[
        Moment | None,
        Asked(
            "Deliver again what it had since then, with the same ids: 2026-01-31T09:00, or 2h "
            "for two hours ago.",
            past=True,
        ),
    ] = None
    until: Annotated[
        Moment | None,
        Asked(
            "Deliver again what it had before then: with --since what it had in between, or all that is kept.",
            past=True,
        ),
    ] = None
    numbers: Annotated[
        list[Annotated[int, Field(ge=1, le=2**62)]],
        Field(max_length=MOST),
        Asked(
            "Deliver this one again, by its number in the list of deliveries.", option="--notice"
        ),
    ] = Field(default_factory=list[int])

    @property
    def repeats(self) -> bool:
        """Whether something is delivered once more."""
        return self.spans or bool(self.numbers)

    @property
    def spans(self) -> bool:
        """Whether the notices of a time are delivered once more."""
        return self.since is not None or self.until is not None


ALL_THAT_WAITS = ResumeRequest()
"""A resumption of which nothing is said: what waits is delivered, and nothing once more."""


class EndpointHealth(BaseModel):
    """The health of an endpoint."""

    backlog: int
    """Notices that wait for it."""
    under_way: int
    """Deliveries that are being made."""
    taken_at: datetime | None
    """When it accepted the last notice."""
    failing_since: datetime | None
    """The same as the endpoint's own."""
    last_failure: str
    """A short word such as `http_503`; empty if the last delivery was accepted."""
    retry_at: datetime | None
    """Time of the next try, while deliveries are held back."""
    minutes: list[int]
    """Notices that it accepted in each of the last minutes, the present one last."""


class EndpointStatus(Endpoint, frozen=True):
    """An endpoint of webhooks, and its health."""

    health: EndpointHealth


class ResumedEndpoint(Endpoint, frozen=True):
    """An endpoint that was resumed."""

    notices: int
    """How many notices are delivered once more."""


class IssuedEndpoint(BaseModel, frozen=True):
    """An endpoint with its secret, which is never shown again."""

    id: str
    secret: Annotated[str, Field(repr=False)]
    """The secret by which the receiver verifies signatures, `whsec_…`."""
    old_secret_until: datetime | None
    """Until when the secret before this one signs as well."""


class DeliveryDocument(BaseModel):
    """The delivery of a notice to an endpoint."""

    number: int
    """Number of the notice; later ones have larger numbers."""
    notice: str
    """The id of the notice, which the endpoint gets with it."""
    type: str
    app: str
    at: datetime
    """When what it reports happened."""
    state: DeliveryStateName | Literal["skipped", "test", "tested"]
    """`dead`: an endpoint that accepts others has refused it for days. A test is `test` until it was sent."""
    attempts: int
    due_at: datetime | None
    """Not before; null: at once, or it is over."""
    failed_at: datetime | None
    """When the first attempt failed."""
    code: str
    """Result of the last attempt, such as `taken` or `http_503`; empty before the first."""
    reason: Kept
    status: int
    """The HTTP status; 0 if there was none."""

    @property
    def accepted(self) -> bool:
        """Whether the endpoint has it."""
        return self.code in {"taken", "published"}
