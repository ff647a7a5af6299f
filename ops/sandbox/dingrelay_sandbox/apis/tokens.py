"""Access tokens of apps, three ways to fetch one; and people who sign in to a site with DingTalk (API §1)."""

import secrets
from html import escape
from urllib.parse import urlencode, urlsplit

from dingrelay_sandbox import answers
from dingrelay_sandbox.answers import Answer, Refusal, json_answer
from dingrelay_sandbox.apis.api import Fields, api, check_rate
from dingrelay_sandbox.apps import App
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.state import SandboxState
from dingrelay_sandbox.tokens import SIGN_IN_SECONDS


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
    state.audit.arrive(key, call.method, call.path, call.monotonic, rate)
    check_rate(state, call)
    return app


def secret_fits(app: App, secret: str) -> bool:
    """Whether it is the app's, compared in constant time."""
    return secrets.compare_digest(app.app_secret.encode(), secret.encode())


SHOWN = 30
"""People that the page offers; any other is named by the userid."""


@api("GET", "/oauth2/auth", access="own")
def authorize(state: SandboxState, call: Call) -> Answer:
    """``login.dingtalk.com/oauth2/auth``: who is it? DingTalk knows; here one chooses."""
    query = dict(call.query)
    back, key = query.get("redirect_uri", ""), query.get("client_id", "")
    wrong = key not in state.apps or urlsplit(back).scheme not in {"http", "https"}
    if wrong or query.get("response_type") != "code":
        return _page("参数错误：client_id、redirect_uri 或 response_type", status=400)
    userid = query.pop("user", "")
    if userid in state.organisation.people:
        code = state.sign_ins.code(key, userid, call.at)
        parameters = urlencode({"authCode": code, "state": query.get("state", "")})
        url = f"{back}{'&' if urlsplit(back).query else '?'}{parameters}"
        return Answer(302, b"", "text/plain", (("Location", url),))
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in query.items()
    )
    people = [state.organisation.people[each] for each in [*state.organisation.people][:SHOWN]]
    buttons = "".join(
        f'<p><button name="user" value="{escape(each.userid)}">'
        f"{escape(str(state.organisation.fields(each)['name']))} ({escape(each.userid)})</button></p>"
        for each in people
    )
    other = (
        '<p><input name="user" placeholder="userid" aria-label="userid"> <button>登录</button></p>'
    )
    return _page(f"<form>{hidden}{buttons}</form><form>{hidden}{other}</form>")


@api("POST", "/v1.0/oauth2/userAccessToken", access="own")
def user_access_token(state: SandboxState, call: Call) -> Fields:
    """``POST /v1.0/oauth2/userAccessToken``: a code for a token of the person."""
    parameters = call.parameters
    key, secret = parameters.text("clientId"), parameters.text("clientSecret")
    app = check_secret(state, call, key, secret)
    if parameters.text("grantType") != "authorization_code":
        raise parameters.invalid("grantType")
    found = state.sign_ins.take(parameters.text("code"), app.app_key, call.at)
    if found is None:
        raise Refusal("invalidParameter.authCode.notFound", "不存在的临时授权码")
    return {
        "accessToken": state.sign_ins.token(app.app_key, found, call.at),
        "refreshToken": "",
        "expireIn": SIGN_IN_SECONDS,
        "corpId": app.organisation,
    }


@api("GET", "/v1.0/contact/users/me", access="own")
def me(state: SandboxState, call: Call) -> Fields:
    """``GET /v1.0/contact/users/me``, with the token of a person."""
    person = state.organisation.people.get(state.sign_ins.person(call.header_token, call.at) or "")
    if person is None:
        raise answers.token_refused(call.dialect, "unknown")
    fields = state.organisation.fields(person)
    found = {
        "nick": fields["name"],
        "unionId": fields["unionid"],
        "openId": f"open{fields['unionid']}",
        "mobile": fields.get("mobile"),
        "stateCode": fields.get("state_code"),
        "email": fields.get("email"),
    }
    return {name: value for name, value in found.items() if value}


@api("POST", "/topapi/v2/user/getuserinfo")
def user_info(state: SandboxState, call: Call) -> Fields:
    """``v2/user/getuserinfo``: who a code is, of a page within DingTalk."""
    found = state.sign_ins.take(call.parameters.text("code"), call.caller.app_key, call.at)
    if found is None or found not in state.organisation.people:
        raise Refusal(40_078, "不存在的临时授权码")
    fields = state.organisation.fields(state.organisation.people[found])
    union = fields["unionid"]
    result = {"userid": found, "name": fields["name"], "unionid": union}
    return {"result": {**result, "associated_unionid": union, "sys": False, "sys_level": 0}}


def _page(content: str, status: int = 200) -> Answer:
    text = f'<!doctype html><html lang="zh-CN"><meta charset="utf-8"><title>钉钉登录（sandbox）</title>{content}'
    return Answer(status, text.encode(), "text/html")
