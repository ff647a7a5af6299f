"""A bare client of a stream: it opens connections, collects frames, and answers when a test says so."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import aiohttp

OPEN = "/v1.0/gateway/connections/open"
EVERYTHING = [{"type": "EVENT", "topic": "*"}]


@dataclass
class Connection:
    """One WebSocket; its frames are read in the background.

    Attributes:
        worth: what an event is acknowledged with, ``code`` and ``data``; None: it is not.
        frames: all that came.
        closed: set when the connection is over.
    """

    socket: aiohttp.ClientWebSocketResponse
    worth: tuple[int, str] | None = (200, '{"status": "SUCCESS", "message": "success"}')
    frames: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def of(self, kind: str, topic: str = "") -> list[dict[str, Any]]:
        """The frames of a type, and of a topic."""
        return [
            frame
            for frame in self.frames
            if frame["type"] == kind and topic in {"", frame["headers"]["topic"]}
        ]

    @property
    def events(self) -> list[str]:
        """The ids of the events that came."""
        return [frame["headers"]["eventId"] for frame in self.of("EVENT")]

    async def read(self) -> None:
        """Collect frames until the connection is over."""
        try:
            async for message in self.socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    frame = json.loads(message.data)
                    self.frames.append(frame)
                    await self._answer(frame)
        except ConnectionError:
            pass
        finally:
            self.closed.set()

    async def acknowledge(self, message_id: str, code: int, data: str) -> None:
        """Answer a frame."""
        headers = {"messageId": message_id, "contentType": "application/json"}
        answer = {"code": code, "headers": headers, "message": "OK", "data": data}
        await self.socket.send_str(json.dumps(answer))

    async def _answer(self, frame: dict[str, Any]) -> None:
        message_id = frame["headers"]["messageId"]
        if frame["type"] == "EVENT" and self.worth is not None:
            await self.acknowledge(message_id, *self.worth)
        elif frame["headers"]["topic"] == "ping":
            await self.acknowledge(message_id, 200, frame["data"])


class StreamClient:
    """An application that listens to a stream.

    Args:
        base_url: of the sandbox.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._session = aiohttp.ClientSession()
        self._readers: list[asyncio.Task[None]] = []

    async def close(self) -> None:
        """End all connections."""
        await self._session.close()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def ask(self, **fields: Any) -> tuple[int, dict[str, Any]]:
        """Ask for a ticket: the status and the answer."""
        wanted = {
            "clientId": "sandbox-key",
            "clientSecret": "sandbox-secret",
            "subscriptions": EVERYTHING,
            "ua": "test",
            "localIp": "127.0.0.1",
            **fields,
        }
        headers = {"Accept": "application/json"}
        async with self._session.post(
            f"{self._base_url}{OPEN}", json=wanted, headers=headers
        ) as answer:
            return answer.status, await answer.json()

    async def use(self, endpoint: str, ticket: str) -> Connection:
        """Open a connection with a ticket."""
        socket = await self._session.ws_connect(f"{endpoint}?ticket={ticket}")
        connection = Connection(socket)
        self._readers.append(asyncio.ensure_future(connection.read()))
        return connection

    async def open(self, **fields: Any) -> Connection:
        """Ask for a ticket and open a connection."""
        status, answer = await self.ask(**fields)
        assert status == 200, answer
        return await self.use(answer["endpoint"], answer["ticket"])
