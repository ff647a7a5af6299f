"""How an app gets its events: at a URL that it registers, and on a stream (API §7.1, §7.4, §11.7)."""

from typing import Any, cast

from pydantic import ValidationError

from dingrelay_sandbox.answers import Answer, Refusal
from dingrelay_sandbox.apis.api import Fields, api
from dingrelay_sandbox.apis.tokens import secret_fits
from dingrelay_sandbox.call import Call, Parameters
from dingrelay_sandbox.events.callbacks import Callback
from dingrelay_sandbox.events.event import Event
from dingrelay_sandbox.events.frames import CALLBACK, EVENTS, EVERY_TOPIC, Subscription
from dingrelay_sandbox.events.stream_gateway import PATH
from dingrelay_sandbox.state import SandboxState

MOST_SUBSCRIPTIONS = 100


@api("POST", "/v1.0/gateway/connections/open", access="own")
def open_connection(state: SandboxState, call: Call) -> Answer | Fields:
    """``POST /v1.0/gateway/connections/open``: a ticket, good once and for 90 s."""
    parameters = call.parameters
    app = state.apps.get(parameters.text("clientId"))
    if app is None or not secret_fits(app, parameters.text("clientSecret")):
        raise Refusal("authFailed", "鉴权失败", status=401, verdict="token")
    ticket = state.tickets.issue(
        app.app_key,
        _subscriptions(parameters),
        client=parameters.text_or("ua", ""),
        until=call.monotonic + state.delivery_times.ticket,
    )
    endpoint = f"{'wss' if call.secure else 'ws'}://{call.host}{PATH}"
    if "json" not in call.accept:
        # DingTalk's Node SDK says so of this API (API §11.3); the shape is a guess.
        text = f"<result><endpoint>{endpoint}</endpoint><ticket>{ticket}</ticket></result>"
        return Answer(200, text.encode(), "application/xml")
    return {"endpoint": endpoint, "ticket": ticket}


def _subscriptions(parameters: Parameters) -> list[Subscription]:
    given = parameters.objects("subscriptions")
    found = [(each.get("type"), str(each.get("topic"))) for each in given]
    right = (
        topic == EVERY_TOPIC if kind == EVENTS else kind == CALLBACK and topic.startswith("/")
        for kind, topic in found
    )
    if not 1 <= len(found) <= MOST_SUBSCRIPTIONS or not all(right):
        raise parameters.invalid("subscriptions")
    return cast("list[Subscription]", found)


@api("POST", "/call_back/register_call_back", counted=True)
def register(state: SandboxState, call: Call) -> Fields:
    """``POST /call_back/register_call_back``: the URL is not asked first, which DingTalk does."""
    if state.callbacks.of(call.caller.app_key) is not None:
        raise Refusal(71_006, "回调地址已经存在")
    return _put(state, call)


@api("POST", "/call_back/update_call_back", counted=True)
def update(state: SandboxState, call: Call) -> Fields:
    """``POST /call_back/update_call_back``."""
    _registered(state, call)
    return _put(state, call)


@api("GET", "/call_back/get_call_back", counted=True)
def get(state: SandboxState, call: Call) -> Fields:
    """``GET /call_back/get_call_back``."""
    known = _registered(state, call)
    return {
        "call_back_tag": list(known.events),
        "token": known.token,
        "aes_key": known.aes_key,
        "url": known.url,
    }


@api("GET", "/call_back/delete_call_back", counted=True)
def delete(state: SandboxState, call: Call) -> Fields:
    """``GET /call_back/delete_call_back``."""
    state.callbacks.delete(_registered(state, call).app_key)
    return {}


def _registered(state: SandboxState, call: Call) -> Callback:
    known = state.callbacks.of(call.caller.app_key)
    if known is None:
        raise Refusal(71_007, "回调地址不存在")
    return known


def _put(state: SandboxState, call: Call) -> Fields:
    """Registered so, texts end with the corpId, and fields are spelt the old way (API §7.1, §7.3)."""
    app, parameters = call.caller, call.parameters
    try:
        callback = Callback(
            app_key=app.app_key,
            url=parameters.text("url"),
            token=parameters.text("token"),
            aes_key=parameters.text("aes_key"),
            owner_key=app.organisation,
            events=tuple(parameters.texts("call_back_tag")),
            casing="registered",
        )
    except ValidationError:
        raise Refusal(71_010, "POST的JSON数据不包含所需要的参数字段或包含的参数格式非法") from None
    state.callbacks.put(callback)
    return {}


@api("GET", "/call_back/get_call_back_failed_result", counted=True)
def failed_result(state: SandboxState, call: Call) -> Fields:
    """``GET /call_back/get_call_back_failed_result``: at most 200; each is returned once."""
    app = call.caller
    events, more = state.callbacks.fetch_failed(app.app_key, now=call.monotonic)
    hollow = state.delivery_times.failed_hollow
    failed = [_failed_push(event, app.organisation, hollow=hollow) for event in events]
    return {"failed_list": failed, "has_more": more}


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
