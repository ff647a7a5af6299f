"""The three ways to fetch an access token (API §1)."""

import secrets

from dingrelay_sandbox import answers
from dingrelay_sandbox.answers import Answer, Refusal, json_answer
from dingrelay_sandbox.apis.api import Fields, api, check_rate
from dingrelay_sandbox.apps import App
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.state import SandboxState


@api("GET", "/gettoken", access="own")
def gettoken(state: SandboxState, call: Call) -> Answer:
    """``GET /gettoken``: key and secret in the query, by either of two pairs of names."""
    key, secret = (
        call.query.get(f"app{part}") or call.query.get(f"corp{old}", "")
        for part, old in (("key", "id"), ("secret", "secret"))
    )
    if not key or not secret:
        raise Refusal(40_035, "缺少参数 corpid or appkey")
    token = _fetch(state, call, key, secret)
    content = {
        "errcode": 0,
        "access_token": token,
        "errmsg": "ok",
        "expires_in": state.limits.token_seconds,
    }
    return json_answer(content)


@api("POST", "/v1.0/oauth2/accessToken", access="own")
def access_token(state: SandboxState, call: Call) -> Fields:
    """``POST /v1.0/oauth2/accessToken``."""
    key, secret = call.parameters.text("appKey"), call.parameters.text("appSecret")
    token = _fetch(state, call, key, secret)
    return {"accessToken": token, "expireIn": state.limits.token_seconds}


@api("POST", "/v1.0/oauth2/{id}/token", access="own")
def corporation_token(state: SandboxState, call: Call) -> Fields:
    """``POST /v1.0/oauth2/{corpId}/token``."""
    organisation = call.path.split("/")[3]
    if organisation not in {app.organisation for app in state.apps.values()}:
        raise Refusal("unknownError", "未知错误", status=500)
    parameters = call.parameters
    if parameters.text("grant_type") != "client_credentials":
        raise parameters.invalid("grant_type")
    key, secret = parameters.text("client_id"), parameters.text("client_secret")
    app = state.apps.get(key)
    if app is not None and app.organisation != organisation:
        raise answers.credentials_refused(call.dialect)
    token = _fetch(state, call, key, secret)
    return {"access_token": token, "expires_in": state.limits.token_seconds}


def _fetch(state: SandboxState, call: Call, key: str, secret: str) -> str:
    check_secret(state, call, key, secret)
    return state.tokens.fetch(key, call.at, state.limits.token_seconds)


def check_secret(state: SandboxState, call: Call, key: str, secret: str) -> App:
    """The app that calls with its key and secret; it is under the rate of calls."""
    app = state.apps.get(key)
    if app is None or not secret_fits(app, secret):
        raise answers.credentials_refused(call.dialect)
    call.app = app
    rate = state.limits.calls_of(call.path)
    state.audit.arrive(key, call.path, call.monotonic, rate)
    check_rate(state, call)
    return app


def secret_fits(app: App, secret: str) -> bool:
    """Whether it is the app's, compared in constant time."""
    return secrets.compare_digest(app.app_secret.encode(), secret.encode())
