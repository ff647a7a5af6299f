"""The simulated broker: what it loses, repeats and brings late, and to which worker."""

import asyncio
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from dingrelay_producers.publisher import WOKEN_HEADER
from dingrelay_simulation.broker import LATE, RETURNED, WAY, Broker, Manners
from dingrelay_simulation.clock import CLOCK, Process
from dingrelay_simulation.loop import VirtualLoop

WAKEUP: dict[str, Any] = {"task": "dingrelay.message-send", WOKEN_HEADER: 1}


class Queues:
    """Messages that wait in Valkey."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []

    def take(self) -> list[tuple[str, bytes]]:
        taken, self.messages = self.messages, []
        return taken


def worker(name: str = "w0") -> Any:
    return SimpleNamespace(process=Process(name))


def delivered(
    loop: VirtualLoop,
    manners: Manners,
    takers: Callable[[Broker], list[Any]],
    *,
    bare: bool = False,
) -> list[tuple[float, str]]:
    """Publish one message; when it arrives, and at which worker."""
    queues: Any = Queues()
    request: dict[str, Any] = {"task": "dingrelay.message-send"} if bare else WAKEUP
    broker = Broker(loop, queues, random.Random(1), manners, lambda text: request)
    arrivals: list[tuple[float, str]] = []

    async def take(one: Any) -> None:
        while True:
            message = await broker.take(one)
            arrivals.append((CLOCK.now, one.process.name))
            await broker.finish(one, message)

    async def work() -> None:
        tasks = [loop.create_task(take(one)) for one in takers(broker)]
        queues.messages = [("dingrelay.normal", b"")]
        broker.look()
        await asyncio.sleep(120)
        assert broker.idle
        for task in tasks:
            task.cancel()

    loop.run_until_complete(work())
    return arrivals


def test_a_message_is_delivered_once_and_at_once(loop: VirtualLoop) -> None:
    ((at, name),) = delivered(loop, Manners(), lambda _: [worker("w0")])
    assert (round(at, 2), name) == (0.0, "w0")


def test_a_wakeup_is_lost_and_the_job_of_another_client_is_not(loop: VirtualLoop) -> None:
    assert delivered(loop, Manners(lost=1.0), lambda _: [worker()]) == []
    assert len(delivered(loop, Manners(lost=1.0), lambda _: [worker()], bare=True)) == 1


def test_a_late_message_comes_later_and_a_repeated_one_twice(loop: VirtualLoop) -> None:
    ((at, _),) = delivered(loop, Manners(late=1.0), lambda _: [worker()])
    assert LATE[0] <= at <= LATE[1]
    assert len(delivered(loop, Manners(repeated=1.0), lambda _: [worker()])) == 2


def test_dead_and_frozen_workers_get_nothing(loop: VirtualLoop) -> None:
    dead, frozen, ready = worker("dead"), worker("frozen"), worker("ready")
    dead.process.dead = frozen.process.frozen = True
    arrivals = delivered(loop, Manners(), lambda _: [dead, frozen, ready])
    assert [name for _, name in arrivals] == ["ready"]


def test_the_job_of_another_client_comes_back_from_a_killed_worker(loop: VirtualLoop) -> None:
    queues: Any = Queues()
    queues.messages = [("dingrelay.normal", b"wake-up"), ("dingrelay.normal", b"job")]
    broker = Broker(
        loop,
        queues,
        random.Random(1),
        Manners(),
        lambda text: WAKEUP if text == b"wake-up" else {"task": "dingrelay.message-send"},
    )
    killed, survivor = worker("killed"), worker("survivor")

    async def work() -> None:
        broker.look()
        assert [(await broker.take(killed)).number for _ in range(2)] == [1, 2]
        assert not broker.idle
        killed.process.dead = True
        broker.lose(killed)
        message = await broker.take(survivor)
        assert (message.number, round(CLOCK.now)) == (2, RETURNED)
        assert not broker.idle
        await broker.finish(survivor, message)
        assert broker.idle

    loop.run_until_complete(work())


def test_what_was_handed_to_a_worker_that_stops_arrives_at_another_one(loop: VirtualLoop) -> None:
    queues: Any = Queues()
    queues.messages = [("dingrelay.normal", b"")]
    broker = Broker(
        loop, queues, random.Random(1), Manners(), lambda text: {"task": "dingrelay.message-send"}
    )

    async def work() -> None:
        taking = loop.create_task(broker.take(worker("stopping")))
        await asyncio.sleep(1)
        broker.look()
        loop.call_later(WAY, taking.cancel)
        await asyncio.sleep(1)
        message = await broker.take(worker("ready"))
        assert (message.number, taking.cancelled()) == (1, True)

    loop.run_until_complete(work())
