"""A PostgreSQL that takes connections and says nothing, as one that is stopped."""

import socket
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy.exc import OperationalError

from conftest import wait_until
from dingrelay_workers.database import schema


@pytest.fixture
def silent() -> Iterator[str]:
    """Its URL."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql://stranger@127.0.0.1:{server.getsockname()[1]}/none"


@pytest.mark.parametrize("query", ["", "?connect_timeout=2"])
def test_nobody_waits_for_it_as_long_as_its_driver_would(
    silent: str, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    monkeypatch.setattr(schema, "CONNECT_SECONDS", 600 if query else 2)
    refused: list[OperationalError] = []

    def ask() -> None:
        try:
            schema.upgrade(silent + query)
        except OperationalError as error:
            refused.append(error)

    threading.Thread(target=ask, daemon=True).start()
    wait_until(lambda: refused, what="it is given up")
