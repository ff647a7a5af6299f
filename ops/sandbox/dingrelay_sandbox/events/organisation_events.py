"""The events that follow from a change of the organisation (API §7.3)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from dingrelay_sandbox.events.event import Event
from dingrelay_sandbox.organisation import Change

DIFFERENCES = {
    "manager_userid": "managerUserid",
    "hired_date": "hiredDate",
    "name": "name",
    "telephone": "telephone",
    "email": "email",
    "job_number": "jobNumber",
    "work_place": "workPlace",
    "remark": "remark",
}
"""The fields whose change is told, and what they are called there."""


def organisation_event(change: Change, at: float) -> Event:
    """The event of a change at a Unix time."""
    if change.user:
        fields: dict[str, Any] = {"timeStamp": str(int(at * 1_000)), "userId": [change.user]}
        previous, current = _differences(change.before), _differences(change.after)
        if change.type == "user_modify_org" and previous != current:
            fields["diffInfo"] = {"prev": previous, "curr": current, "userid": change.user}
    else:
        fields = {"deptId": [change.department]}
    return Event(change.type, at, fields, user=change.user, departments=change.places)


def _differences(fields: Mapping[str, Any]) -> dict[str, str]:
    named = {DIFFERENCES[name]: str(fields[name]) for name in DIFFERENCES if name in fields}
    if "hiredDate" in named:
        hired = datetime.fromtimestamp(int(named["hiredDate"]) / 1_000, UTC)
        named["hiredDate"] = f"{hired:%Y-%m-%d}"
    return named
