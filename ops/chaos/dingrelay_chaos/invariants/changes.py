"""9: what a walk or an event finds out of people is reported once, and nothing else is.

The directory keeps one row a run and person, with all that the run found out. A run that reads a person
twice, as their own answer and among a department's people, may find out something each time: each is reported.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from dingrelay_chaos.evidence import Finding

PREFIX = "directory.user."


def violations(
    found: Iterable[Mapping[str, Any]], notices: Iterable[Mapping[str, Any]], skew: float
) -> Iterator[Finding]:
    """Changes that were not reported, and notices of none.

    Args:
        found: rows of the changes, with when their run began to look (`opened_at`).
        notices: all that were sent.
        skew: seconds by which the clocks of two workers differ, at most.
    """
    rows: dict[str, list[Mapping[str, Any]]] = {}
    named: dict[str, list[Mapping[str, Any]]] = {}
    for row in found:
        rows.setdefault(row["userid"], []).append({**row, "fields": json.loads(row["fields"])})
    for each in notices:
        if each["type"].startswith(PREFIX):
            named.setdefault(each["data"]["userid"], []).append(each)
    for user in sorted({*rows, *named}):
        yield from _of(user, rows.get(user, []), named.get(user, []), timedelta(seconds=skew))


@dataclass
class _Found:
    """A run's findings about a person, and the notices that report them.

    Attributes:
        row: of the table.
        last: the notice of what it found out last; None if there is none.
        happened: what the notices say that happened.
        changed: the fields that they name.
    """

    row: Mapping[str, Any]
    last: Mapping[str, Any] | None
    happened: set[str] = field(default_factory=set[str])
    changed: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        if self.last is not None:
            self.happened.add(_event(self.last))
            self.changed |= _changed(self.last)

    def may_report(self, notice: Mapping[str, Any], skew: timedelta) -> bool:
        """Whether it may report what the run found out before. A run adds a person once, and marks them as left once."""
        what = _event(notice)
        return (
            _at(self.row["opened_at"]) - skew <= _at(notice["at"]) <= _at(self.row["at"]) + skew
            and (what == "changed" or what not in self.happened)
            and _earlier(notice, self.row, self.last)
        )

    def wrong(self) -> Iterator[str]:
        """The findings that were not reported."""
        row = self.row
        found = f"of {row['userid']} {row['event']} {row['fields']} was found at {row['at']}"
        if self.last is None:
            if row["event"] != "gone":  # reported once they are marked as left
                yield f"{found}, and not reported"
        elif row["event"] == "added" and "added" not in self.happened:
            yield f"{found}, and only changes reported"
        elif row["event"] == "changed" and not set(row["fields"]) <= self.changed:
            yield f"{found}, and {sorted(self.changed)} reported"


def _of(
    user: str, rows: list[Mapping[str, Any]], named: list[Mapping[str, Any]], skew: timedelta
) -> Iterator[Finding]:
    left: list[Mapping[str, Any]] = []
    for each in named:
        if any(_same(each, other) for other in left):
            yield f"{user} is reported twice to be {_named(each)}", user
        else:
            left.append(each)
    all_found: list[_Found] = []
    for row in rows:
        last = next((each for each in left if _is_last(each, row)), None)
        if last is not None:
            left.remove(last)
        all_found.append(_Found(row, last))
    for each in left:
        runs = [found for found in all_found if found.may_report(each, skew)]
        if not runs:
            yield f"{user} is reported to be {_named(each)}, which was not found", user
            continue
        runs[0].happened.add(_event(each))
        for found in runs:
            found.changed |= _changed(each)
    for found in all_found:
        for text in found.wrong():
            yield text, user


def _is_last(notice: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether it reports what the run found out last. Who was added by a run stays added in its row."""
    if notice["at"] != row["at"]:
        return False
    what = _event(notice)
    if what == row["event"] == "changed":
        return _changed(notice) <= set(row["fields"])
    return what == row["event"] or what == "changed"


def _earlier(
    notice: Mapping[str, Any], row: Mapping[str, Any], last: Mapping[str, Any] | None
) -> bool:
    """Whether it may report what the run found out before. The same thing reported again does not."""
    if row["event"] != "changed":
        return True
    again = last is not None and notice["data"]["name"] == last["data"]["name"]
    changed = _changed(notice)
    return changed <= set(row["fields"]) and not (again and changed & _changed(last))


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two notices report the same: nothing is found out of a person twice within a microsecond."""
    return all(one[name] == other[name] for name in ("type", "at", "data"))


def _named(notice: Mapping[str, Any]) -> str:
    return f"{_event(notice)} {sorted(_changed(notice))} at {notice['at']}"


def _event(notice: Mapping[str, Any]) -> str:
    return str(notice["type"]).removeprefix(PREFIX)


def _changed(notice: Mapping[str, Any] | None) -> set[str]:
    return set(notice["data"].get("changed", ())) if notice else set()


def _at(moment: str) -> datetime:
    return datetime.fromisoformat(moment)
