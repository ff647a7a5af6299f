"""Signing in with DingTalk: where a person is sent, and who has come back (API §1).

The person agrees on DingTalk's page, which leads back with a code; the code buys a token of this person,
and the token is asked whose it is. Only the app's key and secret are needed, no token of the app.
"""

from urllib.parse import urlencode

from dingrelay_producers.settings.apps import App
from dingrelay_tasks.sentence import en
from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.errors import Permanent
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.dingtalk.transport import Transport

USER_TOKEN = Api(
    "sign_in.token", "rest", "POST", "/v1.0/oauth2/userAccessToken", counted=False, access="own"
)
ME = Api("sign_in.me", "rest", "GET", "/v1.0/contact/users/me", counted=False, access="own")


def sign_in_url(login_url: str, app: App, back: str, state: str) -> str:
    """URL of DingTalk's sign-in page, which leads back with a code."""
    query = {
        "client_id": app.app_key.get_secret_value(),
        "redirect_uri": back,
        "response_type": "code",
        "scope": "openid",
        "prompt": "consent",
        "state": state,
    }
    return f"{login_url.rstrip('/')}/oauth2/auth?{urlencode(query)}"


async def signed_in(transport: Transport, app: App, code: str) -> tuple[str, str]:
    """Exchange the code of a sign-in for the person's unionid and nickname.

    Raises:
        DingTalkError: the code is wrong or was used, or DingTalk does not answer.
    """
    body = {
        "clientId": app.app_key.get_secret_value(),
        "clientSecret": app.app_secret.get_secret_value(),
        "code": code,
        "grantType": "authorization_code",
    }
    bought = await transport.request(Request(USER_TOKEN, body=body))
    answer = await transport.request(Request(ME), str(bought.get("accessToken", "")))
    unionid = answer.get("unionId")
    if not isinstance(unionid, str) or not unionid:
        raise Permanent("no_unionid", en("DingTalk's answer names no person"))
    return unionid, str(answer.get("nick", ""))
