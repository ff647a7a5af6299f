"""Faults of the simulation: they end when they are to, whichever process was at work when they struck."""

import random
from collections.abc import Callable
from contextvars import Context
from types import SimpleNamespace
from typing import Any

import pytest

from dingrelay_producers.store.script_functions import DECLARED
from dingrelay_simulation.clock import CLOCK, Process
from dingrelay_simulation.draws import PORTS
from dingrelay_simulation.faults import Faults
from dingrelay_simulation.loop import VirtualLoop, in_process
from dingrelay_simulation.network import End, Line, Network
from dingrelay_simulation.plan import Step


class Fleet:
    """One worker and its ways, as faults know a fleet; it notes what is done to the worker, and when."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.network = Network(loop, random.Random(1))
        self.process = Process("w0")
        self.workers = [SimpleNamespace(process=self.process)]
        self.changes: list[tuple[str, float]] = []

    def kill(self, number: int) -> None:
        self.workers[number].process.dead = True
        self.changes.append(("killed", CLOCK.now))

    def restart(self, number: int) -> None:
        self.changes.append(("restarted", CLOCK.now))


@pytest.fixture
def fleet(loop: VirtualLoop) -> Fleet:
    return Fleet(loop)


def strike(fleet: Fleet, *, what: str, when: str) -> None:
    """Let a trap strike the worker while it sends a message, and 10 s pass; the fault lasts 4 s."""
    faults: Any = Faults
    trap: Faults = faults(fleet, lambda *_: None)
    values = {"worker": 0, "to": "dingtalk", "count": 1, "what": what, "when": when, "seconds": 4.0}
    trap.begin(Step(0.0, f"{what}_at", values))
    end: Any = SimpleNamespace(process=fleet.process, port=PORTS["dingtalk"])
    send: Callable[..., Any] = fleet.network.on_send
    fleet.loop.call_soon(send, end, b"hello", context=in_process(fleet.process))
    fleet.loop.call_later(10.0, fleet.loop.stop)
    fleet.loop.run_forever()


def test_a_worker_that_a_message_froze_goes_on_once_its_time_is_over(fleet: Fleet) -> None:
    went_on: list[float] = []
    fleet.loop.call_later(1.0, lambda: went_on.append(CLOCK.now), context=in_process(fleet.process))
    strike(fleet, what="freeze", when="after")
    assert went_on == [4.0]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_that_a_message_killed_comes_back_in_its_time(fleet: Fleet, when: str) -> None:
    strike(fleet, what="kill", when=when)
    assert fleet.changes == [("killed", 0.0), ("restarted", 4.0)]


def test_a_worker_that_is_frozen_is_cut_off_for_no_longer(fleet: Fleet) -> None:
    healed: list[float] = []

    def heal(line: Line) -> None:
        healed.append(CLOCK.now)

    fleet.network.heal = heal  # type: ignore[method-assign]
    fleet.loop.call_later(1.0, setattr, fleet.process, "frozen", True)
    strike(fleet, what="cut", when="after")
    assert healed == [4.0]
    assert not fleet.network.cut


@pytest.mark.parametrize(("second", "joined"), [(2.0, 4.0), (6.0, 7.0)])
def test_what_two_cuts_hold_back_leaves_after_both_unless_it_is_dropped(
    fleet: Fleet, second: float, joined: float
) -> None:
    faults: Any = Faults
    cuts: Faults = faults(fleet, lambda *_: None)
    network, port = fleet.network, PORTS["dingtalk"]
    network.lines[port].latency = (0.0, 0.0)
    arrived: list[tuple[bytes, float]] = []
    ends = [End(network, fleet.process, port, Context()) for _ in range(2)]
    for end in ends:
        end.peer = End(network, None, port, Context())
        end.peer.protocol = SimpleNamespace(
            data_received=lambda data: arrived.append((data, CLOCK.now))
        )
    for at, seconds in ((0.0, 4.0), (1.0, second)):
        step = Step(at, "cut", {"worker": 0, "to": "dingtalk", "seconds": seconds})
        fleet.loop.call_later(at, cuts.begin, step)
    fleet.loop.call_later(0.5, ends[0].write, b"given up")
    fleet.loop.call_later(0.5, ends[1].write, b"kept")
    fleet.loop.call_later(2.0, network.drop, ends[0])
    fleet.loop.call_later(10.0, fleet.loop.stop)
    fleet.loop.run_forever()
    assert arrived == [(b"kept", joined)]


def strike_at_script(fleet: Fleet, *, when: str, count: int = 1) -> list[bool]:
    """Freeze the worker at its n-th run of `settle`, after `claim` and beside another one; whether it is frozen, message by message.

    The producer's run before is none of a worker's.
    """
    faults: Any = Faults
    trap: Faults = faults(fleet, lambda *_: None)
    values = {"script": "settle", "count": count, "when": when, "what": "freeze", "seconds": 4.0}
    trap.begin(Step(0.0, "at_script", values))
    hashes = {
        function.name: function.script.sha.encode()
        for function in DECLARED
        if function.package.startswith("dingrelay_")
    }
    end: Any = SimpleNamespace(process=fleet.process, port=PORTS["redis"])
    producer: Any = SimpleNamespace(process=Process("producer"), port=PORTS["redis"])
    frozen: list[bool] = []

    def exchange() -> None:
        fleet.network.on_send(producer, b"EVALSHA " + hashes["settle"])
        assert not fleet.process.frozen
        for script in ("claim", "settle", "settle"):
            assert fleet.network.on_send(end, b"EVALSHA " + hashes[script])
            frozen.append(fleet.process.frozen)
            assert fleet.network.on_arrive(end, b":1")
            frozen.append(fleet.process.frozen)

    fleet.loop.call_soon(exchange, context=in_process(Process("other")))
    fleet.loop.call_later(10.0, fleet.loop.stop)
    fleet.loop.run_forever()
    assert not fleet.process.frozen
    return frozen


@pytest.mark.parametrize(
    ("when", "count", "frozen"),
    [
        ("after", 1, [False, False, True, True, True, True]),
        ("answer", 1, [False, False, False, True, True, True]),
        ("answer", 2, [False, False, False, False, False, True]),
    ],
)
def test_a_fault_strikes_whichever_worker_runs_a_script(
    fleet: Fleet, when: str, count: int, frozen: list[bool]
) -> None:
    assert strike_at_script(fleet, when=when, count=count) == frozen
