"""The filter of jobs that stands in the URL, such as ``state:dead app:hr to:u7 code:60011 since:2d``."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.client.job_list import Brief
from dingrelay_producers.language import tr, translated
from dingrelay_producers.store import clock
from dingrelay_producers.store.states import State
from dingrelay_producers.zone import zone
from dingrelay_tasks.contract import LANES
from dingrelay_tasks.kinds import KINDS, reported_kinds
from dingrelay_workers.console.sentences import STATES
from dingrelay_workers.console.visit import BadFilter, Visit, checked_choice

FIELDS = ("state", "app", "to", "code", "since", "until", "sender", "kind", "lane")
LONGEST = 300
"""Characters of a filter."""

_FIELD = re.compile(r'(\w+):("[^"]*"|\S*)')
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_AGE = re.compile(r"(\d{1,4})([mhd])")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


MOST_SUGGESTED = 20
"""Values of a field that are suggested."""
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
        if name in texts:
            checked_choice(name, texts[name], choices)
    if "state" in texts:
        fields["state"] = State(texts["state"])
    since, until = span_of(texts.get("since", ""), texts.get("until", ""), now)
    fields |= {"since": since, "until": until}
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
    return span_of(visit.query("since"), visit.query("until"), clock.now())


def span_of(since: str, until: str, now: datetime) -> tuple[datetime | None, datetime | None]:
    """The time between two texts, as `moment` reads them; empty for no bound.

    Raises:
        BadFilter: one of them names no moment.
    """
    # A day that is chosen belongs to the range.
    day = timedelta(days=1 if _DAY.fullmatch(until) else 0)
    return (
        moment("since", since, now) if since else None,
        moment("until", until, now) + day if until else None,
    )


def state_offers(texts: Mapping[str, str]) -> Sequence[Offer]:
    """States that a click adds, or takes out."""
    return [
        (translated(meaning.words), spelled(_toggled(texts, name)), texts.get("state") == name)
        for name, meaning in STATES.items()
    ]


def suggestions(
    texts: Mapping[str, str], jobs: Iterable[Brief], apps: Collection[str]
) -> Sequence[str]:
    """The filter with one more field, of the values that there are, for a list below the box."""
    values: dict[str, Collection[str]] = {
        "state": STATES,
        "lane": LANES,
        "kind": reported_kinds(),
        "app": apps if len(apps) > 1 else (),
        "sender": {job.sender for job in jobs},
        "code": {job.code for job in jobs},
    }
    return [
        spelled({**texts, name: value})
        for name, choices in values.items()
        if name not in texts
        for value in sorted(filter(None, choices))[:MOST_SUGGESTED]
    ]


def spelled(texts: Mapping[str, str]) -> str:
    """A filter as it stands in the URL."""
    return " ".join(
        f'{name}:"{value}"' if re.search(r"\s|^$", value) else f"{name}:{value}"
        for name, value in texts.items()
    )


def _toggled(texts: Mapping[str, str], state: str) -> dict[str, str]:
    others = {field: text for field, text in texts.items() if field != "state"}
    return others if texts.get("state") == state else others | {"state": state}
