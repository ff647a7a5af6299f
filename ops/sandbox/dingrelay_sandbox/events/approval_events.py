"""The events that follow from what becomes of an approval (API §7.3)."""

from typing import Any

from dingrelay_sandbox.approval_flow import FlowChange
from dingrelay_sandbox.approvals import Instance
from dingrelay_sandbox.events.event import Event

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
        payload["result"] = instance.flow.result
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
