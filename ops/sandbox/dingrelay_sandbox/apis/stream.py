"""The door to a stream (API §7.4)."""

from typing import cast

from dingrelay_sandbox.answers import Answer, Refusal
from dingrelay_sandbox.apis.api import Fields, api
from dingrelay_sandbox.apis.tokens import secret_fits
from dingrelay_sandbox.call import Call, Parameters
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
