"""The virtual loop and its network: time passes by itself, processes die, freeze and are cut off."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dingrelay_simulation.clock import CLOCK, Process
from dingrelay_simulation.loop import Endless, VirtualLoop, in_process
from dingrelay_simulation.network import VALKEY, End, Network


class Echo:
    """A server that answers what it gets."""

    def accept(self, end: End | None) -> Any:
        server = EchoProtocol()
        server.end = end
        return server


class EchoProtocol(asyncio.Protocol):
    end: End | None = None

    def data_received(self, data: bytes) -> None:
        assert self.end
        self.end.write(data.upper())

    def answer(self, data: bytes) -> bytes:
        return data.upper()


class Client(asyncio.Protocol):
    def __init__(self) -> None:
        self.received: list[tuple[float, bytes]] = []
        self.lost: list[Exception | None] = []

    def data_received(self, data: bytes) -> None:
        self.received.append((CLOCK.now, data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


@pytest.fixture
def network(loop: VirtualLoop) -> Network:
    network = Network(loop, random.Random(1))
    network.servers[VALKEY] = Echo()
    return network


def run(loop: VirtualLoop, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop.run_until_complete(work())


def test_an_hour_passes_at_once_and_timers_keep_their_order(loop: VirtualLoop) -> None:
    order: list[tuple[float, str]] = []

    async def work() -> None:
        loop.call_later(3_600, lambda: order.append((CLOCK.now, "late")))
        loop.call_later(1, lambda: order.append((CLOCK.now, "early")))
        await asyncio.sleep(3_601)

    run(loop, work)
    assert order == [(pytest.approx(1), "early"), (pytest.approx(3_600), "late")]


def test_a_wait_for_nothing_is_an_error(loop: VirtualLoop) -> None:
    async def work() -> None:
        await loop.create_future()

    with pytest.raises(Endless):
        run(loop, work)


def test_a_killed_process_does_nothing_more_and_a_frozen_one_later(loop: VirtualLoop) -> None:
    killed, frozen = Process("killed"), Process("frozen")
    acted: list[tuple[str, float]] = []

    async def work() -> None:
        for process in (killed, frozen):
            act = lambda name=process.name: acted.append((name, CLOCK.now))  # noqa: E731
            loop.call_later(1, act, context=in_process(process))
        killed.dead = frozen.frozen = True
        await asyncio.sleep(5)
        loop.thaw(frozen)
        await asyncio.sleep(0)

    run(loop, work)
    assert acted == [("frozen", pytest.approx(5))]


def test_a_message_takes_the_way_there_and_back(loop: VirtualLoop, network: Network) -> None:
    client = Client()

    async def work() -> None:
        transport, _ = await loop.create_connection(lambda: client, "valkey", VALKEY)
        transport.write(b"ping")
        network.line(None, VALKEY).slow = 2.0
        transport.write(b"slow")
        await asyncio.sleep(10)

    run(loop, work)
    (fast_at, fast), (slow_at, slow) = client.received
    assert (fast, slow) == (b"PING", b"SLOW")
    assert fast_at < 3 < slow_at < 5


def test_a_silent_line_holds_messages_until_it_heals(loop: VirtualLoop, network: Network) -> None:
    client = Client()

    async def work() -> None:
        transport, _ = await loop.create_connection(lambda: client, "valkey", VALKEY)
        line = network.line(None, VALKEY)
        line.silent = True
        transport.write(b"ping")
        await asyncio.sleep(5)
        assert client.received == []
        network.heal(line)
        await asyncio.sleep(1)

    run(loop, work)
    assert [data for _, data in client.received] == [b"PING"]


def test_a_reset_breaks_the_connections_of_one_process_only(
    loop: VirtualLoop, network: Network
) -> None:
    clients = {"w0": Client(), "w1": Client()}
    processes = {name: Process(name) for name in clients}

    async def work() -> None:
        for name, client in clients.items():
            connect = loop.create_connection(lambda client=client: client, "valkey", VALKEY)
            await loop.create_task(connect, context=in_process(processes[name]))
        network.reset(VALKEY, processes["w0"])
        await asyncio.sleep(1)

    run(loop, work)
    assert [type(error) for error in clients["w0"].lost] == [ConnectionResetError]
    assert clients["w1"].lost == []


def test_no_connection_is_opened_to_a_server_that_refuses(
    loop: VirtualLoop, network: Network
) -> None:
    network.line(None, VALKEY).refused = True

    async def work() -> None:
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(Client, "valkey", VALKEY)

    run(loop, work)


def test_a_blocking_exchange_takes_no_time_and_fails_where_the_line_is_silent(
    network: Network,
) -> None:
    session = network.session(VALKEY)
    assert network.exchange(b"ping", VALKEY, session) == b"PING"
    network.line(None, VALKEY).silent = True
    with pytest.raises(TimeoutError):
        network.exchange(b"ping", VALKEY, session)
