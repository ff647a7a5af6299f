"""What the console holds, and what a request has found out on its way to a page."""

from dataclasses import dataclass

from aiohttp import web
from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_workers.console.forms import Forms
from dingrelay_workers.console.sessions import Session, Sessions
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.records import GatewayRecords


@dataclass(frozen=True, slots=True)
class ConsoleContext:
    """Everything that the console holds.

    Attributes:
        records: of jobs; pages enqueue and change them.
        prefix: of every path behind a proxy, such as ``/dingrelay``; empty for none.
    """

    settings: Settings
    services: Services
    sessions: Sessions
    forms: Forms
    redis: Redis
    records: GatewayRecords
    prefix: str = ""


CONTEXT: web.AppKey[ConsoleContext] = web.AppKey("console", ConsoleContext)
SESSION: web.RequestKey[Session] = web.RequestKey("session", Session)
"""Of a person who has signed in, for the frame of the page."""
SAID: web.RequestKey[str] = web.RequestKey("said", str)
"""What the form that led here has done, for the top of the page."""
