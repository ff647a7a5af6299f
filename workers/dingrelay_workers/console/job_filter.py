"""The filter of jobs that stands in the URL, such as ``state:dead app:hr to:u7 code:60011 since:2d``."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.language import tr, translated
from dingrelay_producers.store.states import State
from dingrelay_producers.zone import zone
from dingrelay_tasks.contract import LANES
from dingrelay_tasks.kinds import KINDS, reported_kinds
from dingrelay_workers.console.sentences import STATES
from dingrelay_workers.console.visit import BadFilter

FIELDS = ("state", "app", "to", "code", "since", "until", "sender", "kind", "lane")
LONGEST = 300
"""Characters of a filter."""

_FIELD = re.compile(r'(\w+):("[^"]*"|\S*)')
_AGE = re.compile(r"(\d{1,4})([mhd])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


Offer = tuple[str, str, bool]
"""A choice of a filter: its label, the filter with it, or without it where it is chosen, and whether it is."""


def parse(text: str) -> dict[str, str]:
    """Field → value of a filter.

    Raises:
        BadFilter: there is no such field, or it has no value.
    """
    if rest := _FIELD.sub("", text).strip():
        raise BadFilter(tr("“{text}” has no field in front of it: write such as app:hr", text=rest))
    given: dict[str, str] = {}
    for name, value in _FIELD.findall(text):
        if name not in FIELDS:
            known = ", ".join(FIELDS)
            raise BadFilter(
                tr("there is no field “{name}”; there are {known}", name=name, known=known)
            )
        given[name] = value.strip('"')
        if not given[name]:
            raise BadFilter(tr("{name}: a value is missing", name=name))
    return given


def job_filter(given: dict[str, str], now: datetime) -> JobFilter:
    """The filter that these fields make; `to` is a userid by now.

    Raises:
        BadFilter: a value is none of its field.
    """
    fields: dict[str, Any] = dict(given)
    for name, known in (("state", list(State)), ("kind", list(KINDS)), ("lane", list(LANES))):
        if name in given and given[name] not in known:
            raise BadFilter(
                tr(
                    "{name}: there is no “{value}”; there are {known}",
                    name=name,
                    value=given[name],
                    known=", ".join(known),
                )
            )
    if "state" in given:
        fields["state"] = State(given["state"])
    for name in ("since", "until"):
        if name in given:
            fields[name] = moment(name, given[name], now)
    return JobFilter(**fields)


def moment(name: str, text: str, now: datetime) -> datetime:
    """The moment that a text such as ``6h``, ``2d`` or ``2026-11-28`` names.

    Raises:
        BadFilter: it names none.
    """
    if age := _AGE.fullmatch(text):
        return now - int(age[1]) * _UNITS[age[2]]
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=zone())).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadFilter(
            tr("{name}: must be such as 30m, 6h, 2d or 2026-11-28", name=name)
        ) from None


def offers(given: dict[str, str], apps: Iterable[str]) -> Sequence[tuple[str, Sequence[Offer]]]:
    """Filters that a click adds, by field."""
    values: dict[str, dict[str, str]] = {
        "state": {name: translated(each.words) for name, each in STATES.items()},
        "since": {"1h": tr("the last hour"), "1d": tr("the last day"), "7d": tr("the last 7 days")},
        "app": {name: name for name in apps},
        "kind": {name: name for name in reported_kinds()},
        "lane": {name: name for name in LANES},
    }
    return [
        (name, [_offer(given, name, value, words) for value, words in known.items()])
        for name, known in values.items()
        if len(known) > 1
    ]


def spelled(given: dict[str, str]) -> str:
    """A filter as it stands in the URL."""
    return " ".join(
        f'{name}:"{value}"' if re.search(r"\s", value) else f"{name}:{value}"
        for name, value in given.items()
    )


def _offer(given: dict[str, str], name: str, value: str, words: str) -> Offer:
    chosen = given.get(name) == value
    others = {each: known for each, known in given.items() if each != name}
    return words, spelled(others if chosen else others | {name: value}), chosen
