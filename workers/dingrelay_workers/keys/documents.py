"""API keys as they are asked for and shown: the same over HTTP, on the command line and in Python."""

import difflib
import re
from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from dingrelay_producers.settings.sections import duration
from dingrelay_producers.store import clock
from dingrelay_tasks.asked import Asked
from dingrelay_tasks.contract import APP_NAME, LANES, Document, Lane, UserId, UserIdText
from dingrelay_tasks.sentence import Kept, en
from dingrelay_workers.http.api_keys import ANY, SCOPES, SENDER, TARGET, ApiKey, Grant, Rate

DEFAULT_OVERLAP = "24h"
"""Time for which both secrets are accepted after a rotation: enough to bring the new one to every machine."""

_SECONDS = r"(?:0|[1-9][0-9]{0,4})s"
_MINUTES = r"(?:0|[1-9][0-9]{0,3})m"
_HOURS = r"(?:0|[1-9][0-9]?|[1-6][0-9]{2})h"
_DAYS = r"(?:0|[12]?[1-9]|[123]0)d"
OVERLAP_PATTERN = rf"^(?:{_SECONDS}|{_MINUTES}|{_HOURS}|{_DAYS})$"
"""Up to 30 days."""
RATE_PATTERN = r"^[1-9][0-9]{0,8}/(?:[1-9][0-9]{0,2}s|(?:[1-9]|[1-5][0-9])m|1h)$"
"""Requests in up to 999 seconds, 59 minutes or an hour."""


def _scope(text: str) -> str:
    if text == ANY or text in SCOPES:
        return text
    near = difflib.get_close_matches(text, SCOPES, 1, cutoff=0.5)
    hint = (
        en('did you mean "{}"?', near[0]) if near else en("there are {} and *", ", ".join(SCOPES))
    )
    raise ValueError(en("there is no such scope; {}", hint))


def _app(text: str) -> str:
    if text != ANY and not APP_NAME.fullmatch(TARGET.sub("", text)):
        raise ValueError("must be the name of an app in the settings, or *")
    return text


def _sender(text: str) -> str:
    if text not in {"", ANY} and not SENDER.fullmatch(text):
        raise ValueError("must be letters, digits, _ and -, 64 at most, or * to let each job say")
    return text


def printable(text: str) -> str:
    """A name for people."""
    if not text.isprintable() or text != text.strip():
        raise ValueError("must be printable, without blanks around it")
    return text


def _rate(text: str) -> str:
    if not re.fullmatch(RATE_PATTERN, text):
        raise ValueError("must be like 50/1s or 600/1m, an hour at most")
    return text


def _expires(text: str) -> str:
    if not duration(text):
        raise ValueError("must be longer than nothing")
    return text


def _overlap(text: str) -> str:
    if not re.fullmatch(OVERLAP_PATTERN, text):
        raise ValueError("must be like 24h or 7d, 30d at most")
    return text


ScopeName = Annotated[
    str, AfterValidator(_scope), Field(json_schema_extra={"enum": [*SCOPES, ANY]})
]
AppChoice = Annotated[
    str,
    AfterValidator(_app),
    Field(json_schema_extra={"pattern": r"^(?:(?:(?:robot|group):)?[A-Za-z0-9_-]{1,64}|\*)$"}),
]

AppChoices = Annotated[
    list[AppChoice],
    Field(min_length=1, max_length=100, default_factory=lambda: [ANY]),
    Asked("For this DingTalk application only; repeatable, or a,b.", option="--app"),
]
LaneChoices = Annotated[
    list[Lane],
    Field(min_length=1, max_length=len(LANES), default_factory=lambda: list(LANES)),
    Asked("In these lanes only; repeatable, or a,b.", option="--lane"),
]


