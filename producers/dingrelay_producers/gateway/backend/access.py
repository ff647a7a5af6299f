"""API keys: what each may do, and what keeps them.

Keys live in the SQL database, and their rates are kept by the limiter; a gateway need not have
either's libraries. The part that knows them is another installed package's, found by its entry
point.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Protocol, Self, get_args

from dingrelay_producers.client.approval_backend import ApprovalReader
from dingrelay_producers.client.campaign_backend import Backend as CampaignBackend
from dingrelay_producers.client.history_backend import HistoryReader
from dingrelay_producers.gateway.backend.directory_reader import DirectoryReader
from dingrelay_producers.gateway.backend.webhooks import WebhookStore
from dingrelay_producers.installed import load
from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import LANES, Lane

ENTRY_POINTS = "dingrelay.gateway"
"""Group of the entry point that makes a `Backend` of settings."""

Scope = Literal[
    "messages:write",
    "approvals:read",
    "approvals:write",
    "syncs:write",
    "calls:write",
    "jobs:read",
    "jobs:write",
    "campaigns:read",
    "campaigns:write",
    "directory:read",
    "limits:read",
    "keys:write",
    "webhooks:read",
    "webhooks:write",
]
"""What one group of routes needs. A scope that writes does not include the one that reads."""

SCOPES: tuple[Scope, ...] = get_args(Scope)

ANY = "*"
"""In a key's scopes, apps or sender: all there are, also those that come later."""

KEY_ID = re.compile(r"drk_[a-z0-9]{12}", re.ASCII)
"""The public part of a key, which logs and lists show."""

