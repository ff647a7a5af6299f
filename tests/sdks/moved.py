"""Clients that are led to another address by what they offer for it, and by nothing else."""

import sys
from typing import Any
from urllib.parse import urljoin, urlsplit

import apprise
import onepush.providers.dingtalk
import requests
from alibabacloud_dingtalk.oauth2_1_0 import models as oauth
from alibabacloud_dingtalk.oauth2_1_0.client import Client as OAuth
from alibabacloud_tea_openapi.models import Config
from apprise.plugins.dingtalk import NotifyDingTalk
from dingtalk import AppKeyClient
from dingtalk.model.message import TextBody
from dingtalkchatbot.chatbot import DingtalkChatbot
from elsewhere import KEY, SECRET

BASE = sys.argv[1]

pair = {"appkey": KEY, "appsecret": SECRET}
assert requests.get(f"{BASE}/gettoken", params=pair).json()["errcode"] == 0

official = OAuth(Config(protocol="http", endpoint=urlsplit(BASE).netloc))
request = oauth.GetAccessTokenRequest(app_key=KEY, app_secret=SECRET)
assert official.get_access_token(request).body.access_token


class Client(AppKeyClient):
    """dingtalk-sdk, for both of the hosts that it calls."""

    API_BASE_URL = BASE

    def _handle_pre_top_request(self, params: Any, uri: str) -> Any:
        return super()._handle_pre_top_request(params, urljoin(BASE, uri))


client = Client("sandbox-corp", KEY, SECRET)
assert client.department.get(2)["parentid"] == 1
assert client.message.asyncsend_v2(TextBody("moved"), 1000001, ["u1"])

bot = DingtalkChatbot(f"{BASE}/robot/send?access_token=plain")
assert bot.send_text(msg="DingtalkChatbot")["errcode"] == 0

NotifyDingTalk.notify_url = f"{BASE}/robot/send?access_token={{token}}"
notifier = apprise.Apprise()
assert notifier.add("dingtalk://plain")
assert notifier.notify(body="apprise")

onepush.providers.dingtalk.DingTalk.base_url = f"{BASE}/robot/send?access_token={{}}"
assert onepush.get_notifier("dingtalk").notify(token="plain", content="onepush").json()
