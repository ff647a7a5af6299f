"""Leads a client that calls DingTalk elsewhere instead; the client itself stays as it is."""

import sys
from typing import Any

from requests.adapters import HTTPAdapter

KEY, SECRET = sys.argv[2:4]
"""Credentials in place of an app's."""
HOSTS = ("https://oapi.dingtalk.com", "https://api.dingtalk.com", "https://eco.taobao.com")


def lead_elsewhere() -> None:
    """Send what is meant for DingTalk to the address in the first argument."""
    base_url = sys.argv[1]
    send = HTTPAdapter.send

    def send_elsewhere(self: HTTPAdapter, request: Any, *args: Any, **options: Any) -> Any:
        host = next((host for host in HOSTS if request.url.startswith(host)), None)
        if host is not None:
            request.url = base_url + request.url[len(host) :]
        return send(self, request, *args, **options)

    HTTPAdapter.send = send_elsewhere  # type: ignore[method-assign]
