"""One WebSocket to DingTalk: from its opening to its end (API §7.4, §11.6)."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import aiohttp
from aiohttp import WSMsgType
from structlog.stdlib import get_logger
from yarl import URL

from dingrelay_producers.settings import LOOPBACK, Settings
from dingrelay_producers.settings.addresses import proxy_for
from dingrelay_producers.settings.apps import App
from dingrelay_producers.tls_trouble import cause
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
    """A Stream endpoint, and the one-time ticket for it."""

    endpoint: str
    value: str

    def __repr__(self) -> str:
        return f"Ticket({self.endpoint!r})"


async def open_ticket(
    session: aiohttp.ClientSession, settings: Settings, app: App, *, robot: bool = False
) -> Ticket:
    """A new ticket of an app, with its key and secret; of its robot's messages too if it has a `robot`.

    Raises:
        CredentialsRefused: DingTalk refuses the app.
        NoTicket: it gave none for another reason.
    """
    request = {
        "clientId": app.app_key.get_secret_value(),
        "clientSecret": app.app_secret.get_secret_value(),
        "subscriptions": [*SUBSCRIPTIONS, *([ROBOT_SUBSCRIPTION] if robot else [])],
        "ua": f"dingrelay/{version('dingrelay')}",
        "localIp": "",
    }
    try:
        async with session.post(
            f"{settings.api_url.rstrip('/')}{PATH}",
            json=request,
            headers={"Accept": "application/json"},
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
            allow_redirects=False,
            proxy=proxy_for(settings.api_url),
        ) as answer:
            content = await _read_answer(answer)
            status = answer.status
    except TimeoutError:
        raise NoTicket("DingTalk does not answer") from None
    except (aiohttp.ClientError, OSError) as error:
        raise NoTicket(f"DingTalk cannot be reached ({cause(error)})") from None
    if status != 200:
        code = content.get("code")
        problem = f"HTTP {status} {code}" if isinstance(code, str) else f"HTTP {status}"
        # A throttle or an outage passes by itself; anything else of this kind is about the app.
        passes = status in {408, 429} or status >= 500 or "Throttl" in problem or "Qps" in problem
        raise (NoTicket if passes else CredentialsRefused)(problem[:200])
    endpoint, value = content.get("endpoint"), content.get("ticket")
    if not isinstance(endpoint, str) or not isinstance(value, str) or not value:
        raise NoTicket("DingTalk's answer holds no ticket")
    _check_endpoint(endpoint, sandbox=settings.env != "production")
    return Ticket(endpoint, value)


async def _read_answer(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """The JSON object of an answer; an empty one where there is none."""
    content = b""
    async for chunk in answer.content.iter_chunked(16_384):
        content += chunk
        if len(content) > LARGEST_ANSWER:
            return {}
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", document) if isinstance(document, dict) else {}


def _check_endpoint(endpoint: str, *, sandbox: bool) -> None:
    """A ticket is as good as the app's secret for as long as it lives: it travels encrypted."""
    parts = urlsplit(endpoint)
    plain = parts.scheme == "ws" and sandbox and parts.hostname in LOOPBACK
    if parts.scheme != "wss" and not plain:
        raise NoTicket("DingTalk's answer names an endpoint that is not encrypted")


SYSTEM = "SYSTEM"
EVENT = "EVENT"
PING = "ping"
DISCONNECT = "disconnect"

Worth = Literal["SUCCESS", "LATER"]
"""The status in an answer to an event: taken, or to be sent again."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of DingTalk's.

    Attributes:
        type: ``SYSTEM``, ``EVENT`` or ``CALLBACK``; anything else is passed over.
        topic: of its type, such as ``ping``.
        message_id: what the answer names.
        data: JSON as text.
    """

    type: str
    topic: str
    message_id: str
    headers: Mapping[str, Any] = field(default_factory=dict[str, Any])
    data: str = ""


