"""The ticket for a connection: good for one, and for 90 s (API §7.4)."""

import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp

from dingrelay_producers.settings import LOOPBACK, AppSettings, Settings
from dingrelay_tasks.event_payload import ROBOT_MESSAGES

PATH = "/v1.0/gateway/connections/open"
SUBSCRIPTIONS = ({"type": "EVENT", "topic": "*"},)
"""All events; which ones there are is chosen in DingTalk's console."""
ROBOT_SUBSCRIPTION = {"type": "CALLBACK", "topic": ROBOT_MESSAGES}
"""Messages to the app's robot. Each goes to one connection, so they are asked for only where the settings name the robot."""
ANSWER_SECONDS = 10.0
LARGEST_ANSWER = 100_000
"""Bytes of an answer; a right one has some 200."""


class NoTicket(Exception):
    """DingTalk gave no ticket; the next try may get one. The message says why, without secrets."""


class CredentialsRefused(NoTicket):
    """DingTalk does not know the app, or its secret is another: a person has to mend that."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Where to connect, and the right to do so once."""

    endpoint: str
    value: str

    def __repr__(self) -> str:
        return f"Ticket({self.endpoint!r})"


async def open_ticket(
    session: aiohttp.ClientSession, settings: Settings, app: AppSettings, *, robot: bool = False
) -> Ticket:
    """A new ticket of an app, with its key and secret; of its robot's messages too if it has a `robot`.

    Raises:
        CredentialsRefused: DingTalk refuses the app.
        NoTicket: it gave none for another reason.
    """
    asked = {
        "clientId": app.app_key.get_secret_value(),
        "clientSecret": app.app_secret.get_secret_value(),
        "subscriptions": [*SUBSCRIPTIONS, *([ROBOT_SUBSCRIPTION] if robot else [])],
        "ua": f"dingrelay/{version('dingrelay')}",
        "localIp": "",
    }
    try:
        async with session.post(
            f"{settings.api_url.rstrip('/')}{PATH}",
            json=asked,
            headers={"Accept": "application/json"},
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
            allow_redirects=False,
        ) as answer:
            content = await _read(answer)
            status = answer.status
    except TimeoutError:
        raise NoTicket("DingTalk does not answer") from None
    except (aiohttp.ClientError, OSError) as error:
        raise NoTicket(f"DingTalk cannot be reached ({type(error).__name__})") from None
    if status != 200:
        code = content.get("code")
        problem = f"HTTP {status} {code}" if isinstance(code, str) else f"HTTP {status}"
        # A throttle or an outage passes by itself; anything else of this kind is about the app.
        passes = status in {408, 429} or status >= 500 or "Throttl" in problem or "Qps" in problem
        raise (NoTicket if passes else CredentialsRefused)(problem[:200])
    endpoint, value = content.get("endpoint"), content.get("ticket")
    if not isinstance(endpoint, str) or not isinstance(value, str) or not value:
        raise NoTicket("DingTalk's answer holds no ticket")
    _check(endpoint, sandbox=settings.env != "production")
    return Ticket(endpoint, value)


async def _read(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """The JSON object of an answer; an empty one where there is none."""
    content = b""
    async for chunk in answer.content.iter_chunked(16_384):
        content += chunk
        if len(content) > LARGEST_ANSWER:
            return {}
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _check(endpoint: str, *, sandbox: bool) -> None:
    """A ticket is as good as the app's secret for as long as it lives: it travels encrypted."""
    parts = urlsplit(endpoint)
    plain = parts.scheme == "ws" and sandbox and parts.hostname in LOOPBACK
    if parts.scheme != "wss" and not plain:
        raise NoTicket("DingTalk's answer names an endpoint that is not encrypted")