SENDER = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a sender may be called."""

MOST_OLD_SECRETS = 10
"""Secrets of a key, or of an endpoint of webhooks, that hold beside the present one."""

_LONGEST_WINDOW = 3600.0
_RATE = re.compile(r"([1-9][0-9]{0,8})/([0-9]{1,6}(?:\.[0-9]{1,6})?)?(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Rate(NamedTuple):
    """How many requests a key may make.

    Attributes:
        limit: requests in a window.
        window: seconds.
    """

    limit: int
    window: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """The rate of a text such as ``50/1s`` or ``600/1m``.

        Raises:
            ValueError: it can't be read; the message says how it should look.
        """
        match = _RATE.fullmatch(text)
        window = float(match[2] or 1) * _SECONDS[match[3]] if match else 0
        if match is None or not 0 < window <= _LONGEST_WINDOW:
            raise ValueError("must be like 50/1s or 600/1m, an hour at most")
        return cls(int(match[1]), window)

    @property
    def per_second(self) -> float:
        """Requests a second in the long run."""
        return self.limit / self.window

    def __str__(self) -> str:
        return f"{self.limit}/{self.window:g}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a key may do.

    Attributes:
        name: for people and logs; it need not be unique.
        scopes: the groups of routes, or ``*``.
        apps: DingTalk applications for which it may act, or ``*``.
        lanes: lanes that its jobs may take.
        sender: of its jobs; ``*`` lets each job name its own.
        rate: its requests over all gateways; None for no limit.
        expires_at: from when on it is refused; None for never.
    """

    name: str
    scopes: frozenset[str]
    apps: frozenset[str] = frozenset({ANY})
    lanes: frozenset[Lane] = frozenset(LANES)
    sender: str = ANY
    rate: Rate | None = None
    expires_at: datetime | None = None

    def permits(self, scope: Scope) -> bool:
        """Whether it may use the routes of this scope."""
        return not self.scopes.isdisjoint({scope, ANY})

    def permits_app(self, app: str) -> bool:
        """Whether it may act for this DingTalk application."""
        return not self.apps.isdisjoint({app, ANY})

    def permits_lane(self, lane: Lane) -> bool:
        """Whether its jobs may take this lane."""
        return lane in self.lanes

    def permits_sender(self, sender: str) -> bool:
        """Whether its jobs may name this sender."""
        return self.sender in {sender, ANY}

    @property
    def default_sender(self) -> str:
        """The sender of its jobs that name none; "" leaves it to the settings."""
        return "" if self.sender == ANY else self.sender

    def excess(self, wanted: "Grant") -> tuple[str, str] | None:
        """What of another grant is more than this one holds, so that it may not give it.

        Returns:
            The field and what is wrong with it in one sentence; None where all is held.
        """
        if beyond := self._beyond(wanted):
            return beyond
        if self.rate and (wanted.rate is None or wanted.rate.per_second > self.rate.per_second):
            return "rate", f"this key's rate is {self.rate}, so it can't give more"
        if self.expires_at and (wanted.expires_at is None or wanted.expires_at > self.expires_at):
            until = self.expires_at.isoformat(timespec="seconds")
            return "expires", f"this key expires at {until}, so it can't give longer"
        return None

    def covers(self, other: "Grant") -> bool:
        """Whether this one may do all that the other may, if perhaps not as often or as long."""
        return self._beyond(other) is None

    def _beyond(self, wanted: "Grant") -> tuple[str, str] | None:
        for name, held, asked in (
            ("scopes", self.scopes, wanted.scopes),
            ("apps", self.apps, wanted.apps),
            ("lanes", self.lanes, wanted.lanes),
        ):
            missing: Iterable[str] = () if ANY in held else asked - held
            if beyond := ", ".join(sorted(missing)):
                return name, f"this key does not hold {beyond}, so it can't give it"
        if self.sender not in {ANY, wanted.sender} and ANY not in self.scopes:
            return "sender", f"this key's sender is {self.sender}, so it can't give another"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey(Grant):
    """A key without its secret: safe to keep, to compare and to log.

    Attributes:
        id: ``drk_…``, shown in lists and logs.
    """

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStatus:
    """A key as a list shows it.

    Attributes:
        used_at: its last use, to about a minute; None for never.
        revoked_at: since when it is refused; None while it is not.
        old_secret_until: until when secrets before its last rotation are taken too.
    """

    key: ApiKey
    created_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None
    old_secret_until: datetime | None


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key with its secret, which is shown this once and can't be found again.

    Attributes:
        key: without the secret.
        text: what a client presents, ``drk_….…``; no repr shows it.
        old_secret_until: after a rotation, until when the secrets before it are taken too.
    """

    key: ApiKey
    text: str = field(repr=False)
    old_secret_until: datetime | None = None


class KeyStore(Protocol):
    """What keeps the keys. Every method raises `ServiceUnavailable` where the database is away."""

    async def verify(self, presented: str) -> ApiKey | None:
        """The live key with this text, ``drk_….…``; None if it is wrong, expired or revoked."""
        ...

    async def verify_pair(self, key_id: str, secret: str) -> ApiKey | None:
        """As `verify`, for a program that presents them apart, as appkey and appsecret.

        The secret is the whole text of the key, or what stands behind its dot.
        """
        ...

    def digest(self, key_id: str, secret: str) -> str:
        """A storable digest of a secret, by which `find` checks that the secret is still valid."""
        ...

    async def find(self, key_id: str, digest: str) -> ApiKey | None:
        """The live key with this id, for a token that its secret of this digest was exchanged for.

        None as in `verify`, so also where the secret is taken no more since a rotation.
        """
        ...

    async def create(self, grant: Grant, *, seed: bytes | None = None) -> IssuedKey:
        """Make a key. A grant without a sender of its own (``""``) gets the key's name or id.

        Id and secret follow from the seed, so that the same one makes no second key.
        """
        ...

    async def get(self, key_id: str) -> KeyStatus:
        """The key with this id, live or not.

        Raises:
            KeyNotFound: there is none.
        """
        ...

    async def list(self) -> Sequence[KeyStatus]:
        """All keys, the newest first."""
        ...

    async def rotate(
        self, key_id: str, *, overlap: timedelta, seed: bytes | None = None
    ) -> IssuedKey:
        """Give it a new secret; the old ones are taken for so long as well, at most.

        The secret follows from the seed, so that the same one rotates once.

        Raises:
            KeyNotFound: there is none.
            KeyConflict: it is revoked or has expired, or has too many old ones.
        """
        ...

    async def revoke(self, key_id: str) -> KeyStatus:
        """Refuse it from now on, with all its secrets; nothing to do if it is revoked already.

        Raises:
            KeyNotFound: there is none.
        """
        ...


class RateLimiter(Protocol):
    """What counts the requests of keys over all gateways."""

    async def take(self, key: ApiKey) -> float | None:
        """Count one request.

        Returns:
            None if it may go on, else the seconds after which the next one may.

        Raises:
            ServiceUnavailable: Redis is away.
        """
        ...


class Backend(Protocol):
    """What a gateway needs of the database, the limiter and DingTalk."""

    @property
    def keys(self) -> KeyStore:
        """The API keys."""
        ...

    @property
    def rates(self) -> RateLimiter:
        """Their rates."""
        ...

    @property
    def campaigns(self) -> CampaignBackend:
        """The campaigns."""
        ...

    @property
    def webhooks(self) -> WebhookStore:
        """The endpoints of webhooks."""
        ...

    async def limits(self) -> dict[str, Any]:
        """How full the limits are, as JSON values: ``buckets``, ``outages``, ``quota``.

        Raises:
            ServiceUnavailable: Redis is away.
        """
        ...

    @property
    def approvals(self) -> ApprovalReader:
        """What became of approvals."""
        ...

    @property
    def history(self) -> HistoryReader:
        """Jobs that ended."""
        ...

    @property
    def directory(self) -> DirectoryReader:
        """The organisation."""
        ...

    async def start(self) -> None:
        """Open what is needed, on the loop that uses it.

        It does not fail where a service is away, which is called again when it is needed.
        """
        ...

    async def check(self) -> None:
        """Whether the database answers.

        Raises:
            ServiceUnavailable: it does not.
        """
        ...

    async def close(self) -> None:
        """Write what is left to write, and close."""
        ...


def backend(settings: Settings) -> Backend:
    """The one that is installed.

    Raises:
        NotInstalled: none is.
    """
    made: Backend = load(ENTRY_POINTS, settings, what="API keys", extra="worker")
    return made
