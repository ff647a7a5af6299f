"""The events that could not be pushed (API §7.1, §11.7)."""

from typing import Any

from dingrelay_sandbox.answers import Answer, oapi_ok
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.events.event import Event
from dingrelay_sandbox.state import SandboxState


def failed_result(state: SandboxState, call: Call) -> Answer:
    """``GET /call_back/get_call_back_failed_result``: at most 200; each is told once."""
    app = call.caller
    events, more = state.callbacks.fetch_failed(app.app_key, now=call.monotonic)
    hollow = state.delivery_times.failed_hollow
    failed = [_failed_push(event, app.organisation, hollow=hollow) for event in events]
    return oapi_ok(call.request_id, failed_list=failed, has_more=more)


def _failed_push(event: Event, corp_id: str, *, hollow: bool) -> dict[str, Any]:
    """One entry: the data lie under the type's own name, and there is no id of the event."""
    return {
        event.type: {**_data({} if hollow else dict(event.fields), event.type), "corpid": corp_id},
        "call_back_tag": event.type,
        "event_time": event.born_ms,
    }


def _data(fields: dict[str, Any], kind: str) -> dict[str, Any]:
    if kind.startswith("bpms_"):
        return {"bpmsCallBackData": fields}
    if kind.startswith("label_"):
        return {"roleLabelChange": fields}
    if kind.startswith("user_"):
        return {"userid": fields.get("userId", [])}
    return {"callbackData": fields}
