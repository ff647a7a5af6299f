"""API keys and what each of them may do. `keys/` stores them."""

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple, Self, cast

from pydantic import BaseModel, BeforeValidator, PlainSerializer

from dingrelay_producers.actor import Reach
from dingrelay_producers.client.filters import Seen
from dingrelay_tasks.contract import LANES, Contract, Lane, UserIdText
from dingrelay_tasks.kinds import KINDS
from dingrelay_tasks.robot_names import ROBOT_MESSAGE, ROBOTS
from dingrelay_tasks.sentence import en
from dingrelay_workers.http.dingtalk_permissions import approvals_of, hidden_from, missing_scope
from dingrelay_workers.noun import Role
from dingrelay_workers.nouns import NOUNS

if TYPE_CHECKING:
    from dingrelay_tasks.robot_message import RobotMessage

JOB_SCOPES: Mapping[str, Role] = {"jobs:read": "view", "jobs:write": "operate"}
"""Scope → the role in the console that has it, as a noun declares its own."""
SCOPES = (
    *dict.fromkeys(
        [
            *(kind.scope for kind in KINDS.values() if kind.is_public),
            *JOB_SCOPES,
            *(scope for noun in NOUNS for scope in noun.scopes),
        ]
    ),
)
"""The scopes: one a group of routes. A scope that writes does not include the one that reads."""

ANY = "*"
"""All there are, in a key's scopes, apps or sender: also those that come later."""

PERSONAL = "directory:read"
"""Scope of people's data."""

TARGET = re.compile(r"^(?:robot|group):")
"""Prefix of one robot or one group in a key's apps."""

KEY_ID = re.compile(r"drk_[a-z0-9]{12}", re.ASCII)
"""The public part of a key, which logs and lists show."""

SENDER = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Form of a sender's name."""

MOST_OLD_SECRETS = 10
"""Secrets of a key, or of an endpoint of webhooks, that hold beside the present one."""

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
"""Nothing that is read wrong on a screen; 32 of them, so twelve are 60 bits."""