class KeyRequest(Document):
    """The request for a key.

    Attributes:
        name: for people and logs; it need not be unique.
        scopes: what it may do; ``*`` for everything.
        apps: DingTalk applications that it may act for; ``*`` for all. ``robots`` for all robots, or
            ``robot:NAME`` and ``group:NAME`` for some.
        lanes: lanes that its jobs may take.
        sender: who its jobs come from. Empty: the key's own name. ``*``: each job says.
        rate: requests over all gateways, such as ``50/1s``; none for no limit.
        expires: after how long it is refused, such as ``90d``; none for never.
        owner: userid of the person who answers for it, in whose name it approves and tests campaigns; none for no one in particular.
    """

    name: Annotated[
        str,
        Field(min_length=1, max_length=64),
        AfterValidator(printable),
        Asked("For people and logs.", argument=True),
    ]
    scopes: Annotated[
        list[ScopeName],
        Field(min_length=1, max_length=len(SCOPES) + 1),
        Asked("Permissions, such as messages:write, or *; repeatable, or a,b.", option="--scope"),
    ]
    apps: AppChoices
    lanes: LaneChoices
    sender: Annotated[
        str,
        AfterValidator(_sender),
        Field(json_schema_extra={"pattern": r"^(?:[A-Za-z0-9_-]{0,64}|\*)$"}),
        Asked("Sender of its jobs; NAME if not given, * lets each job name one."),
    ] = ""
    rate: Annotated[
        Annotated[
            str,
            AfterValidator(_rate),
            Field(json_schema_extra={"examples": ["50/1s"], "pattern": RATE_PATTERN}),
        ]
        | None,
        Asked("Requests over all gateways, such as 50/1s."),
    ] = None
    expires: Annotated[
        Annotated[
            str,
            AfterValidator(_expires),
            Field(json_schema_extra={"examples": ["90d"], "pattern": r"^[1-9][0-9]{0,4}[smhd]$"}),
        ]
        | None,
        Asked("After how long, such as 90d."),
    ] = None
    owner: Annotated[
        UserId | None,
        Asked("Userid of its person, in whose name it approves and tests campaigns."),
    ] = None

    def grant(self, now: datetime | None = None) -> Grant:
        """The key's permissions, from now on."""
        begins = now or clock.now()
        return Grant(
            name=self.name,
            scopes=frozenset(self.scopes),
            apps=frozenset(self.apps),
            lanes=frozenset(self.lanes),
            sender=self.sender,
            rate=Rate.parse(self.rate) if self.rate else None,
            expires_at=begins + duration(self.expires) if self.expires else None,
            owner=self.owner or "",
        )


class RotationRequest(Document):
    """How a key gets a new secret.

    Attributes:
        overlap: for how long secrets before the new one are taken as well at most, such as ``24h``;
            ``0s`` ends them at once.
        owner: userid of the person who answers for it from now on; none where that stays as it is.
    """

    overlap: Annotated[
        str,
        AfterValidator(_overlap),
        Field(json_schema_extra={"examples": ["24h"], "pattern": OVERLAP_PATTERN}),
        Asked("For how long the present secret is taken as well; 0s: not at all."),
    ] = DEFAULT_OVERLAP
    owner: Annotated[
        UserId | None, Asked("Userid of its person from now on; the present one if not given.")
    ] = None

    def length(self) -> timedelta:
        """The overlap."""
        return duration(self.overlap)


AS_USUAL = RotationRequest()
"""A rotation of which nothing is said."""


class KeyDocument(ApiKey, frozen=True):
    """An API key, without its secret."""

    state: Literal["live", "expired", "revoked"]
    created_at: datetime
    revoked_at: datetime | None
    last_used_at: datetime | None
    """Precise to about a minute."""
    old_secret_until: datetime | None
    """Until when secrets before the last rotation are taken as well."""
    left: list[UserIdText]
    """Its owner and its issuers who have left the organisation, or are in no directory once one was synced."""
    warning: Kept | None
    """Advice about them, in one sentence; null of a key without such people, or that is not live."""


class IssuedKey(BaseModel):
    """An API key with its secret, which is shown this once only."""

    id: str
    key: Annotated[str, Field(repr=False)]
    """The token for the Authorization header."""
    old_secret_until: datetime | None
    """Until when the secrets before this one are taken as well."""
