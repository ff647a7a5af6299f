"""9: what a walk or an event finds out of people is told once, and nothing else is.

The directory keeps one row a run and person, with all that the run found out. A run that reads somebody
twice, as their own answer and among a department's people, may find out something each time: each is told.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from dingrelay_chaos.evidence import Violation

PREFIX = "directory.user."


def violations(
    found: Iterable[Mapping[str, Any]], notices: Iterable[Mapping[str, Any]], skew: float
) -> Iterator[Violation]:
    """Changes that were not told, and notices of none.

    Args:
        found: rows of the changes, with when their run began to look (`opened_at`).
        notices: all that were told.
        skew: seconds by which the clocks of two workers differ, at most.
    """
    rows: dict[str, list[Mapping[str, Any]]] = {}
    told: dict[str, list[Mapping[str, Any]]] = {}
    for row in found:
        rows.setdefault(row["userid"], []).append({**row, "fields": json.loads(row["fields"])})
    for each in notices:
        if each["type"].startswith(PREFIX):
            told.setdefault(each["data"]["userid"], []).append(each)
    for user in sorted({*rows, *told}):
        yield from _of(user, rows.get(user, []), told.get(user, []), timedelta(seconds=skew))


def _of(
    user: str, rows: list[Mapping[str, Any]], told: list[Mapping[str, Any]], skew: timedelta
) -> Iterator[Violation]:
    left = list(told)
    lasts: list[tuple[Mapping[str, Any], Mapping[str, Any] | None, set[str]]] = []
    for row in rows:
        last = next((each for each in left if _is_last(each, row)), None)
        if last is not None:
            left.remove(last)
        elif row["event"] != "gone":  # told once they are marked as left
            text = (
                f"{user} was found {row['event']} {row['fields']} at {row['at']}, and nobody told"
            )
            yield Violation(9, text, user)
        lasts.append((row, last, _changed(last)))
    for each in left:
        runs = [
            covered
            for row, last, covered in lasts
            if _at(row["opened_at"]) - skew <= _at(each["at"]) <= _at(row["at"]) + skew
            and _earlier(each, row, last)
        ]
        if not runs:
            text = f"{user} is told to be {_what(each)} {sorted(_changed(each))} at {each['at']}"
            yield Violation(9, f"{text}, which was not found", user)
        for covered in runs:
            covered.update(_changed(each))
    for row, last, covered in lasts:
        if last is not None and row["event"] == "changed" and not set(row["fields"]) <= covered:
            text = f"of {user} {row['fields']} were found, and {sorted(covered)} told"
            yield Violation(9, text, user)


def _is_last(notice: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether it tells what the run found out last. Who was added by a run stays added in its row."""
    if notice["at"] != row["at"]:
        return False
    what = _what(notice)
    if what == row["event"] == "changed":
        return _changed(notice) <= set(row["fields"])
    return what == row["event"] or what == "changed"


def _earlier(
    notice: Mapping[str, Any], row: Mapping[str, Any], last: Mapping[str, Any] | None
) -> bool:
    """Whether it may tell what the run found out before. The same thing told again does not."""
    if row["event"] != "changed":
        return True
    again = last is not None and notice["data"]["name"] == last["data"]["name"]
    changed = _changed(notice)
    return changed <= set(row["fields"]) and not (again and changed & _changed(last))


def _what(notice: Mapping[str, Any]) -> str:
    return str(notice["type"]).removeprefix(PREFIX)


def _changed(notice: Mapping[str, Any] | None) -> set[str]:
    return set(notice["data"].get("changed", ())) if notice else set()


def _at(moment: str) -> datetime:
    return datetime.fromisoformat(moment)