_LONGEST_WINDOW = 3600.0
_RATE = re.compile(r"([1-9][0-9]{0,8})/([0-9]{1,6}(?:\.[0-9]{1,6})?)?(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def public_id(prefix: str, random: bytes) -> str:
    """The id of a key or an endpoint: the prefix and twelve characters of these bytes."""
    return prefix + "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in random[:12])


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


def covers_name(apps: Collection[str], name: str) -> bool:
    """Whether these apps of a key include all that one name of apps stands for: an app, or a robot or group."""
    return not {name, ANY, ROBOTS if TARGET.match(name) else ANY}.isdisjoint(apps)


_IN_ORDER = PlainSerializer(sorted, return_type=list[str])
Names = Annotated[frozenset[str], _IN_ORDER]


class Grant(BaseModel, Reach, frozen=True, json_schema_serialization_defaults_required=True):
    """Permissions of a key."""

    name: str
    """Name for people and logs; it need not be unique."""
    scopes: Names
    """The groups of routes, or `*`."""
    apps: Names = frozenset({ANY})
    """DingTalk applications for which it may act, or `*`."""
    lanes: Annotated[frozenset[Lane], _IN_ORDER] = frozenset(LANES)
    sees_all: ClassVar[bool] = False
    sender: str = ANY
    """Sender of its jobs; `*` where each job may name one."""
    rate: Annotated[
        Rate | None,
        BeforeValidator(lambda rate: Rate.parse(rate) if isinstance(rate, str) else rate),
        PlainSerializer(lambda rate: rate and str(rate), return_type=str | None),
    ] = None
    """Requests over all gateways, such as `50/1s`; null for no limit."""
    expires_at: datetime | None = None
    owner: UserIdText = ""
    """Userid of the person who answers for it, in whose name it approves and tests campaigns; empty for none."""

    def permits(self, scope: str) -> bool:
        """Whether it may use the routes of this scope."""
        return not self.scopes.isdisjoint({scope, ANY})

    def sees(self, scope: str) -> Seen:
        """The jobs that it may see, whatever the scope."""
        allowed: dict[str, Collection[str]] = {}
        if ANY not in self.apps:
            robots = {ROBOTS} if any(map(TARGET.match, self.apps)) else set[str]()
            allowed["app"] = self.apps | robots
        if self.sender != ANY:
            allowed["sender"] = {self.sender}
        return allowed

    def permits_app(self, app: str) -> bool:
        """Whether it may act for this DingTalk application; of robots, for any."""
        if app == ROBOTS:
            return any(name in {ANY, ROBOTS} or TARGET.match(name) for name in self.apps)
        return not self.apps.isdisjoint({app, ANY})

    def permits_job(self, app: str, target: str) -> bool:
        """Whether it may act for the jobs of this app; for those of robots if it has their target."""
        return self.permits_app(app) and (app != ROBOTS or self.permits_target(target))

    def permits_target(self, target: str) -> bool:
        """Whether its messages may go to this robot or group, such as ``group:oncall``."""
        return not self.apps.isdisjoint({target, ROBOTS, ANY})

    def reaches(
        self, scope: str, *, app: str, sender: str = "", lane: str = "", target: str = ""
    ) -> bool:
        """Whether something is the key's to see or change: a job that it could have asked for, in whatever lane.

        A key without a sender of its own sees those of every sender.
        """
        return self.permits(scope) and self.permits_sender(sender) and self.permits_job(app, target)

    def refusal(
        self, scope: str, *, app: str, lane: str = "", sender: str = "", target: str = ""
    ) -> tuple[str, str] | None:
        """The field of a job that the key may not ask for, and why; None if it may."""
        if not self.permits_app(app):
            return "app", en("the key is not for this app")
        if target and not self.permits_target(target):
            return "to", en("the key is not for this robot or group")
        if lane and not self.permits_lane(lane):
            return "lane", en("the key is not for the lane {}", lane)
        if sender and not self.permits_sender(sender):
            return "sender", en("the key has a sender of its own")
        return None

    def job_refusal(self, job: Contract, sender: str) -> tuple[str, str] | None:
        """The same of a whole job: its scope, too, and what it may see at DingTalk."""
        if scope := missing_scope(self, job):
            return "", en("this needs the scope {}", scope)
        named = "" if job.sender == sender else job.sender
        target = cast("RobotMessage", job).to.name if job.kind == ROBOT_MESSAGE else ""
        refusal = self.refusal("", app=job.app, lane=job.lane, sender=named, target=target)
        return refusal or hidden_from(self, job)

    def approvals_of(self, job: Contract) -> Collection[str]:
        """Approvals that a call names, if the key has a sender of its own."""
        return () if self.sender == ANY else approvals_of(self, job)

    def sees_name(self, name: str) -> bool:
        """Whether it may be shown a name that workers serve, such as ``app:hr`` or ``group:oncall``."""
        kind, _, bare_name = name.partition(":")
        return self.permits_app(bare_name) if kind == "app" else self.permits_target(name)

    def permits_lane(self, lane: str) -> bool:
        """Whether its jobs may take this lane."""
        return lane in self.lanes

    def apps_of(self, scope: str) -> frozenset[str] | None:
        """Its apps, whatever the scope."""
        return None if ANY in self.apps else self.apps

    def holds(self, scope: str, permissions: "Grant") -> bool:
        """Whether it covers them."""
        return self.covers(permissions)

    def lacks(self, scope: str, permissions: "Grant") -> tuple[str, str] | None:
        """Their excess."""
        return self.excess(permissions)

    @property
    def passed_sender(self) -> str:
        """Its own, unless it may do all."""
        return "" if ANY in self.scopes else self.default_sender

    def permits_sender(self, sender: str) -> bool:
        """Whether its jobs may name this sender."""
        return self.sender in {sender, ANY}

    @property
    def default_sender(self) -> str:
        """The sender of its jobs that name none; "" leaves it to the settings."""
        return "" if self.sender == ANY else self.sender

    def excess(self, grant: "Grant") -> tuple[str, str] | None:
        """The part of another grant that exceeds this one, so that it may not give it.

        Returns:
            The field and what is wrong with it in one sentence; None where all is held.
        """
        if beyond := self._beyond(grant):
            return beyond
        if self.rate and (grant.rate is None or grant.rate.per_second > self.rate.per_second):
            return "rate", en("this key's rate is {}, so it can't give more", self.rate)
        if self.expires_at and (grant.expires_at is None or grant.expires_at > self.expires_at):
            until = self.expires_at.isoformat(timespec="seconds")
            return "expires", en("this key expires at {}, so it can't give longer", until)
        return None

    def covers(self, other: "Grant") -> bool:
        """Whether this one may do all that the other may, if perhaps not as often or as long."""
        return self._beyond(other) is None

    def _beyond(self, grant: "Grant") -> tuple[str, str] | None:
        for name, held, requested in (
            ("scopes", self.scopes, grant.scopes),
            ("apps", self.apps, grant.apps),
            ("lanes", self.lanes, grant.lanes),
        ):
            missing: Iterable[str] = () if ANY in held else requested - held
            if ROBOTS in held:
                missing = [app for app in missing if not TARGET.match(app)]
            if beyond := ", ".join(sorted(missing)):
                return name, en("this key does not hold {}, so it can't give it", beyond)
        if self.sender not in {ANY, grant.sender} and ANY not in self.scopes:
            return "sender", en("this key's sender is {}, so it can't give another", self.sender)
        if grant.owner not in {"", self.owner} and ANY not in self.scopes:
            return "owner", en("this key is not {}'s, so it can't give one that is", grant.owner)
        return None


class ApiKey(Grant, frozen=True):
    """A key without its secret: safe to keep, to compare and to log."""

    id: str
    issuers: list[UserIdText] = []
    """The humans who were shown a secret of it; `shell USER@HOST` for a user of the operating system."""
