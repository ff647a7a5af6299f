"""The rules that the workers keep. Each publishes its own, so that other processes show those."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.record import canonical_json
from dingrelay_workers.limiter.rules import UNITS, Rule, Rules, Unit


@dataclass(frozen=True, slots=True)
class Difference:
    """A limit that not all workers keep alike.

    Attributes:
        api: or ``*``, ``egress``, a path.
        limits: limit, such as ``20/1s``, or empty for none → the workers that keep it.
    """

    api: str
    unit: str
    limits: dict[str, list[str]]


class FleetRules:
    """The rules of all workers; where they differ those that most of them keep."""

    def __init__(self, of_workers: Mapping[str, Rules], fallback: Rules) -> None:
        """Sends nothing to Redis.

        Args:
            of_workers: worker → its rules.
            fallback: stand in where no worker has published any.
        """
        self._of_workers = dict(sorted(of_workers.items()))
        alike: defaultdict[str, list[Rules]] = defaultdict(list)
        for rules in self._of_workers.values():
            alike[canonical_json(_plain(rules))].append(rules)
        most = max(alike.values(), key=len, default=[fallback])
        self._rules = most[0]
        by_address = {rules.address: rules for rules in [*self._of_workers.values(), fallback]}
        self._others = list(by_address.values())

    @property
    def workers(self) -> int:
        """How many workers have published theirs; 0: these are the settings of this process."""
        return len(self._of_workers)

    def of(self, app: str, api: str) -> tuple[Rule, ...]:
        """The rules that a call of this API by this app falls under."""
        return self._rules.of(app, api)

    def find(self, scope: str, api: str, unit: str) -> Rule | None:
        """The rule that a bucket keeps; None if no worker's rules know one like it."""
        rule = self._rules.find(scope, api, unit)
        variants = (rules.find(scope, api, unit) for rules in self._others)
        return rule or next((rule for rule in variants if rule is not None), None)

    @property
    def differences(self) -> Sequence[Difference]:
        """The limits that not all workers keep alike."""
        names = sorted({name for rules in self._of_workers.values() for name in rules.limits})
        differences: list[Difference] = []
        for api in names:
            for unit in UNITS:
                limits: defaultdict[str, list[str]] = defaultdict(list)
                for worker, rules in self._of_workers.items():
                    limits[_text(rules, api, unit)].append(worker)
                if len(limits) > 1:
                    differences.append(Difference(api, unit, dict(limits)))
        return differences


async def publish(
    redis: Redis, worker: str, rules: Rules, about: Mapping[str, Any] | None = None
) -> None:
    """Publish which rules a worker keeps, for a minute, and more about it (`backlog/workers.py`)."""
    document = {"limits": _plain(rules), "address": rules.address, "worker": about or {}}
    text = canonical_json(document)
    await redis.set(keys.rules(worker), text, px=keys.RULES_TTL_MS)


async def published(redis: Redis) -> dict[str, bytes]:
    """Data published by the live workers; empty for one that has not published yet."""
    workers: list[Any] = await redis.hkeys(keys.PRESENCE)
    names = sorted(name.decode(errors="replace") for name in workers)
    texts: list[Any] = await redis.mget([keys.rules(name) for name in names]) if names else []
    return {name: text or b"" for name, text in zip(names, texts, strict=True)}


async def read(redis: Redis, fallback: Rules) -> FleetRules:
    """The rules of the workers that are there."""
    published_rules = {name: _parse_rules(text) for name, text in (await published(redis)).items()}
    return FleetRules(
        {name: rules for name, rules in published_rules.items() if rules is not None}, fallback
    )


def _plain(rules: Rules) -> dict[str, Any]:
    return {api: dict(limits) for api, limits in rules.limits.items()}


def _parse_rules(text: bytes) -> Rules | None:
    """Parse the text that `publish` wrote; None for none, or where another version wrote something else."""
    try:
        document = json.loads(text)
        limits: dict[str, dict[Unit, tuple[int, float] | None]] = {
            str(api): {
                unit: None if units[unit] is None else (int(units[unit][0]), float(units[unit][1]))
                for unit in UNITS
                if unit in units
            }
            for api, units in document["limits"].items()
        }
        if "calls" not in limits["*"] or "calls" not in limits["egress"]:
            return None
        return Rules(limits, str(document["address"]))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


def _text(rules: Rules, api: str, unit: Unit) -> str:
    """A limit as the settings spell it; empty for none."""
    units = rules.limits.get(api, {})
    limit = units[unit] if unit in units else rules.limits["*"].get(unit)
    return f"{limit[0]}/{limit[1]:g}s" if limit else ""
