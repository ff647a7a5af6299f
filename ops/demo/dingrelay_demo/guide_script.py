"""The calls of DingTalk's beginner's guide, as its script makes them, at another base URL."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen


class GuideScript:
    """The guide's script.

    Args:
        base_url: instead of ``https://oapi.dingtalk.com``.
        key: as appkey and appsecret.
    """

    def __init__(self, base_url: str, key: str) -> None:
        self._base_url = base_url
        app_key, _, secret = key.partition(".")
        pair = {"appkey": app_key, "appsecret": secret}
        self._token = {"access_token": self._get("/gettoken", pair)["access_token"]}

    def send(self, users: str, message: Mapping[str, Any]) -> dict[str, Any]:
        """Its step 4."""
        body = {"agent_id": "1000001", "userid_list": users, "msg": message}
        return self._post("/topapi/message/corpconversation/asyncsend_v2", body)

    def departments(self) -> list[dict[str, Any]]:
        """Its step 5."""
        found: list[dict[str, Any]] = self._get("/department/list", self._token)["department"]
        return found

    def approval(self, process_code: str, user: str, form: Mapping[str, str]) -> dict[str, Any]:
        """Its step 7."""
        values = [{"name": name, "value": value} for name, value in form.items()]
        body = {
            "process_code": process_code,
            "originator_user_id": user,
            "dept_id": -1,
            "form_component_values": values,
        }
        return self._post("/topapi/processinstance/create", body)

    def _get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        return self._answer(Request(f"{self._base_url}{path}?{urlencode(query)}"))

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        url = f"{self._base_url}{path}?{urlencode(self._token)}"
        headers = {"Content-Type": "application/json"}
        return self._answer(Request(url, json.dumps(body).encode(), headers))

    @staticmethod
    def _answer(request: Request) -> dict[str, Any]:
        with urlopen(request) as answer:
            content: dict[str, Any] = json.load(answer)
        return content