def read_frame(text: str) -> Frame | None:
    """A frame; None for what is none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    frame = cast("dict[str, Any]", content)
    headers = frame.get("headers")
    if not isinstance(headers, dict):
        return None
    frame_headers = cast("dict[str, Any]", headers)
    data = frame.get("data")
    return Frame(
        type=str(frame.get("type")),
        topic=str(frame_headers.get("topic")),
        message_id=str(frame_headers.get("messageId", "")),
        headers=frame_headers,
        # The documents have a text here; an object is taken as well.
        data=data if isinstance(data, str) else json.dumps(data, ensure_ascii=False),
    )


def pong(frame: Frame) -> str:
    """The answer to a ping: what it sent, as it came."""
    return _answer(frame, frame.data)


def acknowledgement(frame: Frame, worth: Worth) -> str:
    """The answer to an event."""
    data = {"status": worth, "message": "success" if worth == "SUCCESS" else "not taken yet"}
    return _answer(frame, json.dumps(data))


def _answer(frame: Frame, data: str) -> str:
    headers = {"messageId": frame.message_id, "contentType": "application/json"}
    # In ASCII: an id or a ping may hold half of a character, which UTF-8 can't carry.
    return json.dumps({"code": 200, "headers": headers, "message": "OK", "data": data})


LARGEST_FRAME = 4 << 20
"""Bytes. An event holds ids and a few names."""
AT_ONCE = 256
"""Events of a connection that are taken at the same time; more wait in its socket."""
CLOSE_SECONDS = 2.0
"""How long DingTalk may take to answer our close."""

Ended = Literal["closed", "silent", "error", "stopped", "left"]

log = get_logger("dingrelay.events")


@dataclass(frozen=True, slots=True)
class Times:
    """How long what takes, in seconds.

    Attributes:
        silence: without a frame after which a connection is dead.
        opening: for the WebSocket to open.
        farewell: that a connection which is to be left is read on, at most.
        lasting: between the first and the last frame of a connection that has not failed.
        refused: between two tries of an app that DingTalk refuses.
        first_pause, longest_pause: between two tries otherwise: doubled each time, with jitter.
        finish: for answers to events that were taken, when the process stops.
    """

    silence: float = 60.0
    opening: float = 10.0
    farewell: float = 30.0
    lasting: float = 5.0
    refused: float = 60.0
    first_pause: float = 0.5
    longest_pause: float = 30.0
    finish: float = 5.0


Take = Callable[[Frame], Awaitable[Worth]]


def _now() -> float:
    return asyncio.get_running_loop().time()


class StreamConnection:
    """A connection that is open.

    Attributes:
        leaving: set once another connection is needed: DingTalk said that it ends this one, or it is
            over.
        ended: how it ended; None while it lasts.
        opened_at, received_at: when it was opened, and when the last frame came, by the loop's clock.
    """

    def __init__(
        self, socket: aiohttp.ClientWebSocketResponse, take: Take, times: Times, app: str
    ) -> None:
        self.leaving = asyncio.Event()
        self.ended: Ended | None = None
        self.opened_at = self.received_at = _now()
        self._socket = socket
        self._take = take
        self._times = times
        self._app = app
        self._taking: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._receiving: asyncio.Future[aiohttp.WSMessage] | None = None
        self._leave_by: float | None = None

    @classmethod
    async def open(
        cls, session: aiohttp.ClientSession, ticket: Ticket, take: Take, times: Times, app: str
    ) -> "StreamConnection":
        """Use up a ticket.

        Raises:
            aiohttp.ClientError, OSError, TimeoutError: it could not be opened.
        """
        url = URL(ticket.endpoint).update_query(ticket=ticket.value)
        async with asyncio.timeout(times.opening):
            socket = await session.ws_connect(
                url,
                autoping=False,
                autoclose=False,
                max_msg_size=LARGEST_FRAME,
                proxy=proxy_for(ticket.endpoint),
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),  # pyright: ignore[reportCallIssue]
            )
        return cls(socket, take, times, app)

    async def run(self) -> Ended:
        """Read until the connection ends; how it did. Answers to what was taken are sent first."""
        try:
            self.ended = await self._read_frames()
        except asyncio.CancelledError:
            self.ended = "stopped"
            raise
        except (aiohttp.ClientError, OSError):
            self.ended = "error"
        finally:
            self.leaving.set()
            await self._close()
        return self.ended

    async def _read_frames(self) -> Ended:
        pinged = False
        while True:
            message = await self._next_message()
            if message is not None:
                self.received_at, pinged = _now(), False
                if ended := await self._read_message(message):
                    return ended
            elif self._leave_by is not None and _now() >= self._leave_by:
                return "left"
            elif pinged:
                return "silent"
            else:
                # A live server answers, so an idle one does not count as dead.
                await self._socket.ping()
                pinged = True

    async def _next_message(self) -> aiohttp.WSMessage | None:
        """The next message; None if none comes within half of the silence, or until we leave."""
        timeout = self._times.silence / 2
        if self._leave_by is not None:
            timeout = max(0.0, min(timeout, self._leave_by - _now()))
        if self._receiving is None:
            self._receiving = asyncio.ensure_future(self._socket.receive())
        finished, _ = await asyncio.wait({self._receiving}, timeout=timeout)
        if not finished:
            return None
        received, self._receiving = self._receiving, None
        return received.result()

    async def _read_message(self, message: aiohttp.WSMessage) -> Ended | None:
        """Do what a message asks for; how the connection ended, if it has."""
        match message.type:
            case WSMsgType.TEXT:
                await self._read_frame(message.data)
            case WSMsgType.PING:
                await self._socket.pong(message.data)
            case WSMsgType.CLOSE | WSMsgType.CLOSING | WSMsgType.CLOSED:
                return "closed"
            case WSMsgType.ERROR:
                return "error"
            case _:
                """A pong, or bytes, which mean nothing here."""
        return None

    async def _read_frame(self, text: str) -> None:
        frame = read_frame(text)
        if frame is None:
            log.warning("frame_unreadable", app=self._app)
        elif frame.type == EVENT or frame.topic == ROBOT_MESSAGES:
            await self._room.acquire()
            task = asyncio.create_task(self._answer(frame))
            self._taking.add(task)
            task.add_done_callback(self._forget_answer)
        elif frame.type == SYSTEM and frame.topic == PING:
            await self._socket.send_str(pong(frame))
        elif frame.type == SYSTEM and frame.topic == DISCONNECT:
            log.info("stream_disconnect", app=self._app)
            self._leave_by = _now() + self._times.farewell
            self.leaving.set()

    async def _answer(self, frame: Frame) -> None:
        worth = await self._take(frame)
        if worth == "LATER" and frame.type != EVENT:
            return  # what is not answered comes again (API §12.14)
        try:
            await self._socket.send_str(acknowledgement(frame, worth))
        except (aiohttp.ClientError, OSError):
            # DingTalk sends it again on another connection, and it is then dropped as known.
            log.info("event_not_answered", app=self._app)

    def _forget_answer(self, task: "asyncio.Task[None]") -> None:
        self._taking.discard(task)
        self._room.release()

    async def _close(self) -> None:
        """Answer what was taken, and close."""
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.wait({self._receiving})
        if self._taking:
            await asyncio.wait(self._taking, timeout=self._times.finish)
        for task in list(self._taking):
            task.cancel()
        try:
            await self._socket.close()
        except (aiohttp.ClientError, OSError):
            return
