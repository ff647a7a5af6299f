"""The way to the admin API: one connection that is kept, and its errors."""

import http.client
import json
import threading
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 60


class SandboxError(RuntimeError):
    """The sandbox refused an admin call; the text says why."""


class AdminConnection:
    """Calls to the admin API of a sandbox. Safe to share between threads.

    Args:
        base_url: such as ``http://127.0.0.1:8601``.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")
        parts = urlsplit(self.base_url)
        self._connection = http.client.HTTPConnection(
            parts.hostname or "127.0.0.1", parts.port, timeout=TIMEOUT_SECONDS
        )
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connection; another call opens it again."""
        with self._lock:
            self._connection.close()

    def call(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> object:
        """The answer of one call.

        Raises:
            SandboxError: it is a refusal.
        """
        body = None if content is None else json.dumps(content).encode()
        with self._lock:
            status, text = self._exchange(method, f"/_sandbox/{path}", body)
        answer = json.loads(text)
        if status != 200:
            raise SandboxError(answer.get("error", f"HTTP {status}"))
        return cast("object", answer)

    def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"}
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            # The server closes a connection that was idle for long; such a call never began.
            self._connection.close()
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
        return response.status, response.read()
