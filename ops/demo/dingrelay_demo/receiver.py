"""A business system of a few lines: it is told by a webhook what came of its approvals."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Receiver:
    """What it was told.

    Attributes:
        url: where it listens.
        states: approval → the state that it was told.
    """

    url: str
    states: dict[str, str] = field(default_factory=dict[str, str])


@contextmanager
def receiving() -> Generator[Receiver]:
    """A receiver on a port of its own, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            receiver.states[body["data"]["instance"]] = body["type"].removeprefix("approval.")
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """The screen is the demo's."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}/")
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
