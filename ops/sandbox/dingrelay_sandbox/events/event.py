"""Events: what makes them, and the two shapes of each (API §7.3)."""

import itertools
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from dingrelay_sandbox.approvals import FlowChange, Instance
from dingrelay_sandbox.organisation import Change

Casing = Literal["subscribed", "registered"]
"""How the fields of an HTTP push are spelt: as documented today, or as before 2020."""

REGISTERED_NAMES = {"userId": "UserId", "deptId": "DeptId", "timeStamp": "TimeStamp"}
"""Fields of contacts that are spelt another way in the old format (API §7.3)."""

_biz_ids = itertools.count(1_663_000_000_000)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes:
        type: such as ``user_add_org``.
        born: Unix seconds of the sandbox's clock.
        fields: its own fields; they win over the common ones of the same name.
        app: the only app that gets it; None: every app that has asked for it and may see it.
        user: the person that it is about, whose scope it is then.
        departments: where it happened; None: it is of no place, and everybody's.
    """

    type: str
    born: float
    fields: Mapping[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    biz_id: str = field(default_factory=lambda: str(next(_biz_ids)))
    app: str | None = None
    user: str = ""
    departments: frozenset[int] | None = None

    @property
    def is_callback(self) -> bool:
        """Whether it is a message to a robot, say, which goes to those who subscribed to its topic."""
        return self.type.startswith("/")

    @property
    def born_ms(self) -> int:
        """When it happened, in milliseconds."""
        return int(self.born * 1_000)

    def pushed(self, corp_id: str, casing: Casing = "subscribed") -> dict[str, Any]:
        """The event as an HTTP push has it, before it is encrypted."""
        if casing == "registered":
            return self._registered(corp_id)
        return {
            "EventType": self.type,
            "EventTime": self.born_ms,
            "CorpId": corp_id,
            "BizId": self.biz_id,
            "eventId": self.id,
            **self.fields,
        }

    def _registered(self, corp_id: str) -> dict[str, Any]:
        """The old format: other names, and no id."""
        renamed = {REGISTERED_NAMES.get(name, name): value for name, value in self.fields.items()}
        corporation = "corpId" if self.type.startswith("bpms_") else "CorpId"
        return {
            "EventType": self.type,
            corporation: corp_id,
            "TimeStamp": str(self.born_ms),
            **renamed,
        }


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
"""The fields whose change is reported, and what they are called there."""


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


RESULTS = {"AGREE": "agree", "REFUSE": "refuse", "REDIRECTED": "redirect"}


def approval_event(instance: Instance, change: FlowChange, title: str) -> Event:
    """The event of a change."""
    request = instance.request
    fields: dict[str, Any] = {
        "processInstanceId": instance.id,
        "processCode": request.template.process_code,
        "businessId": instance.business_id,
        "bizCategoryId": "",
        "title": title,
        "type": change.type,
    }
    if change.of == "instance":
        return Event("bpms_instance_change", change.at, fields | _instance(instance, change))
    return Event("bpms_task_change", change.at, fields | _task(change))


def _instance(instance: Instance, change: FlowChange) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "businessType": "",
        "staffId": instance.request.originator,
        "url": f"https://aflow.dingtalk.com/dingtalk/mobile/homepage.htm?procInstId={instance.id}",
        "createTime": _milliseconds(instance.created_at),
    }
    if change.type != "start":
        payload["finishTime"] = _milliseconds(change.at)
    if change.type == "finish":
        payload["result"] = instance.result
    return payload


def _task(change: FlowChange) -> dict[str, Any]:
    payload: dict[str, Any] = {"staffId": change.user}
    if change.remark:
        payload["remark"] = change.remark
    task = change.task
    if task is None:
        return payload | {"createTime": _milliseconds(change.at)}
    payload |= {"taskId": task.id, "createTime": _milliseconds(task.created_at)}
    if change.type in {"finish", "cancel"}:
        payload["finishTime"] = _milliseconds(change.at)
    if change.type == "finish":
        payload["result"] = RESULTS[task.result]
    return payload


def _milliseconds(at: float) -> int:
    """A time as these events tell it: in milliseconds, and never finer than a second."""
    return int(at) * 1_000
