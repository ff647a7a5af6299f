"""The filter of jobs that stands in the URL, such as ``state:dead app:hr to:u7 code:60011 since:2d``."""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.language import tr, translated
from dingrelay_producers.store import clock
from dingrelay_producers.store.states import State
from dingrelay_producers.zone import zone
from dingrelay_tasks.contract import LANES
from dingrelay_tasks.kinds import KINDS, reported_kinds
from dingrelay_workers.console.moments import RANGES
from dingrelay_workers.console.sentences import STATES
from dingrelay_workers.console.visit import BadFilter, Visit

FIELDS = ("state", "app", "to", "code", "since", "until", "sender", "kind", "lane")
LONGEST = 300
"""Characters of a filter."""

_FIELD = re.compile(r'(\w+):("[^"]*"|\S*)')
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_AGE = re.compile(r"(\d{1,4})([mhd])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


Offer = tuple[str, str, bool]
"""A choice of a filter: its label, the filter with it, or without it where it is chosen, and whether it is."""


def parse(text: str) -> dict[str, str]:
    """Field → value of a filter.

    Raises:
        BadFilter: there is no such field, or it has no value.
    """
    if leftover := _FIELD.sub("", text).strip():
        raise BadFilter(
            tr("“{text}” has no field in front of it: write such as app:hr", text=leftover)
        )
    fields: dict[str, str] = {}
    for name, value in _FIELD.findall(text):
        if name not in FIELDS:
            names = ", ".join(FIELDS)
            raise BadFilter(
                tr("there is no field “{name}”; there are {known}", name=name, known=names)
            )
        fields[name] = value.strip('"')
        if not value:  # an error may have no code: `code:""`
            raise BadFilter(tr("{name}: a value is missing", name=name))
    return fields


def job_filter(texts: dict[str, str], now: datetime) -> JobFilter:
    """The filter that these fields make; `to` is a userid by now.

    Raises:
        BadFilter: a value is none of its field.
    """
    fields: dict[str, Any] = dict(texts)
    for name, choices in (("state", list(State)), ("kind", list(KINDS)), ("lane", list(LANES))):
        if name in texts and texts[name] not in choices:
            raise BadFilter(
                tr(
                    "{name}: there is no “{value}”; there are {known}",
                    name=name,
                    value=texts[name],
                    known=", ".join(choices),
                )
            )
    if "state" in texts:
        fields["state"] = State(texts["state"])
    for name in ("since", "until"):
        if name in texts:
            fields[name] = moment(name, texts[name], now)
    return JobFilter(**fields)


def moment(name: str, text: str, now: datetime) -> datetime:
    """The moment that a text such as ``today``, ``6h``, ``2d`` or ``2026-11-28`` names.

    Raises:
        BadFilter: it names none.
    """
    if text == "today":
        return now.astimezone(zone()).replace(hour=0, minute=0, second=0, microsecond=0)
    if age := _AGE.fullmatch(text):
        return now - int(age[1]) * _UNITS[age[2]]
    try:
        instant = datetime.fromisoformat(text)
        return (instant if instant.tzinfo else instant.replace(tzinfo=zone())).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadFilter(
            tr("{name}: must be such as 30m, 6h, 2d or 2026-11-28", name=name)
        ) from None


def time_range(visit: Visit) -> tuple[datetime | None, datetime | None]:
    """The time of a list that the URL names: from when, and before when."""
    since, until, now = visit.query("since"), visit.query("until"), clock.now()
    # A day that is chosen belongs to the range.
    day = timedelta(days=1 if _DAY.fullmatch(until) else 0)
    return (
        moment("since", since, now) if since else None,
        moment("until", until, now) + day if until else None,
    )


def offers(texts: dict[str, str], apps: Iterable[str]) -> Sequence[tuple[str, Sequence[Offer]]]:
    """Filters that a click adds, by field."""
    values: dict[str, dict[str, str]] = {
        "state": {
            name: translated(meaning_of_state.words) for name, meaning_of_state in STATES.items()
        },
        "since": {
            "1h": tr("the last hour"),
            **{value: translated(words) for value, words in RANGES.items()},
        },
        "app": {name: name for name in apps},
        "kind": {name: name for name in reported_kinds()},
        "lane": {name: name for name in LANES},
    }
    return [
        (name, [_offer(texts, name, value, words) for value, words in choices.items()])
        for name, choices in values.items()
        if len(choices) > 1
    ]


def spelled(texts: dict[str, str]) -> str:
    """A filter as it stands in the URL."""
    return " ".join(
        f'{name}:"{value}"' if re.search(r"\s|^$", value) else f"{name}:{value}"
        for name, value in texts.items()
    )


def _offer(texts: dict[str, str], name: str, value: str, words: str) -> Offer:
    is_chosen = texts.get(name) == value
    other_fields = {field: text for field, text in texts.items() if field != name}
    return words, spelled(other_fields if is_chosen else other_fields | {name: value}), is_chosen
