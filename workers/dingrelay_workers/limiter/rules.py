"""The limits of DingTalk that apply to a call (API §6), and the rate of a bucket under one."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from dingrelay_producers.store.keys import bucket
from dingrelay_tasks.kinds import declared_rules
from dingrelay_tasks.robot_names import WEBHOOK
from dingrelay_tasks.sentence import Sentence, en
from dingrelay_workers.dingtalk.apis import API_NAMES

Unit = Literal["calls", "recipients"]
UNITS: tuple[Unit, ...] = ("calls", "recipients")

LARGEST_COST: Mapping[Unit, int] = {"calls": 1, "recipients": 100}
"""Cost of one call, in the usual case: a bucket must be able to give that much at once (API §2.1)."""

EVERY = "*"
EGRESS = "egress"
DEFAULTS: Mapping[str, Mapping[str, str]] = {
    EVERY: {"calls": "20/1s"},
    EGRESS: {"calls": "10000/20s"},
    # The token API has no published limit; what it answers still pauses it.
    "token": {"calls": ""},
    **declared_rules(),
}
"""API → unit → limit; ``*`` is every API, ``egress`` the address that calls come from."""

JITTER = 0.5
"""Seconds that a window is taken to be longer where breaking the rule is silent or costs minutes.

DingTalk counts a call when it arrives, so calls may come closer together than they left.
"""

EVEN = frozenset({WEBHOOK})
"""APIs whose calls leave one by one: a call too many is refused, and the next ones for ten minutes (API §12.3)."""

PATH = re.compile(r"(?:/(?:\*|[A-Za-z0-9._-]+))+")
"""A rule for the calls of a path; ``*`` stands for any one segment of it."""

LIMIT = re.compile(r"([1-9][0-9]{0,8})/([0-9]{1,6}(?:\.[0-9]{1,6})?)?(s|m|h)")
SECONDS = {"s": 1, "m": 60, "h": 3600}


MOST_KNOWN = 10_000
"""Rules that a process remembers: anybody can name a robot that does not exist."""


@dataclass(frozen=True)  # without slots: what follows from the fields is worked out once
class Rule:
    """One limit of DingTalk.

    Attributes:
        scope: what it holds for, ``app:NAME`` or ``egress:NAME``.
        api: the API's name; ``*`` for all of them together.
        unit: what is counted.
        limit: how many in any window; None for no limit, which leaves room for penalties only.
        window: seconds.
    """

    scope: str
    api: str
    unit: Unit
    limit: int | None
    window: float = 1.0

    @cached_property
    def key(self) -> str:
        """The Redis key of its bucket."""
        return bucket(self.scope, self.api, self.unit)

    @cached_property
    def burst(self) -> int:
        """Tokens in a full bucket, and the most that one call should cost."""
        largest = LARGEST_COST[self.unit]
        if self.limit is None or self.limit > largest:
            return largest
        # A full bucket and what flows in while the window lasts must not be more than the limit.
        return max(1, self.limit // 2)

    @cached_property
    def adaptive(self) -> bool:
        """Whether the rate may grow until DingTalk refuses: only calls of one app get a refusal.

        Recipients beyond the limit are dropped silently, and too many calls from one address, or to one robot, are
        answered with a ban of minutes (API §2.1, §6, §12.3).
        """
        return self.unit == "calls" and self.scope.startswith("app:") and not self.even

    @cached_property
    def even(self) -> bool:
        """Whether its calls leave one by one, at equal distances: no window can hold one too many."""
        return self.api.partition("@")[0] in EVEN

    @cached_property
    def rate(self) -> float:
        """Units a second at which no window, wherever it starts, holds more than the limit."""
        if self.limit is None:
            return 0.0
        if self.limit <= self.burst or self.even:
            return self.limit / (self.window + JITTER)
        margin = 0.0 if self.adaptive else JITTER
        return (self.limit - self.burst) / (self.window + margin)

    @cached_property
    def top(self) -> float:
        """Units a second that the rate may grow to; `rate` where it may not grow."""
        if self.limit is None or not self.adaptive:
            return self.rate
        return max(self.rate, self.limit / self.window)


class Rules:
    """The rules of every app and API.

    Attributes:
        limits: API, path, ``*`` or ``egress`` → unit → limit and window (s); None for no limit.
        address: the name of the address that the workers call from.
    """

    def __init__(
        self, limits: Mapping[str, Mapping[Unit, tuple[int, float] | None]], address: str
    ) -> None:
        self.limits = limits
        self.address = address
        self._known: dict[tuple[str, str], tuple[Rule, ...]] = {}
        self._recipients: dict[tuple[str, str], Rule | None] = {}
        self._paths = {name: _pattern(name) for name in limits if name.startswith("/")}

    @classmethod
    def from_settings(cls, overrides: Mapping[str, Mapping[str, str]], egress: str) -> "Rules":
        """The defaults with what the settings override.

        Args:
            overrides: API, path, ``*`` or ``egress`` → unit → ``limit/window`` such as ``20/1s`` or
                ``5000/1m``; an empty string lifts the rule.
            egress: the name of the address that the workers call from.

        Raises:
            ValueError: a limit cannot be read; the message names it.
        """
        limits: dict[str, dict[Unit, tuple[int, float] | None]] = {}
        for api, defaults in DEFAULTS.items():
            limits[api] = {
                _unit(api, name): parse(api, name, text) for name, text in defaults.items()
            }
        for api, texts in overrides.items():
            _check_name(api)
            for name, text in texts.items():
                limits.setdefault(api, {})[_unit(api, name)] = parse(api, name, text)
        return cls(limits, egress)

    def renew(self, overrides: Mapping[str, Mapping[str, str]]) -> None:
        """Take the limits of robots whose webhooks are new; paths stay as they were."""
        self.limits = Rules.from_settings(overrides, self.address).limits
        self._known.clear()
        self._recipients.clear()

    def of(self, app: str, api: str) -> tuple[Rule, ...]:
        """The rules that a call of this API by this app falls under.

        The first one counts the app's calls and is there even without a limit: it keeps the
        penalties that throttling answers bring.
        """
        rules = self._known.get((app, api))
        if rules is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            rules = self._known[app, api] = self._compose(app, api)
        return rules

    def named_for(self, path: str) -> str:
        """The name of the rule that is set for a path; empty if there is none.

        One without ``*`` goes before one with it.
        """
        if path in self._paths:
            return path
        matching_names = (name for name, pattern in self._paths.items() if pattern.fullmatch(path))
        return next(matching_names, "")

    def recipients(self, app: str, api: str) -> Rule | None:
        """The rule by which recipients of this API are limited; None if they are not."""
        if (app, api) not in self._recipients:
            limits = (rule for rule in self.of(app, api) if rule.unit == "recipients" and rule.rate)
            self._recipients[app, api] = next(limits, None)
        return self._recipients[app, api]

    def find(self, scope: str, api: str, unit: str) -> Rule | None:
        """The rule that a bucket keeps; None if these rules know none like it."""
        if scope.startswith(f"{EGRESS}:"):
            candidates: tuple[Rule, ...] = (self.egress,) if scope == self.egress.scope else ()
        else:
            candidates = self.of(scope.removeprefix("app:"), api)
        return next((rule for rule in candidates if (rule.api, rule.unit) == (api, unit)), None)

    @property
    def egress(self) -> Rule:
        """The rule over all calls from one address."""
        limit, window = self.limits[EGRESS]["calls"] or (None, 1.0)
        return Rule(f"{EGRESS}:{self.address}", EVERY, "calls", limit, window)

    def _compose(self, app: str, api: str) -> tuple[Rule, ...]:
        # A part of an API, such as a robot, has the API's limit if it has none of its own.
        whole = self.limits.get(api.partition("@")[0], {})
        limits = {**self.limits[EVERY], **whole, **self.limits.get(api, {})}
        rules: list[Rule] = []
        for unit in UNITS:
            limit, window = limits.get(unit) or (None, 1.0)
            if unit == "calls" or limit is not None:
                rules.append(Rule(f"app:{app}", api, unit, limit, window))
        return (*rules, self.egress)


def _check_name(api: str) -> None:
    """Refuse a rule for an unknown API: the intended limit would not be kept.

    Raises:
        ValueError: names the rule and the nearest API.
    """
    names_of_apis = {*DEFAULTS, *API_NAMES}
    if api.partition("@")[0] in names_of_apis or PATH.fullmatch(api):
        return
    near = difflib.get_close_matches(api, names_of_apis, 1, cutoff=0.4)
    names = (
        en('did you mean "{}"?', near[0])
        if near
        else en("there are {}", ", ".join(sorted(names_of_apis)))
    )
    raise ValueError(en('rules."{}": no such API; {}', api, names))


def parse(api: str, unit: str, text: str) -> tuple[int, float] | None:
    """Limit and window (s) of a text such as ``20/1s``; None for the empty text.

    Raises:
        ValueError: names the rule.
    """
    if not text:
        return None
    match = LIMIT.fullmatch(text)
    if match is None:
        raise ValueError(
            en('rules."{}".{}: "{}" is not like 20/1s, 5000/60s or 20/1m', api, unit, text)
        )
    limit, length, scale = match.groups()
    window = float(length or 1) * SECONDS[scale]
    if window <= 0:
        raise ValueError(en('rules."{}".{}: "{}" has a window of no length', api, unit, text))
    return int(limit), window


def in_words(unit: str, limit: int, window: float) -> Sentence:
    """A limit as people say it: ``20 calls a second``."""
    amount = en("{:,} recipients", limit) if unit == "recipients" else en("{:,} calls", limit)
    match window:
        case 1:
            return en("{} a second", amount)
        case 60:
            return en("{} a minute", amount)
        case _:
            return en("{} in {:g} s", amount, window)


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\*", "[^/]+"))


def _unit(api: str, name: str) -> Unit:
    for unit in UNITS:
        if unit == name:
            return unit
    raise ValueError(en('rules."{}".{}: a rule counts calls or recipients', api, name))
